"""The broker for one process: tests, and a node that has no Redis configured.

Nodes of one process hear each other; nothing leaves the process.
"""

import asyncio
from asyncio import Future
from typing import ClassVar

from app.realtime.broker import Broker, Deliver, StateChanged


class MemoryBroker(Broker):
    """Hands every publish to the process' other memory brokers at the end of the tick, like a bus would."""

    between_processes = False

    _brokers: ClassVar[list["MemoryBroker"]] = []
    """Those that are started, of all loops and threads."""

    def __init__(self) -> None:
        self._groups: set[str] = set()
        self._inbox: list[tuple[str, bytes]] = []
        self._started = False

    def start(self, deliver: Deliver, state_changed: StateChanged) -> None:
        self._loop = asyncio.get_running_loop()
        self._deliver = deliver
        self._started = True
        self._brokers.append(self)
        state_changed(True)

    async def stop(self) -> None:
        self._started = False
        self._brokers.remove(self)

    @property
    def connected(self) -> bool:
        return self._started

    def publish(self, group: str, data: bytes) -> bool:
        for broker in list(self._brokers):
            if broker._loop is self._loop:
                broker._take(group, data)
            else:
                broker._loop.call_soon_threadsafe(broker._take, group, data)
        return True

    def subscribe(self, group: str) -> "Future[None]":
        self._groups.add(group)
        done: Future[None] = self._loop.create_future()
        done.set_result(None)
        return done

    def unsubscribe(self, group: str) -> None:
        self._groups.discard(group)

    async def flush(self, timeout: float) -> None:
        await asyncio.sleep(0)

    def _take(self, group: str, data: bytes) -> None:
        """What one tick brings is delivered together, as one read from a socket would be."""
        if group not in self._groups:
            return
        if not self._inbox:
            self._loop.call_soon(self._hand_over)
        self._inbox.append((group, data))

    def _hand_over(self) -> None:
        inbox, self._inbox = self._inbox, []
        if self._started:
            self._deliver([(group, data) for group, data in inbox if group in self._groups])
