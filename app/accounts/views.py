"""The HTTP doors: log in, sign up, enter as a guest, get a ticket.

Forms judge what people write; services write it.
"""

from typing import Any

from django.conf import settings
from django.contrib.auth import login
from django.contrib.auth.forms import AuthenticationForm
from django.contrib.auth.views import LoginView, RedirectURLMixin
from django.core.exceptions import ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import resolve_url
from django.utils.decorators import method_decorator
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST
from django.views.generic import FormView

from app.accounts import services, tickets
from app.accounts.forms import GuestForm, LogInForm, SignUpForm
from app.accounts.selectors import claim_of_request


class _PlainLabels:
    """Labels end without a colon, as everywhere on our pages."""

    def get_form_kwargs(self) -> dict[str, Any]:
        kwargs: dict[str, Any] = super().get_form_kwargs()  # type: ignore[misc]  # of the view beside it
        return {**kwargs, "label_suffix": ""}


class LogIn(_PlainLabels, LoginView):
    """Who has an account."""

    template_name = "accounts/log_in.html"
    form_class = LogInForm
    redirect_authenticated_user = True

    def form_valid(self, form: AuthenticationForm) -> HttpResponse:
        response = super().form_valid(form)
        services.forget_guest(self.request)
        return response


@method_decorator([sensitive_post_parameters("password1", "password2"), never_cache], "dispatch")
class _NewcomerView(_PlainLabels, RedirectURLMixin, FormView):  # type: ignore[type-arg]  # not subscriptable when it runs
    """A form for who is not signed in, where a setting allows it."""

    allowed_by: str

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not getattr(settings, self.allowed_by):
            raise Http404(f"switched off by {self.allowed_by}")
        if request.user.is_authenticated:
            return HttpResponseRedirect(self.get_success_url())
        return super().dispatch(request, *args, **kwargs)

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(**kwargs, **{self.redirect_field_name: self.get_redirect_url()})

    def get_default_redirect_url(self) -> str:
        return resolve_url(settings.LOGIN_REDIRECT_URL)


class SignUp(_NewcomerView):
    """Who wants an account."""

    template_name = "accounts/sign_up.html"
    form_class = SignUpForm
    allowed_by = "SIGN_UP_ALLOWED"

    def form_valid(self, form: SignUpForm) -> HttpResponse:
        try:
            user = form.save()
        except ValidationError as error:
            form.add_error(None, error)
            return self.form_invalid(form)
        login(self.request, user)
        services.forget_guest(self.request)
        return super().form_valid(form)


class Guest(_NewcomerView):
    """Who only wants a name."""

    template_name = "accounts/guest.html"
    form_class = GuestForm
    allowed_by = "GUESTS_ALLOWED"

    def form_valid(self, form: GuestForm) -> HttpResponse:
        services.enter_as_guest(self.request, form.cleaned_data["name"])
        return super().form_valid(form)


@require_POST
@never_cache
def ticket(request: HttpRequest) -> JsonResponse:
    """`{"ticket", "expires_in"}` for whoever this session belongs to; 401 for nobody. Writes nothing."""
    claim = claim_of_request(request)
    if claim is None:
        error = {"code": "no_identity", "message": "log in, or enter as a guest, and ask again"}
        return JsonResponse({"error": error}, status=401)
    return JsonResponse({"ticket": tickets.issue(claim), "expires_in": settings.TICKET_SECONDS})
