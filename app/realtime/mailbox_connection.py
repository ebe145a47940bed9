"""A connection on any ASGI server: frames wait in a bounded mailbox, one task hands them to `send()`.

Slower than a direct write by a task switch per frame, and the same to everybody above it.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from app.observability import metrics
from app.realtime import close_codes
from app.realtime.connection import Batch
from app.realtime.event import Delivery, EncodedEvent

Send = Callable[[dict[str, Any]], Awaitable[None]]


class MailboxConnection:
    """One connection over ASGI `send`. `unsent_limit` bytes may wait; then an event's class decides."""

    def __init__(self, send: Send, unsent_limit: int) -> None:
        self._send = send
        self._unsent_limit = unsent_limit
        self._unsent = 0
        self._mailbox: deque[dict[str, Any]] = deque()
        self._held: dict[str, EncodedEvent] = {}
        self._filled = asyncio.Event()
        self._readable = asyncio.Event()
        self._readable.set()
        self.closing = False
        self.close_code = close_codes.ABNORMAL
        self._application = asyncio.current_task()
        self._sender = asyncio.get_running_loop().create_task(self._send_all())

    def deliver(self, batch: Batch) -> None:
        for event in batch.events:
            if self.closing:
                return
            if self._unsent < self._unsent_limit:
                if event.delivery is Delivery.LATEST:
                    self._held.pop(event.key, None)  # superseded: it must not follow this one
                self._queue_text(event.payload)
            elif event.delivery is Delivery.DURABLE:
                self.abort(close_codes.SLOW_CONSUMER)
            elif event.delivery is Delivery.LATEST:
                self._held[event.key] = event
                metrics.slow_consumers.labels("coalesced").inc()
            else:
                metrics.slow_consumers.labels("dropped").inc()

    def send(self, payload: bytes) -> None:
        if self.closing:
            return
        if self._unsent < self._unsent_limit:
            self._queue_text(payload)
        else:
            self.abort(close_codes.SLOW_CONSUMER)

    def close(self, code: int, reason: str = "") -> None:
        if not self.closing:
            self.closing = True
            self.close_code = code
            self._queue(
                {
                    "type": "websocket.close",
                    "code": code,
                    "reason": reason or close_codes.REASONS.get(code, ""),
                }
            )

    def abort(self, code: int) -> None:
        """ASGI has no abort: the application ends, and with it whatever the server still holds."""
        if code == close_codes.SLOW_CONSUMER:
            metrics.slow_consumers.labels("closed").inc()
        self.closing = True
        self.close_code = code
        self._mailbox.clear()
        if self._application is not None:
            self._application.cancel()

    def pause_reading(self) -> None:
        self._readable.clear()

    def resume_reading(self) -> None:
        self._readable.set()

    async def readable(self) -> None:
        """Wait until frames from the client are wanted."""
        await self._readable.wait()

    async def stop(self) -> None:
        """End the sending task; whatever waits is thrown away."""
        self.closing = True
        self._sender.cancel()
        await asyncio.gather(self._sender, return_exceptions=True)

    def _queue_text(self, payload: bytes) -> None:
        self._unsent += len(payload)
        self._queue({"type": "websocket.send", "text": payload.decode()})

    def _queue(self, message: dict[str, Any]) -> None:
        self._mailbox.append(message)
        self._filled.set()

    async def _send_all(self) -> None:
        while True:
            await self._filled.wait()
            while self._mailbox:
                message = self._mailbox.popleft()
                try:
                    await self._send(message)
                except Exception:  # servers differ in what they raise for a client that has gone
                    self.abort(close_codes.ABNORMAL)
                    return
                self._unsent -= len(message.get("text") or "")
            self._filled.clear()
            self._unsent = 0
            held, self._held = self._held, {}
            for event in held.values():
                self._queue_text(event.payload)
