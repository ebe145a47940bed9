"""What a WebSocket passes before its consumer: may this page connect (`OriginCheck`), and who is it
(`IdentityMiddleware`). Both fail closed, before accept; a ticket is checked without a wait of any kind.
"""

from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeAlias

from django.conf import settings
from django.http import parse_cookie
from django.http.request import split_domain_port, validate_host

from app.accounts import tickets
from app.accounts.refusals import Receive, Scope, Send, refuse
from app.accounts.session_lookup import LookupFailed, SessionLookup
from app.accounts.stock_connection import StockConnection
from app.accounts.tickets import Claim, TicketRefused
from app.accounts.verification import Closable, verification_of
from app.realtime.identity import Identity
from app.realtime.node import current_node, running_node
from app.realtime.protocol import SUBPROTOCOL, TICKET_PREFIX

Application: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class OriginCheck:
    """Lets a WebSocket, or a stream of events, through only from a page of ours or to a program."""

    def __init__(self, app: Application) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if _origin_allowed(scope):
            await self.app(scope, receive, send)
        else:
            await refuse("origin", scope, receive, send)


class IdentityMiddleware:
    """Sets `scope["identity"]` from the ticket, else from the session cookie; nobody comes in without.

    Whether that is still so is looked at for as long as the connection lasts: `scope["on_accept"]` has what
    the consumer calls with its connection; for one that does not, it is called with a `StockConnection`.
    """

    def __init__(self, app: Application) -> None:
        self.app = app
        self._sessions = SessionLookup()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        offered = scope.get("subprotocols")
        if offered and SUBPROTOCOL not in offered:  # who offers none takes the one there is
            await refuse("subprotocol", scope, receive, send)
            return
        ticket = _ticket(scope)
        try:
            claim = await self._claim_of_session(scope) if ticket is None else tickets.verify(ticket)
        except TicketRefused as refused:
            await refuse(refused.reason, scope, receive, send)
        except LookupFailed:
            await refuse("unavailable", scope, receive, send)
        else:
            if claim is None:
                await refuse("no_identity", scope, receive, send)
            elif wait := _shut_for(claim.identity):
                await refuse("flooding", scope, receive, send, wait)
            elif _has_enough(claim.identity):
                await refuse("person_limit", scope, receive, send)
            else:
                scope["identity"] = claim.identity
                if claim.session or not claim.identity.guest:
                    # The database was not asked about a ticket yet.
                    on_accept = scope["on_accept"] = [partial(_watch, claim, soon=ticket is not None)]
                    if scope["type"] == "websocket":
                        send = StockConnection(send, on_accept).send
                await self.app(scope, receive, send)

    async def _claim_of_session(self, scope: Scope) -> Claim | None:
        cookies = _header(scope, b"cookie")
        session_key = parse_cookie(cookies.decode("latin-1")).get(settings.SESSION_COOKIE_NAME, "")
        return await self._sessions.claim_of(session_key) if session_key else None


def _watch(claim: Claim, connection: Closable, *, soon: bool) -> None:
    verification_of(current_node()).watch(connection, claim, soon=soon)


def _shut_for(identity: Identity) -> float:
    node = running_node()
    return 0.0 if node is None else node.people.shut_for(identity.id)


def _has_enough(identity: Identity) -> bool:
    node = running_node()
    return node is not None and node.people.connections_of(identity.id) >= settings.CONNECTIONS_PER_PERSON


def _ticket(scope: Scope) -> str | None:
    """From the subprotocols; a plain request brings it as `Authorization: Bearer …`."""
    if scope["type"] == "http":
        kind, _, value = _header(scope, b"authorization").decode("latin-1").partition(" ")
        return value if kind.lower() == "bearer" else None
    for subprotocol in scope.get("subprotocols", ()):
        if subprotocol.startswith(TICKET_PREFIX):
            return str(subprotocol[len(TICKET_PREFIX) :])
    return None


def _header(scope: Scope, name: bytes) -> bytes:
    """The header's value, empty when there is none. Several are joined, and equal nothing allowed."""
    values = [value for key, value in scope["headers"] if key == name]
    return values[0] if len(values) == 1 else b"; ".join(values)


def _origin_allowed(scope: Scope) -> bool:
    origin = _header(scope, b"origin").decode("latin-1").lower()
    if not origin:
        if scope["type"] == "http":
            # A browser leaves it out where a page asks its own host; what other pages ask for without it,
            # they do not get to read.
            return _header(scope, b"sec-fetch-site") in (b"", b"same-origin", b"none")
        # No browser leaves it out, so nobody's cookies are at risk; the ticket itself is checked further in.
        return _ticket(scope) is not None
    if origin in settings.ALLOWED_ORIGINS:
        return True
    # Else only a page of the very host and port that it connects to. Where people come by HTTPS, nobody
    # vouches for a page that came by plain HTTP, and its Secure cookies may be somebody else's.
    host = _header(scope, b"host").decode("latin-1").lower()
    if origin != f"https://{host}" and (settings.HTTPS or origin != f"http://{host}"):
        return False
    # "*" names no host: where every host is allowed, the Host of a rebound name would be, too.
    hosts = [pattern for pattern in settings.ALLOWED_HOSTS if pattern != "*"]
    return validate_host(split_domain_port(host)[0], hosts)
