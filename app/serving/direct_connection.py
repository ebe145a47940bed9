"""A WebSocket written to directly: no task, no queue of its own, no `send()` that waits.

The transport's buffer is the one outgoing queue of the connection, so frames leave in the order of calls.
What arrives is parsed by the websockets library in its open state, which is made when a first frame comes.
"""

import asyncio
import math
from typing import Final

from websockets.frames import Close, Frame, Opcode
from websockets.protocol import SERVER
from websockets.protocol import Protocol as FrameParser

from app.observability import metrics
from app.realtime import close_codes
from app.realtime.connection import CLOSE_SECONDS, Batch, Receiver, released
from app.realtime.event import Delivery, EncodedEvent, text_frame

_connections: Final = metrics.connections.labels("fast")
_opened: Final = metrics.connections_opened.labels("fast")
_PING: Final = Frame(Opcode.PING, b"").serialize(mask=False)
# The attribute of an enumeration is looked up by a call: the usual frame has to pass without.
_TEXT: Final = Opcode.TEXT
_CONT: Final = Opcode.CONT

TURN_BYTES: Final = 8192
"""So much of what one connection's client sent is parsed before others have their turn: at six bytes for an
empty frame some milliseconds. The system hands over 256 KB at once."""
FRAGMENTS_ALLOWED: Final = 256
"""Per message. `max_size` bounds their sum alone, and the rate of commands counts whole messages."""
CONTROL_FRAMES_ALLOWED: Final = 1000
"""Pings and pongs of a client between two pings of ours."""


class DirectConnection(asyncio.Protocol):
    """One open connection: the hub's `Connection` and the transport's protocol in one object.

    `unsent_limit` (bytes) is the transport's high-water mark. The transport tries to write before it says
    that the mark is passed, so a burst that the kernel takes at once makes no connection slow. `leaves_at`:
    when the server is to hand it over, by the loop's clock.
    """

    __slots__ = (
        "__weakref__",
        "_code",
        "_control_frames",
        "_fragment_count",
        "_fragments",
        "_frame_limit",
        "_heard",
        "_held",
        "_open",
        "_parser",
        "_paused",
        "_receiver",
        "_registry",
        "_timer",
        "_turn",
        "_unparsed",
        "closing",
        "leaves_at",
        "transport",
    )

    def __init__(
        self,
        transport: asyncio.Transport,
        receiver: Receiver,
        registry: set["DirectConnection"],
        unsent_limit: int,
        frame_limit: int,
        *,
        leaves_at: float = math.inf,
    ) -> None:
        self.transport = transport
        self.leaves_at = leaves_at
        self._receiver = receiver
        self._registry = registry
        self._frame_limit = frame_limit
        self._open = True  # neither closing nor over the budget: the one thing the hot path asks
        self.closing = False
        self._heard = True
        self._code = close_codes.ABNORMAL
        self._parser: FrameParser | None = None
        self._fragments: bytearray | None = None
        self._fragment_count = 0
        self._control_frames = 0
        self._paused = False  # the consumer takes no more for now
        self._unparsed: memoryview | None = None  # nothing more is read while there is some
        self._turn: asyncio.Handle | None = None
        self._held: dict[str, EncodedEvent] | None = None
        self._timer: asyncio.TimerHandle | None = None
        transport.set_write_buffer_limits(high=unsent_limit)
        registry.add(self)
        _connections.inc()
        _opened.inc()

    # What the hub and the consumer call ------------------------------------------------------------------

    def deliver(self, batch: Batch) -> bool:
        if self._open:
            self.transport.write(batch.joined)
            return True
        if not self.closing:
            self._deliver_over_budget(batch)
        return not self.closing

    def send(self, payload: bytes) -> None:
        if self._open:
            self.transport.write(text_frame(payload))
        elif not self.closing:
            self._evict()

    def close(self, code: int, reason: str = "") -> None:
        if self.closing:
            return
        close = Close(code, reason or close_codes.REASONS.get(code, ""))
        frame = Frame(Opcode.CLOSE, close.serialize()).serialize(mask=False)
        self._begin_closing(code)
        self.transport.write(frame)

    @property
    def releasable(self) -> bool:
        """Whether it is open."""
        return not self.closing

    def release(self, retry_after: float) -> None:
        if self._open:  # a client that is far behind will not read the reason either
            self.transport.write(text_frame(released(retry_after)))
        self.close(close_codes.DRAIN)

    def abort(self, code: int) -> None:
        self._open = False
        self.closing = True
        self._code = code
        self.transport.abort()

    def pause_reading(self) -> None:
        self._paused = True
        self.transport.pause_reading()

    def resume_reading(self) -> None:
        if not self.closing:
            self._read_on()

    # What the server calls -------------------------------------------------------------------------------

    def ping(self) -> None:
        """Ask for a sign of life. No sign since the last time: the connection is cut off."""
        if self.closing:
            return
        if not self._heard and self.transport.is_reading():
            self.abort(close_codes.PONG_TIMEOUT)
            return
        self._heard = False
        self._control_frames = 0
        self.transport.write(_PING)

    def shutdown(self) -> None:
        """The node leaves."""
        self.close(close_codes.DRAIN)

    def cut_off(self) -> None:
        """Whatever it was closed for, its client did not take it in time."""
        if self._code == close_codes.DRAIN:
            metrics.releases_cut_off.inc()
        self.transport.abort()

    # What the transport calls ----------------------------------------------------------------------------

    def pause_writing(self) -> None:
        self._open = False

    def resume_writing(self) -> None:
        if self.closing:
            return
        self._open = True
        if self._held:
            held, self._held = self._held, None
            for event in held.values():
                self.transport.write(event.frame)

    def data_received(self, data: bytes) -> None:
        self._heard = True
        if len(data) > TURN_BYTES:
            self.transport.pause_reading()
            self._unparsed = memoryview(data)
            self._take_turn()
        else:
            self._parse(data)

    def eof_received(self) -> None:
        """The client says no more, and said no close: it failed. What is unsent may still leave."""
        if not self.closing:
            self._begin_closing(close_codes.ABNORMAL)

    def connection_lost(self, exc: Exception | None) -> None:
        self._open = False
        self.closing = True
        if self._timer is not None:
            self._timer.cancel()
        self._registry.discard(self)
        _connections.dec()
        self._receiver.connection_lost(self._code)
        # The consumer holds this connection, the parser its generator: let all go now and not at the next
        # collection.
        del self._receiver
        self._unparsed = None
        if self._parser is not None:
            self._parser.parser.close()

    # Inside ----------------------------------------------------------------------------------------------

    def _take_turn(self) -> None:
        """Parse a part of what is unparsed."""
        self._turn = None
        unparsed = self._unparsed
        if unparsed is None or self._paused:
            return
        self._unparsed = unparsed[TURN_BYTES:] or None
        self._parse(bytes(unparsed[:TURN_BYTES]))
        if not self._paused:
            self._read_on()

    def _read_on(self) -> None:
        self._paused = False
        if self._unparsed is None:
            self.transport.resume_reading()
        elif self._turn is None:
            self._turn = asyncio.get_running_loop().call_soon(self._take_turn)

    def _parse(self, data: bytes) -> None:
        parser = self._parser
        if parser is None:
            parser = self._parser = FrameParser(SERVER, max_size=self._frame_limit)
        parser.receive_data(data)
        for frame in parser.events_received():
            assert isinstance(frame, Frame)
            self._frame_received(frame)
        ended = parser.close_rcvd is not None or parser.parser_exc is not None
        answer = b"".join(parser.data_to_send())
        if answer and self._open:
            self.transport.write(answer)
        elif answer and not self.closing and not ended:
            self._evict()  # it asks, and does not read what it is answered
        if ended:
            self._end(parser)

    def _frame_received(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is not _TEXT or not frame.fin:
            self._count(frame)
        if self.closing:
            return
        if opcode is _TEXT or opcode is _CONT:
            self._take(bytes(frame.data), frame.fin)
        elif opcode is Opcode.BINARY:
            self.close(close_codes.UNSUPPORTED_DATA)

    def _count(self, frame: Frame) -> None:
        """Anything but a message in one frame: those are counted as commands."""
        if not frame.fin:
            self._fragment_count += 1
            if self._fragment_count >= FRAGMENTS_ALLOWED:
                self._flooded(close_codes.TOO_BIG, "too many fragments")
        elif frame.opcode is _CONT:
            self._fragment_count = 0
        elif frame.opcode is Opcode.PING or frame.opcode is Opcode.PONG:
            self._control_frames += 1
            if self._control_frames > CONTROL_FRAMES_ALLOWED:
                self._flooded(close_codes.TOO_MANY_INVALID_FRAMES, "too many pings and pongs")

    def _take(self, part: bytes, last: bool) -> None:
        """Collect a message's fragments; the parser has already bounded their sum."""
        if self._fragments is not None:
            self._fragments += part
            if not last:
                return
            part = bytes(self._fragments)
            self._fragments = None
        elif not last:
            self._fragments = bytearray(part)
            return
        if not part.isascii():
            try:
                part.decode()
            except UnicodeDecodeError:
                self.close(close_codes.INVALID_TEXT)
                return
        self._receiver.frame_received(part)

    def _begin_closing(self, code: int) -> None:
        self._open = False
        self.closing = True
        self._code = code
        self._read_on()  # the client's answer must be seen
        self._timer = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self.cut_off)

    def _flooded(self, code: int, reason: str) -> None:
        """Nothing more is read: our close frame reaches the client, and its answer nobody."""
        self.close(code, reason)
        self.pause_reading()
        self._unparsed = None

    def _end(self, parser: FrameParser) -> None:
        """The peer has closed, answered our close, or broken the protocol: nothing more will be said."""
        if not self.closing:
            close = parser.close_rcvd or parser.close_sent
            self._begin_closing(close.code if close else close_codes.ABNORMAL)
        self.transport.close()

    def _deliver_over_budget(self, batch: Batch) -> None:
        for event in batch.events:
            if event.delivery is Delivery.DURABLE:
                self._evict()
                return
            if event.delivery is Delivery.LATEST:
                if self._held is None:
                    self._held = {}
                self._held[event.key] = event
                metrics.slow_consumers.labels("coalesced").inc()
            else:
                metrics.slow_consumers.labels("dropped").inc()

    def _evict(self) -> None:
        metrics.slow_consumers.labels("closed").inc()
        self.abort(close_codes.SLOW_CONSUMER)
