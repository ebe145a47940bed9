"""One upgrade request on the fast path: from the parsed HTTP request to a direct connection or a refusal.

The application sees an ordinary ASGI scope. It either takes the direct connection that the scope's
extension offers, or refuses; `websocket.accept` belongs to uvicorn's own path.
"""

import asyncio
import logging
import math
from random import random
from typing import Any, Final
from urllib.parse import unquote

from django.conf import settings
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from websockets.utils import accept_key

from app.accounts.refusals import REFUSALS, retry_after
from app.observability import metrics
from app.realtime import close_codes
from app.realtime.connection import Receiver
from app.realtime.consumers import DIRECT_EXTENSION
from app.realtime.event import text_frame
from app.serving.deadlines import unfinished
from app.serving.direct_connection import DirectConnection

logger = logging.getLogger(__name__)

_ACCEPT: Final = (
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
)
_OURS: Final = (b"content-length", b"connection")
"""Headers of a refusal that are ours to say."""


def _leaves_at() -> float:
    """When a connection made now is handed over, by the loop's clock: those of one moment not all in one."""
    if not settings.CONNECTION_AGE_SECONDS:
        return math.inf
    jitter = 0.8 + 0.4 * random()  # noqa: S311
    return asyncio.get_running_loop().time() + settings.CONNECTION_AGE_SECONDS * jitter


class Upgrade(asyncio.Protocol):
    """The transport's protocol, and the application's `receive` and `send`, until the answer is written."""

    def __init__(
        self, http: HttpToolsProtocol, transport: asyncio.Transport, early: bytes, refusal: str | None = None
    ) -> None:
        self._transport = transport
        self._server_state = http.server_state
        self._early = b""
        self._answered = False
        self._asked = False
        self._connection: DirectConnection | None = None
        self._gone: asyncio.Future[None] | None = None
        self._status = 0
        self._headers: list[tuple[bytes, bytes]] = []
        self._body = b""
        fields = dict(http.headers)
        self._key = fields.get(b"sec-websocket-key", b"").decode("latin-1")
        self._task: asyncio.Task[None] | None = None
        if early:
            self.data_received(early)
        if refusal is not None:
            self._refuse(refusal)
        elif fields.get(b"sec-websocket-version") != b"13":
            self._answer(426, [(b"sec-websocket-version", b"13")], b"expected Sec-WebSocket-Version: 13\n")
        elif (
            len(self._key) != 24
            or http.scope["method"] != "GET"
            or http.scope["http_version"] != "1.1"
            or b"transfer-encoding" in fields
            or fields.get(b"content-length", b"0") != b"0"  # a body would be read as frames
        ):
            expected = b"expected a GET of HTTP/1.1, no body, a Sec-WebSocket-Key of 24 characters\n"
            self._answer(400, [], expected)
        else:
            self._start(http, fields)

    def _refuse(self, reason: str) -> None:
        """Before anything is done for it: a node that has too much to do answers this, too."""
        metrics.connections_refused.labels(reason).inc()
        status, text = REFUSALS[reason]
        headers = [
            (b"content-type", b"text/plain; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"retry-after", b"%d" % retry_after()),
        ]
        self._answer(status, headers, f"{reason}: {text}\n".encode())

    def _start(self, http: HttpToolsProtocol, fields: dict[bytes, bytes]) -> None:
        raw_path, _, query_string = http.url.partition(b"?")
        path = raw_path.decode("latin-1")
        offered = fields.get(b"sec-websocket-protocol", b"")
        if len(fields) != len(http.headers):  # a header came twice: of this one each counts
            offered = b",".join(value for name, value in http.headers if name == b"sec-websocket-protocol")
        scope: dict[str, Any] = {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "wss" if http.scheme == "https" else "ws",
            "server": http.server,
            "client": http.client,
            "root_path": http.root_path,
            "path": unquote(path) if "%" in path else path,
            "raw_path": raw_path,
            "query_string": query_string,
            "headers": http.headers,
            "subprotocols": [token.strip() for token in offered.decode("latin-1").split(",")]
            if offered
            else [],
            "state": http.app_state.copy(),
            "extensions": {"websocket.http.response": {}, DIRECT_EXTENSION: self},
        }
        unfinished.begin(self, http.loop.time())
        self._task = http.loop.create_task(self._run(http.app, scope))
        self._server_state.tasks.add(self._task)
        self._task.add_done_callback(self._server_state.tasks.discard)

    async def _run(self, application: Any, scope: dict[str, Any]) -> None:
        try:
            await application(scope, self.receive, self.send)
        except Exception:
            logger.exception("the application failed on %r", scope["path"])
            if self._connection is not None:
                self._connection.close(close_codes.INTERNAL_ERROR)
        finally:
            if self._connection is None and not self._answered:
                self._answer(500, [], b"internal server error\n")

    # What the consumer calls -----------------------------------------------------------------------------

    def accept(self, receiver: Receiver, subprotocol: str | None, hello: bytes) -> DirectConnection:
        """Answer 101 and `hello` in one write; the transport now belongs to the connection returned."""
        if self._answered:
            raise ConnectionError("the client has gone, or the upgrade was answered before")
        self._answered = True
        unfinished.end(self)
        chosen = f"\r\nSec-WebSocket-Protocol: {subprotocol}" if subprotocol else ""
        answer = f"{_ACCEPT}{accept_key(self._key)}{chosen}\r\n\r\n"
        self._transport.write(answer.encode() + text_frame(hello))
        connection = self._connection = DirectConnection(
            self._transport,
            receiver,
            self._server_state.connections,  # type: ignore[arg-type]  # uvicorn names its own protocols
            settings.UNSENT_LIMIT_BYTES,
            settings.FRAME_LIMIT_BYTES,
            leaves_at=_leaves_at(),
        )
        self._transport.set_protocol(connection)
        if self._early:
            # After the consumer's own first frames: it is still in the middle of opening.
            asyncio.get_running_loop().call_soon(self._hand_over, connection)
        return connection

    def _hand_over(self, connection: DirectConnection) -> None:
        connection.resume_reading()
        connection.data_received(self._early)

    async def receive(self) -> dict[str, Any]:
        """ASGI receive: the upgrade itself, then its end."""
        if not self._asked:
            self._asked = True
            return {"type": "websocket.connect"}
        if self._gone is None:
            self._gone = asyncio.get_running_loop().create_future()
            if self._answered:
                self._gone.set_result(None)
        await self._gone
        return {"type": "websocket.disconnect", "code": 1006}

    async def send(self, message: dict[str, Any]) -> None:
        """ASGI send: refusals only."""
        kind = message["type"]
        if kind == "websocket.close":
            self._answer(403, [], b"")
        elif kind == "websocket.http.response.start":
            self._status, self._headers = message["status"], list(message.get("headers", ()))
        elif kind == "websocket.http.response.body":
            self._body += message.get("body", b"")
            if not message.get("more_body", False):
                self._answer(self._status, self._headers, self._body)
        else:
            raise RuntimeError(
                f"expected a refusal, or a consumer that takes the direct connection; got {kind!r}. "
                "Stock consumers are mounted outside of /realtime/."
            )

    # What the server calls -------------------------------------------------------------------------------

    def out_of_time(self) -> None:
        """The application cannot find out in time who this is."""
        self._refuse("unavailable")
        if self._task is not None:
            self._task.cancel()

    # What the transport calls ----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """A client that talks before it was let in: one read is kept for the connection, the rest waits."""
        self._early += data
        self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._answered = True
        unfinished.end(self)
        if self._gone is not None and not self._gone.done():
            self._gone.set_result(None)
        if self._task is not None:
            self._task.cancel()

    def _answer(self, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        if self._answered:
            return
        self._answered = True
        unfinished.end(self)
        self._transport.write(answer(status, headers, body))
        self._transport.close()


def answer(status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> bytes:
    """The whole response, the last one on its connection."""
    lines = [
        STATUS_LINE[status].rstrip(b"\r\n"),
        *(name + b": " + value for name, value in headers if name.lower() not in _OURS),
        b"content-length: %d" % len(body),
        b"connection: close",
    ]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body
