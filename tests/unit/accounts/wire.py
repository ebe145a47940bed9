"""A WebSocket as an ASGI server shows it to an application, without the server."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from app.accounts.middleware import Application
from app.accounts.refusals import Receive, Scope, Send


class Arrived:
    """The application behind the middleware: accepts, and keeps the scope it was given. As our consumers do,
    it takes what is to be called on accept; nobody calls it."""

    def __init__(self) -> None:
        self.scope: Scope | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scope = dict(scope)
        if "on_accept" in scope:
            self.scope["on_accept"] = [*scope["on_accept"]]
            scope["on_accept"].clear()
        await receive()
        await send({"type": "websocket.accept"})


def websocket(
    origin: str | None = None,
    host: str = "testserver",
    ticket: str | None = None,
    cookie: str = "",
    denial: bool = True,
) -> Scope:
    headers = [(b"host", host.encode())]
    if origin is not None:
        headers.append((b"origin", origin.encode()))
    if cookie:
        headers.append((b"cookie", cookie.encode()))
    return {
        "type": "websocket",
        "path": "/realtime/",
        "headers": headers,
        "subprotocols": ["carillon.v1"] + ([f"carillon.ticket.{ticket}"] if ticket is not None else []),
        "extensions": {"websocket.http.response": {}} if denial else {},
    }


def http(headers: Mapping[str, str]) -> Scope:
    """A plain request."""
    named = [(name.encode(), value.encode()) for name, value in headers.items()]
    return {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", b"testserver"), *named]}


async def outcome(app: Application, scope: Scope) -> list[Any]:
    """What `app` sends for one upgrade or request: the status of a refusal, or the types of its messages."""
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return list(_summary(sent))


def _summary(sent: Iterable[Any]) -> Iterable[Any]:
    for message in sent:
        kind = message["type"].removeprefix("websocket.")
        if kind == "http.response.start" and message["status"] != 200:
            yield message["status"]
        elif kind == "http.response.body":
            body = message["body"]
            yield json.loads(body)["error"]["code"] if body[:1] == b"{" else body.decode().partition(":")[0]
        else:
            yield message["type"]
