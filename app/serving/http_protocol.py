"""uvicorn's HTTP protocol with a second way out: upgrades under /realtime/ take the fast path.

Everything else, stock WebSocket consumers included, goes the way uvicorn made for it.
"""

import asyncio
import sys
from collections import deque
from typing import Any, ClassVar, Final, cast

from django.conf import settings
from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.config import Config
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.server import ServerState
from websockets.frames import Frame
from websockets.http11 import Request

from app.accounts.refusals import REFUSALS
from app.observability import metrics
from app.realtime import close_codes
from app.realtime.connection import CLOSE_SECONDS, RELEASABLE, Connection
from app.realtime.consumers import COUNTED_EXTENSION
from app.serving.admission import admission
from app.serving.deadlines import unfinished
from app.serving.direct_connection import CONTROL_FRAMES_ALLOWED, FRAGMENTS_ALLOWED, TURN_BYTES
from app.serving.upgrade import Upgrade, answer

FAST_PATH: Final = b"/realtime/"


class HttpProtocol(HttpToolsProtocol):
    """One HTTP connection."""

    _judged: list[tuple[bytes, bytes]] | None = None
    _upgrades = False
    _alike: ClassVar[tuple[ServerState, dict[str, Any]] | None] = None

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """As uvicorn's, which looks up loggers and settings anew for each of a server's connections."""
        if self._alike is None or self._alike[0] is not server_state:
            super().__init__(config, server_state, app_state, _loop)
            HttpProtocol._alike = server_state, vars(self).copy()
            return
        vars(self).update(self._alike[1])
        self.parser = HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.pipeline = deque()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As uvicorn's, less five system calls: it makes a socket object to ask for the addresses."""
        self.connections.add(self)
        self.transport = transport
        self.flow = FlowControl(transport)
        self.server = transport.get_extra_info("sockname")
        self.client = transport.get_extra_info("peername")
        # TLS ends before us, and only a trusted proxy may tell by which scheme this very request came.
        self.scheme = "https" if settings.HTTPS else "http"
        unfinished.begin(self, self.loop.time())

    def _should_upgrade(self) -> bool:
        """As uvicorn's, which looks through all headers each of the three times that it asks."""
        if self._judged is not self.headers:
            self._judged = self.headers
            self._upgrades = super()._should_upgrade()
        return self._upgrades

    def data_received(self, data: bytes) -> None:
        """As uvicorn's, which forgets what came in one read with an upgrade's request."""
        if self.timeout_keep_alive_task is not None:  # empty lines between requests begin none, and end it
            unfinished.begin(self, self.loop.time())
        self._read = data
        super().data_received(data)
        self._read = b""

    def on_message_begin(self) -> None:
        """The first byte of a request was read."""
        unfinished.begin(self, self.loop.time())
        super().on_message_begin()

    def on_message_complete(self) -> None:
        """The last one."""
        unfinished.end(self)
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        unfinished.end(self)
        super().connection_lost(exc)

    def out_of_time(self) -> None:
        """The client has not said all of what it wants. One that has said nothing is not told so: a browser's
        spare connection, which it may be about to use, would take that for the answer."""
        metrics.connections_refused.labels("slow").inc()
        cycle = self.cycle
        if self.headers is None or (cycle and cycle.response_started and not cycle.response_complete):
            self.transport.abort()
            return
        status, text = REFUSALS["slow"]
        body = f"slow: {text}\n".encode()
        self.transport.write(answer(status, [(b"content-type", b"text/plain; charset=utf-8")], body))
        self.transport.close()

    @property
    def releasable(self) -> bool:
        """Whether somebody listens to a response that has no end of its own."""
        listener = self._listener
        return listener is not None and not listener.closing

    def release(self, retry_after: float) -> None:
        """End that response."""
        self.shutdown()  # and the connection behind it
        if self._listener is not None:
            self._listener.release(retry_after)

    @property
    def _listener(self) -> Connection | None:
        if self.cycle is None or self.cycle.response_complete:
            return None
        return self.cycle.scope["state"].get(RELEASABLE)

    def handle_websocket_upgrade(self) -> None:
        """Called by uvicorn when a request's headers are complete and ask for a WebSocket."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.send_400_response("expected the upgrade after the answer to the request before it")
            return
        refusal = admission.refusal(len(self.connections) - 1)  # without this one
        if refusal is None and not self.url.startswith(FAST_PATH):
            super().handle_websocket_upgrade()
            return
        paused = cast(HttpParserUpgrade, sys.exception())  # uvicorn calls from where it caught this
        self.connections.discard(self)
        transport = self.transport
        transport.set_protocol(Upgrade(self, transport, self._read[paused.args[0] :], refusal))
        # The parser and its protocol hold each other: let both go now and not at the next collection.
        self.parser = None  # type: ignore[assignment]
        self.flow = None  # type: ignore[assignment]


class StockWebSocketProtocol(WebSocketsSansIOProtocol):
    """uvicorn's own WebSocket protocol, counted, and ended also when its client does not read."""

    _accepted = False
    _released = False
    _cut_off: asyncio.TimerHandle | None = None
    _control_frames = 0

    def data_received(self, data: bytes) -> None:
        """As uvicorn's, a part at a time: no flood is parsed far beyond what is too much."""
        for start in range(0, len(data), TURN_BYTES):
            super().data_received(data[start : start + TURN_BYTES])
            if self.transport.is_closing():
                return

    def handle_cont(self, event: Frame) -> None:
        """A further fragment of a message."""
        if len(self.frames) == FRAGMENTS_ALLOWED:
            self._flooded(close_codes.TOO_BIG, "too many fragments")
        else:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """A ping; the parser has its answer."""
        if self._counted():
            super().handle_ping()

    def handle_pong(self, event: Frame) -> None:
        """A pong."""
        if self._counted():
            super().handle_pong(event)

    def send_keepalive_ping(self) -> None:
        """Called once in `ws_ping_interval`."""
        self._control_frames = 0
        super().send_keepalive_ping()

    def _counted(self) -> bool:
        """Count one control frame. False: it was one too many."""
        self._control_frames += 1
        if self._control_frames > CONTROL_FRAMES_ALLOWED:
            self._flooded(close_codes.TOO_MANY_INVALID_FRAMES, "too many pings and pongs")
            return False
        return True

    def _flooded(self, code: int, reason: str) -> None:
        if self.transport.is_closing():
            return
        self.conn.fail(code, reason)  # from here on the parser throws away what comes
        if self.conn.close_sent is None:  # the application has not even accepted
            self.transport.abort()
        else:
            self.handle_parser_exception()

    def handle_connect(self, event: Request) -> None:
        """The upgrade's request is parsed."""
        unfinished.begin(self, self.loop.time())
        super().handle_connect(event)
        if hasattr(self, "scope"):
            self.scope["extensions"][COUNTED_EXTENSION] = {}

    @property
    def releasable(self) -> bool:
        """Whether it was accepted, and is open."""
        return self._accepted and not (self._released or self.close_sent or self.disconnected)

    def release(self, retry_after: float) -> None:
        """A consumer of ours tells its client when to come back; stock ones have no words for it."""
        self._released = True
        consumer: Connection | None = self.scope["state"].get(RELEASABLE)
        if consumer is not None:
            consumer.release(retry_after)
        else:
            self.shutdown()

    def out_of_time(self) -> None:
        """The application has not answered the upgrade."""
        metrics.connections_refused.labels("unavailable").inc()
        self.transport.abort()

    def keepalive_timeout(self) -> None:
        """No answer to a ping. uvicorn waits without end for the client to read what is unsent."""
        super().keepalive_timeout()
        if self._cut_off is None:
            self._cut_off = self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    async def send(self, message: Any) -> None:
        """ASGI send."""
        unfinished.end(self)
        await super().send(message)
        if message["type"] == "websocket.accept":
            self._accepted = True
            metrics.connections.labels("stock").inc()
            metrics.connections_opened.labels("stock").inc()
        elif message["type"] == "websocket.http.response.body" and self.close_sent:
            # A refusal is written. uvicorn would log it as an error, and anybody can be refused.
            self.handshake_complete = True

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        """The application has ended. uvicorn waits without end for a client to read what is unsent."""
        super().on_task_complete(task)
        if not self.disconnected:
            self._cut_off = self.loop.call_later(CLOSE_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        closed = self.conn.close_rcvd or self.conn.close_sent
        unfinished.end(self)
        super().connection_lost(exc)
        if self._cut_off is not None:
            self._cut_off.cancel()
        if self._accepted:
            metrics.connections.labels("stock").dec()
            code = closed.code if closed else close_codes.ABNORMAL
            metrics.connections_closed.labels(close_codes.label(code)).inc()
