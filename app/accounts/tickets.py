"""Signed tickets: who may connect, for half a minute, without a cookie and without the database.

A ticket is a secret while it is valid: it goes into no log, no error and no URL. Checking one is on the path
of every upgrade, so the keys are derived once; Django's signer derives them anew each time.
"""

import time
from functools import cache
from hashlib import blake2b
from hmac import compare_digest
from secrets import token_bytes
from typing import Final, NamedTuple

import msgspec
from django.conf import settings
from django.core.signals import setting_changed
from django.utils.crypto import salted_hmac

from app.realtime.identity import Identity

AUTH_HASH_CHARACTERS: Final = 16
"""The head of the session auth hash that a ticket carries: 64 bits tell a changed password from the same."""

SIGNATURE_BYTES: Final = 32

NONCE_BYTES: Final = 16


class Claim(msgspec.Struct, frozen=True):
    """Who somebody is, and what shows later that this is still so: for an account the head of its session
    auth hash (empty for a guest), and the key of the session that says so, a secret (empty: none does)."""

    identity: Identity
    auth_hash: str = ""
    session: str = ""


class TicketRefused(Exception):
    """A ticket that lets nobody in; `reason` is `ticket_expired` or `ticket_invalid`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Body(msgspec.Struct, frozen=True, array_like=True):
    """A claim as it travels: flat and without field names, because it is part of every upgrade."""

    issued_at: float
    id: str
    name: str
    guest: bool
    auth_hash: str
    session: bytes = b""  # sealed; the release before issues tickets without


_encoder: Final = msgspec.msgpack.Encoder()
_decoder: Final = msgspec.msgpack.Decoder(_Body)


class _Keys(NamedTuple):
    signing: bytes
    sealing: bytes


@cache
def _keys() -> list[_Keys]:
    """The current keys first; a ticket made with previous ones is still good."""
    secrets = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return [
        _Keys(
            salted_hmac("app.accounts.tickets", "", secret, algorithm="sha256").digest(),
            salted_hmac("app.accounts.tickets.session", "", secret, algorithm="sha256").digest(),
        )
        for secret in secrets
    ]


def _forget_keys(*, setting: str, **_: object) -> None:
    if setting in ("SECRET_KEY", "SECRET_KEY_FALLBACKS"):
        _keys.cache_clear()


setting_changed.connect(_forget_keys)


def _sign(value: bytes, key: bytes) -> bytes:
    # Keyed BLAKE2b is a message authentication code by itself (RFC 7693, 2.9), at a third of HMAC's time.
    return blake2b(value, digest_size=SIGNATURE_BYTES, key=key).hexdigest().encode()


def _seal(session: str, key: bytes) -> bytes:
    """A page's script reads its ticket, and must not learn the key of the session from it."""
    if not session:
        return b""
    nonce = token_bytes(NONCE_BYTES)
    return nonce + _masked(session.encode(), key, nonce)


def _unseal(sealed: bytes, key: bytes) -> str:
    return _masked(sealed[NONCE_BYTES:], key, sealed[:NONCE_BYTES]).decode()


def _masked(text: bytes, key: bytes, nonce: bytes) -> bytes:
    # Keyed BLAKE2b of a nonce that is never used again is as good as random, and the signature is around it.
    # It masks 64 bytes; Django stores session keys of 40 characters at most.
    mask = blake2b(nonce, digest_size=len(text), key=key).digest() if text else b""
    return bytes(one ^ other for one, other in zip(text, mask, strict=True))


def issue(claim: Claim) -> str:
    """A ticket for `claim`, valid for TICKET_SECONDS from now; only hexadecimal digits and a dot."""
    identity = claim.identity
    keys = _keys()[0]
    session = _seal(claim.session, keys.sealing)
    body = _Body(time.time(), identity.id, identity.name, identity.guest, claim.auth_hash, session)
    value = _encoder.encode(body).hex().encode()
    return (value + b"." + _sign(value, keys.signing)).decode()


def verify(ticket: str) -> Claim:
    """The claim in `ticket`. Raises `TicketRefused`."""
    value, _, signature = ticket.encode("utf-8", "surrogatepass").partition(b".")
    for keys in _keys():
        if compare_digest(signature, _sign(value, keys.signing)):
            break
    else:
        raise TicketRefused("ticket_invalid")
    body = _decoder.decode(bytes.fromhex(value.decode()))
    if time.time() - body.issued_at > settings.TICKET_SECONDS:
        raise TicketRefused("ticket_expired")
    session = _unseal(body.session, keys.sealing)
    return Claim(Identity(body.id, body.name, body.guest), body.auth_hash, session)
