"""Both kinds of connection, seen from the far end."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

import msgspec

from app.realtime.connection import Batch, Receiver
from app.realtime.consumers import DIRECT_EXTENSION


class Wire:
    """The far end of one connection: what came, and whether the node still reads."""

    def __init__(self) -> None:
        self.frames: list[dict[str, Any]] = []
        self.subprotocol: str | None = None
        self.closed_with: int | None = None
        self.open = False

    def came(self, payload: str | bytes) -> None:
        assert self.closed_with is None, "written to after its close frame"
        self.frames.append(msgspec.json.decode(payload))

    async def connect(self, application: Any, scope: dict[str, Any]) -> None:
        raise NotImplementedError

    def write(self, text: bytes) -> None:
        raise NotImplementedError

    async def lose(self, code: int) -> None:
        raise NotImplementedError


class DirectWire(Wire):
    """The fast path: the consumer is given this as its connection."""

    closing = False

    async def connect(self, application: Any, scope: dict[str, Any]) -> None:
        self._unread: deque[bytes] = deque()
        self._reading = True
        upgrade = application({**scope, "extensions": {DIRECT_EXTENSION: self}}, None, None)
        self._upgrade = asyncio.create_task(upgrade)
        await until(lambda: self.open or self._upgrade.done())
        if self._upgrade.done():
            self._upgrade.result()

    def accept(self, receiver: Receiver, subprotocol: str | None, hello: bytes) -> "DirectWire":
        self._receiver = receiver
        self.subprotocol = subprotocol
        self.open = True
        self.came(hello)
        return self

    def write(self, text: bytes) -> None:
        self._unread.append(text)
        self._read_on()

    async def lose(self, code: int) -> None:
        if self.open:
            self.open, self.closing = False, True
            self._receiver.connection_lost(self.closed_with or code)
            await asyncio.wait([self._upgrade])

    def deliver(self, batch: Batch) -> None:
        for event in batch.events:
            self.send(event.payload)

    def send(self, payload: bytes) -> None:
        if not self.closing:
            self.came(payload)

    def close(self, code: int, reason: str = "") -> None:
        if not self.closing:
            self.closing, self.closed_with = True, code

    def abort(self, code: int) -> None:
        self.close(code)

    def pause_reading(self) -> None:
        self._reading = False

    def resume_reading(self) -> None:
        self._reading = True
        asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        while self._unread and self._reading and not self.closing:
            self._receiver.frame_received(self._unread.popleft())


class MailboxWire(Wire):
    """Any ASGI server."""

    async def connect(self, application: Any, scope: dict[str, Any]) -> None:
        self._inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self._inbox.put_nowait({"type": "websocket.connect"})
        self._application = asyncio.create_task(application(scope, self._inbox.get, self._sent))
        await until(lambda: self.frames or self._application.done())
        if self._application.done():
            self._application.result()

    async def _sent(self, message: dict[str, Any]) -> None:
        if message["type"] == "websocket.accept":
            assert not self.open
            self.open, self.subprotocol = True, message["subprotocol"]
        elif message["type"] == "websocket.send":
            self.came(message["text"])
        else:
            assert message["type"] == "websocket.close"
            assert self.closed_with is None, "closed twice"
            self.closed_with = message["code"]

    def write(self, text: bytes) -> None:
        self._inbox.put_nowait({"type": "websocket.receive", "text": text.decode()})

    async def lose(self, code: int) -> None:
        if self.open:
            self.open = False
            self._inbox.put_nowait({"type": "websocket.disconnect", "code": code})
            async with asyncio.timeout(10):
                await self._application


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110  # none of these conditions is an event
            await asyncio.sleep(0)


async def settle() -> None:
    """Let every task run that can."""
    for _ in range(20):
        await asyncio.sleep(0)
