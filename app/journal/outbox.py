"""Moves what foreign code committed to the outbox into its streams: at each nudge, and once a second.

Several nodes may do so at once: by its key an entry gets into its stream once, and each node moves the rows
of a stream in their order. In the transaction that stores an entry its row goes.
"""

import asyncio
import logging
from asyncio import Future, Task
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from app.database.thread import OutageLog
from app.journal import nudges
from app.journal.backend import Backend, RolledBack, Unanswered
from app.journal.entry import Entry, Refused, Stored

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 1.0
MOVED_TOGETHER: Final = 200

Enqueue = Callable[[int, Entry], "Future[Stored]"]
"""Takes a row's number and its entry. Raises `TypeError` for a kind that nobody registered, and `Refused`."""


class OutboxMover:
    """Bound to the running loop. `turn` is held for each use of `backend`."""

    def __init__(self, backend: Backend, turn: asyncio.Lock, enqueue: Enqueue) -> None:
        self._backend = backend
        self._turn = turn
        self._enqueue = enqueue
        self._loop = asyncio.get_running_loop()
        self._nudged = asyncio.Event()
        self._outage = OutageLog(logger, "the outbox")
        self._task: Task[None] | None = None

    def start(self) -> None:
        self._task = self._loop.create_task(self._run(), name="journal outbox")
        nudges.listen(self._nudge)

    async def stop(self) -> None:
        """What was not moved stays for other nodes, or for the next start."""
        nudges.end_listening(self._nudge)
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def _nudge(self) -> None:
        with suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._nudged.set)

    async def _run(self) -> None:
        while True:
            self._nudged.clear()
            try:
                more = await self._move()
                self._outage.worked()
            except (RolledBack, Unanswered) as error:
                more = False
                self._outage.failed(error)
            except Exception:
                more = False
                logger.exception("the outbox was not emptied: the next look tries again")
            if not more:
                with suppress(TimeoutError):
                    async with asyncio.timeout(LOOK_SECONDS):
                        await self._nudged.wait()

    async def _move(self) -> bool:
        """Move the oldest rows; whether there may be more."""
        async with self._turn:
            rows = await self._backend.outbox(MOVED_TOGETHER)
        futures: dict[int, Future[Stored]] = {}
        refused: dict[int, str] = {}
        for row, entry in rows:
            try:
                futures[row] = self._enqueue(row, entry)
            except (TypeError, Refused) as error:
                refused[row] = str(error)
        await asyncio.gather(*futures.values(), return_exceptions=True)
        failures = {row: future.exception() for row, future in futures.items()}
        refused |= {row: str(error) for row, error in failures.items() if isinstance(error, Refused)}
        for row, reason in refused.items():
            async with self._turn:
                if await self._backend.give_up(row, reason):
                    logger.error("row %d of the outbox gets into no stream: %s", row, reason)
        stuck = any(error is not None and not isinstance(error, Refused) for error in failures.values())
        return len(rows) == MOVED_TOGETHER and not stuck
