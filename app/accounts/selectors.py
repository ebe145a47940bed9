"""Reads: who a request or a session belongs to, and which claims hold no longer, now."""

import re
from collections.abc import Collection, Iterable, Iterator
from importlib import import_module
from itertools import islice
from typing import Any, Final

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from app.accounts.models import User
from app.accounts.names import name_key
from app.accounts.tickets import AUTH_HASH_CHARACTERS, Claim
from app.realtime.close_codes import IDENTITY_REVOKED, PASSWORD_CHANGED, SESSION_ENDED
from app.realtime.identity import Identity

GUEST_SESSION_KEY: Final = "guest"
"""Where a session keeps its guest: `{"id": "g…", "name": "…"}`."""

_ACCOUNT: Final = re.compile(r"u[0-9]{1,18}")

_ROWS_PER_QUERY: Final = 500
"""Keys in one `IN (…)`: half of what the smallest database takes as parameters of one query (999)."""


def claim_of_request(request: HttpRequest) -> Claim | None:
    """The account signed in on this request, or the guest of its session, or nobody."""
    user, session_key = request.user, request.session.session_key or ""
    if isinstance(user, User):
        return claim_of_user(user, session_key)
    return _guest_in(request.session, session_key)


def identity_of_request(request: HttpRequest) -> Identity | None:
    """`claim_of_request` for who only wants to know the person."""
    claim = claim_of_request(request)
    return claim.identity if claim else None


def claim_of_user(user: User, session_key: str = "") -> Claim:
    """What a ticket for `user` says, who is signed in in this session, if in any."""
    auth_hash = user.get_session_auth_hash()[:AUTH_HASH_CHARACTERS]
    return Claim(Identity(f"u{user.pk}", user.username), auth_hash, session_key)


def name_is_taken(name: str) -> bool:
    """Whether an account has a name that reads like this one."""
    return User.objects.filter(name_key=name_key(name)).exists()


def account_named(name: str) -> Identity | None:
    """Whose account has a name that reads like this one, if they may log in."""
    user = User.objects.filter(name_key=name_key(name), is_active=True).first()
    return None if user is None else claim_of_user(user).identity


def names_of_accounts(people: Iterable[str]) -> dict[str, str]:
    """Id to name; ids of guests and of accounts that are gone are left out. One query for up to 500."""
    names: dict[str, str] = {}
    keys = {int(person[1:]) for person in people if _ACCOUNT.fullmatch(person)}
    for some in _chunks(keys):
        rows = User.objects.filter(pk__in=some).values_list("pk", "username")
        names.update((f"u{pk}", name) for pk, name in rows)
    return names


def claims_of_sessions(session_keys: Iterable[str]) -> dict[str, Claim]:
    """Session key to who is signed in there; keys of nobody are left out. Two queries for up to 500 keys."""
    store = _session_store()
    sessions: dict[str, dict[str, Any]] = {}
    for keys in _chunks(session_keys):
        rows = store.get_model_class().objects.filter(session_key__in=keys, expire_date__gt=timezone.now())
        for key, data in rows.values_list("session_key", "session_data"):
            sessions[key] = store.decode(data)
    users = _active_users(filter(None, map(_user_pk, sessions.values())))
    claims = ((key, _claim_in(session, key, users)) for key, session in sessions.items())
    return {key: claim for key, claim in claims if claim is not None}


def claims_that_no_longer_hold(claims: Collection[Claim]) -> dict[Claim, int]:
    """Those whose account is gone or inactive, whose session is gone or expired, or whose account has another
    password since, with the close code that says so; two queries for up to 500.

    A session whose row is there is as it was: whoever logs out or in gets another key.
    """
    users = _active_users(_pk(claim) for claim in claims if not claim.identity.guest)
    sessions = _live_sessions({claim.session for claim in claims if claim.session})
    codes = {claim: _why_it_ended(claim, users, sessions) for claim in claims}
    return {claim: code for claim, code in codes.items() if code is not None}


def _why_it_ended(claim: Claim, users: dict[int, User], sessions: set[str]) -> int | None:
    user = None if claim.identity.guest else users.get(_pk(claim))
    if user is None and not claim.identity.guest:
        return IDENTITY_REVOKED
    if claim.session and claim.session not in sessions:
        return SESSION_ENDED
    if user is not None and not _same_password(claim, user):
        return PASSWORD_CHANGED
    return None


def _same_password(claim: Claim, user: User) -> bool:
    return any(
        constant_time_compare(auth_hash[:AUTH_HASH_CHARACTERS], claim.auth_hash)
        for auth_hash in _auth_hashes(user)
    )


def _pk(claim: Claim) -> int:
    return int(claim.identity.id[1:])


def _live_sessions(session_keys: Iterable[str]) -> set[str]:
    found: set[str] = set()
    stored = _session_store().get_model_class().objects.filter(expire_date__gt=timezone.now())
    for keys in _chunks(session_keys):
        found.update(stored.filter(session_key__in=keys).values_list("session_key", flat=True))
    return found


def _auth_hashes(user: User) -> Iterator[str]:
    """With today's key first, then with those before it: a new SECRET_KEYS logs nobody out."""
    yield user.get_session_auth_hash()
    yield from user.get_session_auth_fallback_hash()


def _active_users(primary_keys: Iterable[int]) -> dict[int, User]:
    users: dict[int, User] = {}
    for keys in _chunks(set(primary_keys)):
        rows = User.objects.filter(pk__in=keys, is_active=True).only("pk", "username", "password")
        users.update((user.pk, user) for user in rows)
    return users


def _claim_in(session: dict[str, Any], session_key: str, users: dict[int, User]) -> Claim | None:
    if SESSION_KEY not in session:
        return _guest_in(session, session_key)
    user = users.get(_user_pk(session) or 0)
    if user is None or session.get(BACKEND_SESSION_KEY) not in settings.AUTHENTICATION_BACKENDS:
        return None
    session_hash = session.get(HASH_SESSION_KEY, "")
    if not any(constant_time_compare(auth_hash, session_hash) for auth_hash in _auth_hashes(user)):
        return None
    # Made with an older one of SECRET_KEYS it is as good, and is compared with those, too.
    return Claim(Identity(f"u{user.pk}", user.username), session_hash[:AUTH_HASH_CHARACTERS], session_key)


def _user_pk(session: dict[str, Any]) -> int | None:
    if SESSION_KEY not in session:
        return None
    try:
        return int(User._meta.pk.to_python(session[SESSION_KEY]))
    except ValidationError:
        return None


def _guest_in(session: Any, session_key: str) -> Claim | None:
    # An account that may no longer connect does not come back as the guest it once was.
    guest = session.get(GUEST_SESSION_KEY)
    if not guest or SESSION_KEY in session or not settings.GUESTS_ALLOWED:
        return None
    return Claim(Identity(guest["id"], guest["name"], guest=True), session=session_key)


def _session_store() -> SessionStore:
    store: SessionStore = import_module(settings.SESSION_ENGINE).SessionStore()
    return store


def _chunks(keys: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(keys)
    while chunk := list(islice(iterator, _ROWS_PER_QUERY)):
        yield chunk
