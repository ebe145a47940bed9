"""Watches over whether this node hears the others, and acts when it is the one that does not.

One task. What it may do is in `deafness`, who is deaf in `hearing`; the database is the witness, and without
its word nothing is done.
"""

import asyncio
import logging
from asyncio import Task
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

from app.database.thread import OutageLog, in_database_thread
from app.observability import metrics
from app.realtime.hearing import is_deaf
from app.realtime.node import Node
from app.serving import witness
from app.serving.deafness import Deafness, State, Step
from app.serving.peers import board, peers
from app.serving.witness import Noted

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
NOTE_SECONDS: Final = 2.0
"""How often the witness is told; at once when the node hears others than before."""
LATE_SECONDS: Final = 2.0
"""An answer that took longer is about a moment that is past."""
FORGET_ROUNDS: Final = 30
FAREWELL_SECONDS: Final = 1.0


class Watch:
    """One node's. `leave(why)` makes it unready and hands its clients over, `come_back()` ends that."""

    def __init__(self, node: Node, leave: Callable[[str], None], come_back: Callable[[], None]) -> None:
        self.deafness = Deafness()
        self._node = node
        self._beacons = node.start_beacons()
        self._leave = leave
        self._come_back = come_back
        self._loop = asyncio.get_running_loop()
        self._witnessed = node.broker.between_processes  # else there is nobody to compare with
        self._notes: list[Noted] | None = None
        self._misses: frozenset[str] = frozenset()
        self._noted_at = float("-inf")
        self._rounds = 0
        self._outage = OutageLog(logger, "the database as a witness of who hears whom")
        self._task: Task[None] = self._loop.create_task(self._run(), name="watch")

    async def stop(self) -> None:
        """The node leaves; the others need not wait for it. A database that is away is not waited for."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        if not self._witnessed:
            return
        try:
            async with asyncio.timeout(FAREWELL_SECONDS):
                await in_database_thread(partial(witness.forget, self._beacons.hearing.me))
        except Exception as error:
            logger.info("nobody could note that this node leaves: %s", error)

    async def _run(self) -> None:
        while True:
            try:
                await self._look()
            except Exception:
                logger.exception("the watch failed to look")
            await asyncio.sleep(LOOK_SECONDS)

    async def _look(self) -> None:
        live = len(self._beacons.look().live)
        misses = self._beacons.misses
        due = misses != self._misses or self._loop.time() - self._noted_at >= NOTE_SECONDS
        if due and self._witnessed:
            self._misses = misses
            await self._ask(live, misses)
        self._show()

    async def _ask(self, live: int, misses: frozenset[str]) -> None:
        """Tell the witness, hear what it knows, and do what is to be done."""
        asked = self._noted_at = self._loop.time()
        self._notes = await self._told(live)
        now = self._loop.time()
        deaf = None
        if self._notes is not None and now - asked <= LATE_SECONDS:
            self._beacons.hearing.noted((one.note.incarnation for one in self._notes), now)
            deaf = is_deaf(self._beacons.hearing.me, [one.note for one in self._notes])
        before = self.deafness.state
        step = self.deafness.judge(deaf, self._beacons.hearing.me not in misses, now)
        if self.deafness.state is not before:
            self._count("noticed" if self.deafness.state is State.DEAF else "healed")
        if step is Step.RECONNECT:
            logger.warning("bus: others hear more than this node, which %s: joining anew", self._why)
            self._node.broker.reconnect()
        elif step is Step.LEAVE:
            if await self._may_leave():
                self._count("left")
                self.deafness.left()
                self._leave(self._why)
            else:
                self._count("stayed")
        elif step is Step.RETURN:
            self._come_back()
            await self._in_database(witness.give_turn_back)
        elif self.deafness.state is State.AWAY:
            await self._may_leave()
        metrics.deaf.set(self.deafness.state is not State.HEARING)

    @property
    def _why(self) -> str:
        return self._beacons.why_unwell or "heard others again just now"

    async def _told(self, live: int) -> list[Noted] | None:
        note = partial(witness.note, self._beacons.own(), self.deafness.state.value, live)
        self._rounds += 1
        try:
            notes = await in_database_thread(note)
            if self._rounds % FORGET_ROUNDS == 1:
                await in_database_thread(witness.forget_old)
        except Exception as error:  # whatever it is: no witness, no verdict
            self._outage.failed(error)
            return None
        self._outage.worked()
        return notes

    async def _may_leave(self) -> bool:
        """Whether the turn is this node's, for a while from now."""
        return bool(await self._in_database(witness.take_turn))

    async def _in_database(self, work: Callable[[str], bool | None]) -> bool | None:
        try:
            return await in_database_thread(partial(work, self._beacons.hearing.me))
        except Exception as error:
            self._outage.failed(error)
            return None

    def _count(self, step: str) -> None:
        metrics.deafness.labels(step).inc()

    def _show(self) -> None:
        told = self._beacons.hearing.beacons.values()
        state, why = self.deafness.state.value, self._beacons.why_unwell
        board.show(peers(self._beacons.own(), state, why, told, self._notes))
