"""What every template may know about who reads it."""

from typing import Any

from django.conf import settings
from django.http import HttpRequest

from app.accounts.selectors import identity_of_request


def identity(request: HttpRequest) -> dict[str, Any]:
    """`identity` (an Identity or None), `sign_up_allowed` and `guests_allowed`."""
    return {
        "identity": identity_of_request(request),
        "sign_up_allowed": settings.SIGN_UP_ALLOWED,
        "guests_allowed": settings.GUESTS_ALLOWED,
    }
