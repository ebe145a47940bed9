"""Reads: who a request, a session or a claim belongs to, now."""

import re
from collections.abc import Iterable, Iterator
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
from app.realtime.identity import Identity

GUEST_SESSION_KEY: Final = "guest"
"""Where a session keeps its guest: `{"id": "g…", "name": "…"}`."""

_ACCOUNT: Final = re.compile(r"u[0-9]{1,18}")

_ROWS_PER_QUERY: Final = 500
"""Keys in one `IN (…)`: half of what the smallest database takes as parameters of one query (999)."""


def claim_of_request(request: HttpRequest) -> Claim | None:
    """The account signed in on this request, or the guest of its session, or nobody."""
    user = request.user
    if isinstance(user, User):
        return claim_of_user(user)
    return _guest_in(request.session)


def identity_of_request(request: HttpRequest) -> Identity | None:
    """`claim_of_request` for who only wants to know the person."""
    claim = claim_of_request(request)
    return claim.identity if claim else None


def claim_of_user(user: User) -> Claim:
    """What a ticket for `user` says."""
    return Claim(Identity(f"u{user.pk}", user.username), user.get_session_auth_hash()[:AUTH_HASH_CHARACTERS])


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


def identities_of_sessions(session_keys: Iterable[str]) -> dict[str, Identity]:
    """Session key to who is signed in there; keys of nobody are left out. Two queries for up to 500 keys."""
    store = _session_store()
    sessions: dict[str, dict[str, Any]] = {}
    for keys in _chunks(session_keys):
        rows = store.get_model_class().objects.filter(session_key__in=keys, expire_date__gt=timezone.now())
        for key, data in rows.values_list("session_key", "session_data"):
            sessions[key] = store.decode(data)
    users = _active_users(filter(None, map(_user_pk, sessions.values())))
    identities = {}
    for key, session in sessions.items():
        identity = _identity_in(session, users)
        if identity is not None:
            identities[key] = identity
    return identities


def claims_that_no_longer_hold(claims: Iterable[Claim]) -> set[Claim]:
    """Those whose account is gone, inactive, or has another password since; one query for up to 500."""
    accounts = {claim for claim in claims if not claim.identity.guest}
    users = _active_users(int(claim.identity.id[1:]) for claim in accounts)
    return {claim for claim in accounts if not _holds(claim, users.get(int(claim.identity.id[1:])))}


def _holds(claim: Claim, user: User | None) -> bool:
    return user is not None and any(
        constant_time_compare(auth_hash[:AUTH_HASH_CHARACTERS], claim.auth_hash)
        for auth_hash in _auth_hashes(user)
    )


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


def _identity_in(session: dict[str, Any], users: dict[int, User]) -> Identity | None:
    if SESSION_KEY not in session:
        guest = _guest_in(session)
        return guest.identity if guest else None
    user = users.get(_user_pk(session) or 0)
    if user is None or session.get(BACKEND_SESSION_KEY) not in settings.AUTHENTICATION_BACKENDS:
        return None
    session_hash = session.get(HASH_SESSION_KEY, "")
    if not any(constant_time_compare(auth_hash, session_hash) for auth_hash in _auth_hashes(user)):
        return None
    return Identity(f"u{user.pk}", user.username)


def _user_pk(session: dict[str, Any]) -> int | None:
    if SESSION_KEY not in session:
        return None
    try:
        return int(User._meta.pk.to_python(session[SESSION_KEY]))
    except ValidationError:
        return None


def _guest_in(session: Any) -> Claim | None:
    # An account that may no longer connect does not come back as the guest it once was.
    guest = session.get(GUEST_SESSION_KEY)
    if not guest or SESSION_KEY in session or not settings.GUESTS_ALLOWED:
        return None
    return Claim(Identity(guest["id"], guest["name"], guest=True))


def _session_store() -> SessionStore:
    store: SessionStore = import_module(settings.SESSION_ENGINE).SessionStore()
    return store


def _chunks(keys: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(keys)
    while chunk := list(islice(iterator, _ROWS_PER_QUERY)):
        yield chunk
