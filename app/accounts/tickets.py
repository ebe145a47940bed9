"""Signed tickets: who may connect, for half a minute, without a cookie and without the database.

A ticket is a secret while it is valid: it goes into no log, no error and no URL.
"""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import cache
from typing import Final

import msgspec
from django.conf import settings
from django.core.signals import setting_changed
from django.core.signing import BadSignature, SignatureExpired, TimestampSigner

from app.realtime.identity import Identity

AUTH_HASH_CHARACTERS: Final = 16
"""The head of the session auth hash that a ticket carries: 64 bits tell a changed password from the same."""


class Claim(msgspec.Struct, frozen=True):
    """Who somebody is, and for an account what shows later that this is still so (empty for a guest)."""

    identity: Identity
    auth_hash: str = ""


class TicketRefused(Exception):
    """A ticket that lets nobody in; `reason` is `ticket_expired` or `ticket_invalid`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Body(msgspec.Struct, frozen=True, array_like=True):
    """A claim as it travels: flat and without field names, because it is part of every upgrade."""

    id: str
    name: str
    guest: bool
    auth_hash: str


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Body)


@cache
def _signer() -> TimestampSigner:
    # A dot parts value, time and signature: ":" may not stand in a subprotocol, a dot may (RFC 7230, token).
    return TimestampSigner(salt="app.accounts.tickets", sep=".")


def _forget_keys(*, setting: str, **_: object) -> None:
    if setting in ("SECRET_KEY", "SECRET_KEY_FALLBACKS"):
        _signer.cache_clear()


setting_changed.connect(_forget_keys)


def issue(claim: Claim) -> str:
    """A ticket for `claim`, valid for TICKET_SECONDS from now; only letters, digits, `-`, `_` and `.`."""
    identity = claim.identity
    body = _encoder.encode(_Body(identity.id, identity.name, identity.guest, claim.auth_hash))
    return _signer().sign(urlsafe_b64encode(body).rstrip(b"=").decode())


def verify(ticket: str) -> Claim:
    """The claim in `ticket`. Raises `TicketRefused`."""
    try:
        value = _signer().unsign(ticket, max_age=settings.TICKET_SECONDS)
        body = _decoder.decode(urlsafe_b64decode(value + "=="))
    except SignatureExpired:
        raise TicketRefused("ticket_expired") from None
    except (BadSignature, ValueError):
        raise TicketRefused("ticket_invalid") from None
    return Claim(Identity(body.id, body.name, body.guest), body.auth_hash)
