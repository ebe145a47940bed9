"""Lets connections go, one after the other: each is told when to come back, and closed with 1012.

A client that does not take its leave is nobody's concern here: its connection cuts it off.
"""

import asyncio
import random
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from app.observability import metrics
from app.serving.pace import Pace

STEP_SECONDS: Final = 0.05


class Releasable(Protocol):
    """A connection of the server's that somebody is listening on."""

    releasable: bool
    """Open, and neither closing nor let go yet."""

    def release(self, retry_after: float) -> None:
        """Tell the client when to come back, in seconds, and close."""


class Release:
    """Lets go whoever `connections` has, at `rate` per second; `reason` is the metric's label."""

    def __init__(
        self,
        reason: str,
        connections: Callable[[], Iterable[Releasable]],
        pace: Pace,
        rate: Callable[[], float],
    ) -> None:
        self._pace = pace
        self._connections = connections
        self._rate = rate
        self._released = metrics.connections_released.labels(reason)
        self._waiting: list[Releasable] = []
        self._loop = asyncio.get_running_loop()
        self.released = 0

    async def run(self) -> None:
        """Until nobody is left; who comes meanwhile goes, too."""
        while self.step():  # noqa: ASYNC110  # who is left changes by itself
            await asyncio.sleep(STEP_SECONDS)

    def step(self) -> bool:
        """Let go who is due; False when there was nobody any more."""
        self._waiting = [one for one in self._waiting if one.releasable]
        if not self._waiting:
            self._waiting = [one for one in self._connections() if one.releasable]
            random.shuffle(self._waiting)  # who came together need not leave together
        now, rate, left = self._loop.time(), self._rate(), len(self._waiting)
        for _ in range(self._pace.due(now, left, rate)):
            self._waiting.pop().release(self._pace.retry_after(now, rate))
            self._released.inc()
            self.released += 1
        return left > 0
