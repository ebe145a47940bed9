"""The connection of a consumer that is none of ours, on any server: for it to be closed from outside, too.

It is closed by an ASGI message between the consumer's own; the consumer sees its client go.
"""

import asyncio
from asyncio import Task
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from app.realtime.close_codes import REASONS

Send = Callable[[Any], Awaitable[None]]


class StockConnection:
    """`on_accept` is called with it when the consumer has accepted, unless somebody emptied the list."""

    def __init__(self, send: Send, on_accept: "list[Callable[[StockConnection], object]]") -> None:
        self._send = send
        self._on_accept = on_accept
        self._closing: Task[None] | None = None
        self.closing = False

    async def send(self, message: Any) -> None:
        """The consumer's ASGI send. What it says behind a close from outside goes nowhere."""
        if self.closing:
            return
        await self._send(message)
        if message["type"] == "websocket.close":  # not before: a server that refuses a code is told another
            self.closing = True
        elif message["type"] == "websocket.accept":
            for callback in self._on_accept:
                callback(self)

    def close(self, code: int) -> None:
        """Close, soon."""
        if not self.closing:
            self.closing = True
            self._closing = asyncio.create_task(self._close(code))

    async def _close(self, code: int) -> None:
        with suppress(Exception):  # servers differ in what they raise for a client that has gone
            await self._send({"type": "websocket.close", "code": code, "reason": REASONS[code]})
