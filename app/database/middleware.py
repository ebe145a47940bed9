"""What a request gets whose view the database left without an answer: 503, and when to come back."""

from http import HTTPStatus
from typing import Final

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.loader import render_to_string
from django.utils.deprecation import MiddlewareMixin

from app.database.outage import is_of_the_database, outage

RETRY_SECONDS: Final = 1


class DatabaseAwayMiddleware(MiddlewareMixin):
    """A page for who asks for pages, JSON for everybody else. The log tells of the outage, not of each."""

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        if not is_of_the_database(exception):
            return None
        outage.suspect(str(exception))
        if "text/html" in request.headers.get("Accept", ""):
            response = HttpResponse(render_to_string("503.html"))
        else:
            message = "the database does not answer: try again"
            error = {"code": "unavailable", "message": message, "retry_after": RETRY_SECONDS}
            response = JsonResponse({"error": error})
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
        response.headers["Retry-After"] = str(RETRY_SECONDS)
        response.headers["Cache-Control"] = "no-store"
        return response
