"""A WebSocket client of bytes: it can say what no polite client says, and sees every frame as it came."""

import asyncio
import json
import socket
import struct
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from websockets.frames import Close, Frame, Opcode

HOST = "127.0.0.1"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
PATIENCE = 60.0
"""Seconds until a test gives up; a busy machine is no failure."""


def upgrade_request(path: str, **fields: str | None) -> bytes:
    """An upgrade request; a keyword adds or replaces a header, None leaves it out."""
    headers: dict[str, str | None] = {
        "Host": HOST,
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Key": KEY,
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Protocol": "carillon.v1",
    }
    headers |= {name.replace("_", "-"): value for name, value in fields.items()}
    lines = [f"{name}: {value}" for name, value in headers.items() if value is not None]
    return "\r\n".join([f"GET {path} HTTP/1.1", *lines, "", ""]).encode()


class Client:
    """One TCP connection, upgraded or about to be."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.events: list[dict[str, Any]] = []
        self._last_id = 0

    @classmethod
    async def open(cls, port: int) -> Self:
        """Connected, and nothing said."""
        async with asyncio.timeout(PATIENCE):
            return cls(*await asyncio.open_connection(HOST, port))

    @classmethod
    async def connect(cls, port: int, path: str) -> Self:
        """Upgraded; hello is the next frame."""
        client = await cls.open(port)
        client.write(upgrade_request(path))
        status, _ = await client.response()
        assert status.startswith("HTTP/1.1 101 "), status
        return client

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.writer.transport.abort()

    # What it says ----------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        self.writer.write(data)

    def frame(self, opcode: Opcode, data: bytes = b"", fin: bool = True) -> None:
        self.write(Frame(opcode, data, fin).serialize(mask=True))

    def send(self, name: str, **data: Any) -> int:
        """One command; returns its id."""
        self._last_id += 1
        text = json.dumps({"id": self._last_id, "command": name, "data": data})
        self.frame(Opcode.TEXT, text.encode())
        return self._last_id

    def reset(self) -> None:
        """Vanish as a machine does that lost its memory: RST instead of FIN."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    # What it hears ---------------------------------------------------------------------------------------

    async def response(self) -> tuple[str, dict[str, str]]:
        """The status line and headers of an HTTP response."""
        async with asyncio.timeout(PATIENCE):
            head = await self.reader.readuntil(b"\r\n\r\n")
        status, *lines = head.decode().rstrip().split("\r\n")
        return status, {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}

    async def hear(self) -> tuple[Opcode, bytes]:
        """The next frame. Raises IncompleteReadError at the end of the connection."""
        async with asyncio.timeout(PATIENCE):
            first, size = await self.reader.readexactly(2)
            assert first & 0xF0 == 0x80, "a fragment, or an extension that was not agreed"
            if size == 126:
                (size,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif size == 127:
                (size,) = struct.unpack("!Q", await self.reader.readexactly(8))
            assert size < 2**40, "masked"
            return Opcode(first & 0x0F), await self.reader.readexactly(size)

    async def message(self) -> dict[str, Any]:
        """The next text frame; it must be the next frame of all but a ping, which is answered."""
        while True:
            opcode, data = await self.hear()
            if opcode is Opcode.PING:
                self.frame(Opcode.PONG, data)
                continue
            assert opcode is Opcode.TEXT, (opcode, data)
            message: dict[str, Any] = json.loads(data)
            return message

    async def hello(self) -> dict[str, Any]:
        message = await self.message()
        assert message["event"] == "hello", message
        data: dict[str, Any] = message["data"]
        return data

    async def answer(self, command_id: int) -> dict[str, Any]:
        """The answer to a command; events before it are kept in `events`."""
        while True:
            message = await self.message()
            if message.get("id") == command_id:
                return message
            assert "event" in message, message
            self.events.append(message)

    async def command(self, name: str, **data: Any) -> Any:
        """The reply to a command."""
        answer = await self.answer(self.send(name, **data))
        assert "reply" in answer, answer
        return answer["reply"]

    async def event(self) -> dict[str, Any]:
        """The next event."""
        if self.events:
            return self.events.pop(0)
        message = await self.message()
        assert "event" in message, message
        return message

    async def closed(self) -> int:
        """The code of the close frame; whatever comes before it is thrown away, nothing may come behind."""
        while True:
            opcode, data = await self.hear()
            if opcode is Opcode.CLOSE:
                return Close.parse(data).code

    async def ended(self) -> None:
        """The connection ends, without another byte. An abrupt end is one."""
        async with asyncio.timeout(PATIENCE):
            with suppress(ConnectionError):
                assert await self.reader.read() == b"", "bytes behind the close frame"
