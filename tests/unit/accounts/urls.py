"""The doors of accounts, and an index to come back to: accounts do not know what lies above them."""

from django.http import HttpRequest, HttpResponse
from django.urls import include, path


def index(request: HttpRequest) -> HttpResponse:
    return HttpResponse("index")


urlpatterns = [
    path("", include(([path("", index, name="index")], "chat"))),
    path("accounts/", include("app.accounts.urls")),
]
