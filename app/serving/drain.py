"""A node's leave of its connections, from the signal to the last one. Whatever they do, it comes to an end.

The node stays on the bus meanwhile: what is published reaches whoever is still here.
"""

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Final

from django.conf import settings

from app.observability import metrics
from app.realtime.beacons import Beacons
from app.serving.headroom import UNMEASURED_PER_SECOND
from app.serving.pace import Pace, share
from app.serving.release import STEP_SECONDS, Releasable, Release

logger = logging.getLogger(__name__)


class Drain:
    """One node's: `wait_for_notice`, then `let_go`. `hurry` at any time, also from a signal's handler."""

    def __init__(self, beacons: Beacons, connections: Callable[[], Iterable[Releasable]]) -> None:
        self._beacons = beacons
        self._connections = connections
        self._hurried = False
        self._began: float | None = None
        self._pace: Pace | None = None
        self._release: Release | None = None
        self._let_go = False
        self._now: Final = asyncio.get_running_loop().time

    def hurry(self) -> None:
        """Wait for nothing: let everybody go now."""
        self._hurried = True
        if self._pace is not None:
            self._pace.hurry()

    async def wait_for_notice(self) -> None:
        """The others hear at once that this node leaves; who sends clients here may need longer."""
        self._began = self._now()
        metrics.draining.set(1)
        self._beacons.draining = True
        self._beacons.speak()
        until = self._began + settings.DRAIN_NOTICE_SECONDS
        while not self._hurried and self._now() < until:  # noqa: ASYNC110  # a signal's handler sets it
            await asyncio.sleep(STEP_SECONDS)

    async def let_go(self) -> None:
        """Until every connection was told to leave, within DRAIN_SECONDS."""
        began = self._now()
        self._pace = Pace(began, settings.DRAIN_SECONDS)
        self._release = Release("drain", self._connections, self._pace, self._rate)
        if self._hurried:
            self._pace.hurry()
        await self._release.run()
        logger.info(
            "let %d connections go in %.1f s%s",
            self._release.released,
            self._now() - began,
            ": more of them than the others can take, DRAIN_SECONDS was over" if self._pace.forced else "",
        )
        self._let_go = True
        self._pace.hurry()

    def tick(self) -> None:
        """Called now and then until the end: who was still on the way in goes, too."""
        if self._began is not None:
            metrics.drain_seconds.set(self._now() - self._began)
        if self._pace is not None and self._release is not None:
            metrics.drain_out_of_time.set(self._pace.forced)
            if self._let_go:
                self._release.step()

    def _rate(self) -> float:
        unknown = min(settings.ACCEPT_PER_SECOND, UNMEASURED_PER_SECOND)
        return share(self._beacons.own(), self._beacons.heard_now(), unknown)
