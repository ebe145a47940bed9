"""Writes: what a session says about its guest, the end of sessions, and that somebody may do less now."""

import secrets
from importlib import import_module
from typing import Final

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest
from django.utils import timezone

from app.accounts.events import ACCESS_CHANGES, AccessChanged
from app.accounts.selectors import GUEST_SESSION_KEY
from app.journal.services import publish_on_commit
from app.realtime.identity import GUEST

PURGED_TOGETHER: Final = 500
"""Sessions: each is looked at by whoever hears of deletions."""


def enter_as_guest(request: HttpRequest, name: str) -> None:
    """Make this session a guest's; `name` is clean and no account's. A renamed guest keeps their id."""
    session = request.session
    if SESSION_KEY in session:
        session.flush()  # an account that may no longer log in: nothing of it goes on
    known = session.get(GUEST_SESSION_KEY)
    guest_id = known["id"] if known else f"{GUEST}{secrets.token_hex(8)}"
    session.cycle_key()
    session[GUEST_SESSION_KEY] = {"id": guest_id, "name": name}


def forget_guest(request: HttpRequest) -> None:
    """The session is an account's from here on."""
    request.session.pop(GUEST_SESSION_KEY, None)


def purge_expired_sessions() -> None:
    """Delete the sessions that nobody can use any more, and with them all there is of their guests."""
    stored = import_module(settings.SESSION_ENGINE).SessionStore.get_model_class().objects
    expired = stored.filter(expire_date__lt=timezone.now()).values_list("pk", flat=True)
    while keys := list(expired[:PURGED_TOGETHER]):
        stored.filter(pk__in=keys).delete()


def access_changed(subject: str) -> None:
    """If and when the caller's transaction commits, every node looks at once at all whom that concerns."""
    publish_on_commit(ACCESS_CHANGES, AccessChanged(subject))
