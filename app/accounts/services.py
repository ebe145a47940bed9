"""Writes: what a session says about its guest, and the end of sessions."""

import secrets
from importlib import import_module

from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.http import HttpRequest

from app.accounts.selectors import GUEST_SESSION_KEY
from app.realtime.identity import GUEST


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
    import_module(settings.SESSION_ENGINE).SessionStore.clear_expired()
