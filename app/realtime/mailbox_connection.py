"""A connection on any ASGI server: frames wait in a bounded mailbox, one task hands them to `send()`.

Slower than a direct write by a task switch per frame, and the same to everybody above it.
"""

import asyncio
from asyncio import TimerHandle
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from app.observability import metrics
from app.realtime import close_codes
from app.realtime.connection import CLOSE_SECONDS, Batch, Receiver, released
from app.realtime.event import Delivery, EncodedEvent

Send = Callable[[dict[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[dict[str, Any]]]


class MailboxConnection:
    """One connection over ASGI `send`. `unsent_limit` bytes may wait; then an event's class decides.

    Made by the application's task, which is cancelled when nothing more can come of the connection.
    """

    def __init__(self, send: Send, unsent_limit: int) -> None:
        self._send = send
        self._unsent_limit = unsent_limit
        self._unsent = 0
        self._mailbox: deque[bytes] = deque()
        self._held: dict[str, EncodedEvent] = {}
        self._filled = asyncio.Event()
        self._readable = asyncio.Event()
        self._readable.set()
        self._reason = ""
        self._timer: TimerHandle | None = None
        self._application = asyncio.current_task()
        self._sender = asyncio.get_running_loop().create_task(self._send_all())
        self.closing = False
        self.close_code = close_codes.ABNORMAL

    def deliver(self, batch: Batch) -> bool:
        for event in batch.events:
            if self.closing:
                return False
            if self._unsent < self._unsent_limit:
                if event.delivery is Delivery.LATEST:
                    self._held.pop(event.key, None)  # superseded: it must not follow this one
                self._queue(event.payload)
            elif event.delivery is Delivery.DURABLE:
                self._evict()
            elif event.delivery is Delivery.LATEST:
                self._held[event.key] = event
                metrics.slow_consumers.labels("coalesced").inc()
            else:
                metrics.slow_consumers.labels("dropped").inc()
        return not self.closing

    def send(self, payload: bytes) -> None:
        if self.closing:
            return
        if self._unsent < self._unsent_limit:
            self._queue(payload)
        else:
            self._evict()

    def close(self, code: int, reason: str = "") -> None:
        if not self.closing:
            self._begin_closing(code)
            self._reason = reason or close_codes.REASONS.get(code, "")
            self._filled.set()
            self._timer = asyncio.get_running_loop().call_later(CLOSE_SECONDS, self._cut_off)

    def release(self, retry_after: float) -> None:
        if not self.closing and self._unsent < self._unsent_limit:
            self._queue(released(retry_after))
        self.close(close_codes.DRAIN)

    def abort(self, code: int) -> None:
        """ASGI has no abort: the application ends, and with it whatever the server still holds."""
        self._begin_closing(code)
        self._mailbox.clear()
        self._end_application()

    def pause_reading(self) -> None:
        self._readable.clear()

    def resume_reading(self) -> None:
        self._readable.set()

    async def read(self, receive: Receive, receiver: Receiver, frame_limit: int) -> None:
        """Hand what the client says to `receiver`, when frames are wanted, until it is gone."""
        while True:
            await self._readable.wait()
            message = await receive()
            if message["type"] == "websocket.disconnect":
                if not self.closing:
                    self.close_code = message.get("code") or close_codes.ABNORMAL
                return
            if self.closing:
                continue
            text = message.get("text")
            if text is None:
                self.close(close_codes.UNSUPPORTED_DATA)
                continue
            payload = text.encode()
            if len(payload) > frame_limit:
                self.close(close_codes.TOO_BIG)
            else:
                receiver.frame_received(payload)

    async def stop(self) -> None:
        """End the sending task; whatever waits is thrown away."""
        aborted = self.closing and self._timer is None
        self.closing = True
        if self._timer is not None:
            self._timer.cancel()
        self._sender.cancel()
        await asyncio.gather(self._sender, return_exceptions=True)
        if aborted and self.close_code != close_codes.ABNORMAL:
            # Not every server ends a connection with its application: daphne has to be told.
            with suppress(Exception):
                async with asyncio.timeout(CLOSE_SECONDS):
                    await self._send_close()

    def _begin_closing(self, code: int) -> None:
        self.closing = True
        self.close_code = code
        self._held.clear()
        self._readable.set()  # the client's answer, or its end, must be seen

    def _cut_off(self) -> None:
        if self.close_code == close_codes.DRAIN:
            metrics.releases_cut_off.inc()
        self._end_application()

    def _end_application(self) -> None:
        if self._application is not None:
            self._application.cancel()

    def _evict(self) -> None:
        metrics.slow_consumers.labels("closed").inc()
        self.abort(close_codes.SLOW_CONSUMER)

    def _queue(self, payload: bytes) -> None:
        self._unsent += len(payload)
        self._mailbox.append(payload)
        self._filled.set()

    async def _send_all(self) -> None:
        try:
            while not self.closing or self._mailbox:
                await self._filled.wait()
                self._filled.clear()
                while self._mailbox:
                    payload = self._mailbox.popleft()
                    await self._send({"type": "websocket.send", "text": payload.decode()})
                    self._unsent -= len(payload)
                    if not self._mailbox:
                        self._queue_held()
            if self._timer is not None:  # closed, not aborted
                await self._send_close()
        except Exception:  # servers differ in what they raise for a client that has gone
            if not self.closing:
                self.abort(close_codes.ABNORMAL)

    def _queue_held(self) -> None:
        for event in self._held.values():
            self._queue(event.payload)
        self._held.clear()

    async def _send_close(self) -> None:
        close = {"type": "websocket.close", "code": self.close_code, "reason": self._reason}
        try:
            await self._send(close)
        except Exception:
            # daphne lets an application say only 1000 and what begins with 3 or 4.
            await self._send({"type": "websocket.close"})
