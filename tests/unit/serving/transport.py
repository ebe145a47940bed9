"""A transport that writes nowhere: what was written stays to be looked at, and it is full when told so."""

import asyncio
from typing import Any

from websockets.frames import Close, Frame, Opcode
from websockets.streams import StreamReader


class FakeTransport(asyncio.Transport):
    """Behaves as a loop's transport does towards its protocol, without a loop."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.limit: int | None = None
        self.closed = self.aborted = False
        self.reading = True
        self.protocol: Any = None
        self._cut_off = asyncio.Event()

    def write(self, data: Any) -> None:
        assert not self.closed, "written to after it was closed"
        self.written.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True
        self._cut_off.set()

    async def cut_off(self) -> None:
        """Wait until somebody aborts it."""
        async with asyncio.timeout(10):
            await self._cut_off.wait()

    def is_closing(self) -> bool:
        return self.closed

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limit = high

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_reading(self) -> bool:
        return self.reading

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def frames(self) -> list[Frame]:
        """What was written, as the client reads it."""
        return parse(b"".join(self.written))

    def texts(self) -> list[str]:
        return [bytes(frame.data).decode() for frame in self.frames() if frame.opcode is Opcode.TEXT]

    def close_codes(self) -> list[int]:
        return [Close.parse(frame.data).code for frame in self.frames() if frame.opcode is Opcode.CLOSE]


def parse(data: bytes) -> list[Frame]:
    """All frames in `data`, as a server sends them; nothing may be left over."""
    reader = StreamReader()
    reader.feed_data(data)
    reader.feed_eof()
    frames = []
    while not _finish(reader.at_eof()):
        frames.append(_finish(Frame.parse(reader.read_exact, mask=False)))
    return frames


def _finish(generator: Any) -> Any:
    """The result of one of the library's generators; all data is there, so it never waits."""
    try:
        next(generator)
    except StopIteration as done:
        return done.value
    raise AssertionError("the last frame is incomplete")


def from_client(opcode: Opcode, data: bytes = b"", fin: bool = True) -> bytes:
    """One frame as a client sends it: masked."""
    return Frame(opcode, data, fin).serialize(mask=True)


class Receiver:
    """A consumer that remembers what it was given."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.lost: list[int] = []

    def frame_received(self, text: bytes) -> None:
        self.received.append(text)

    def connection_lost(self, code: int) -> None:
        self.lost.append(code)
