"""Why somebody is not let in, and how they are told: before anything is done for them.

Whoever is refused because there is too much should come back, perhaps to another node, and not all at once.
"""

from collections.abc import Awaitable, Callable, MutableMapping
from math import ceil
from random import randint
from typing import Any, Final, TypeAlias

from app.observability import metrics
from app.realtime.protocol import SUBPROTOCOL, encode_refusal

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Any]]
Send: TypeAlias = Callable[[Any], Awaitable[None]]

REFUSALS: Final = {
    "origin": (403, "expected a page whose origin is allowed (ALLOWED_ORIGINS), or a program with a ticket"),
    "ticket_expired": (401, "the ticket is too old: ask for a new one"),
    "ticket_invalid": (401, "the ticket is not one of ours: ask for a new one"),
    "no_identity": (401, "expected a ticket, or the cookie of a session with an account or a guest"),
    "subprotocol": (400, f"expected {SUBPROTOCOL} among the subprotocols, this node speaks no other"),
    "slow": (408, "expected a whole request within REQUEST_SECONDS"),
    "no_door": (404, "nothing is behind this path: expected one of the doors in docs/protocol.md"),
    "full": (503, "this node has as many connections as it may have: come back, to another"),
    "descriptors": (503, "this node may open no more files: come back, to another"),
    "late": (503, "this node has more to do than it can: come back, to another"),
    "person_limit": (503, "you have as many connections to this node as one person may have"),
    "flooding": (503, "you sent far more commands than one person may: come back later"),
    "unavailable": (503, "who you are cannot be found out now: try again"),
}
"""Reason of a refusal (the label of `connections_refused`) to its HTTP status and what it says."""
RETRY_SECONDS: Final = (1, 10)
"""Whoever is refused with 503 is told to come back within so long, each at another moment."""
metrics.appear(metrics.connections_refused, REFUSALS)


def retry_after(wait: float = 0.0) -> int:
    """In how many seconds to come back, drawn anew for each; not within `wait`."""
    return ceil(wait) + randint(*RETRY_SECONDS)  # noqa: S311  # it spreads clients


async def welcome(scope: Scope, receive: Receive, send: Send) -> None:
    """ASGI: answers a plain request with 204, behind what would refuse an upgrade. So a script in a browser,
    which is not told why an upgrade failed, learns when to come back."""
    headers = [(b"cache-control", b"no-store")]
    await send({"type": "http.response.start", "status": 204, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def refuse(reason: str, scope: Scope, receive: Receive, send: Send, wait: float = 0.0) -> None:
    """Answer an upgrade, or a request, with one of `REFUSALS` instead of accepting it. `wait`: seconds within
    which coming back does not help."""
    metrics.connections_refused.labels(reason).inc()
    prefix = ""
    if scope["type"] == "websocket":
        await receive()
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close"})
            return
        prefix = "websocket."
    status, text = REFUSALS[reason]
    seconds = retry_after(wait) if status == 503 else None
    kind, body = b"text/plain; charset=utf-8", f"{reason}: {text}\n".encode()
    if scope["type"] == "http":
        kind, body = b"application/json", encode_refusal(reason, text, seconds)
    headers = [(b"content-type", kind), (b"cache-control", b"no-store")]
    if seconds is not None:
        headers.append((b"retry-after", b"%d" % seconds))
    await send({"type": f"{prefix}http.response.start", "status": status, "headers": headers})
    await send({"type": f"{prefix}http.response.body", "body": body})
