"""Moves what foreign code committed to the outbox into its streams: at each nudge, and twice a second.

Several nodes may do so at once: by its key an entry gets into its stream once, and each node moves the rows
of a stream in their order: while some are under way, it reads no more of them. In the transaction that stores
an entry its row goes. Must never let a stream that somebody holds hold up others.

What a later release published is left to its nodes: this one does not know what is to be written beside it.
"""

import asyncio
import logging
from asyncio import Future, Task
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Final

from app.database.thread import OutageLog
from app.journal import nudges
from app.journal.backend import Backend, RolledBack, Unanswered
from app.journal.entry import Entry, Refused, Stored

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 0.5
"""Nobody is nudged for what a shell committed: so it is with everybody within a second all the same."""
MOVED_TOGETHER: Final = 200
MOVED_PER_STREAM: Final = 50

UNDER_WAY: Final = 1000
"""Rows that are with the writer at most, those of streams that somebody holds among them."""

PASSED_OVER_SECONDS: Final = 10.0
"""How long a stream that somebody held is left alone, once there was no room for others for such streams."""

LATER_RELEASE_SECONDS: Final = 4 * 3600.0
"""A kind that is not known here is another release's for so long: also of one whose roll got stuck."""

PATIENCE_SECONDS: Final = 0.2
"""Rows that take longer are waited for no more before those of other streams are read."""

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
        self._under_way: dict[str, dict[int, Future[Stored]]] = {}  # streams, and rows of each in order
        self._left_alone: dict[str, float] = {}  # streams of which no row is read; until when
        self._unknown_kinds: set[str] = set()  # that the log names already
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
        """Move the oldest rows of streams that have none under way; whether there may be more."""
        await self._finish({})
        limit = min(MOVED_TOGETHER, self._room())
        if limit <= 0:
            return False
        now = self._loop.time()
        self._left_alone = {stream: until for stream, until in self._left_alone.items() if until > now}
        async with self._turn:
            rows = await self._backend.outbox(limit, self._under_way.keys() | self._left_alone.keys())
        moving: list[Future[Stored]] = []
        refused: dict[int, str] = {}
        more = len(rows) == limit
        for row, entry in rows:
            if entry.stream in self._left_alone:
                continue
            if len(self._under_way.get(entry.stream, ())) == MOVED_PER_STREAM:
                more = True
                continue
            try:
                moving.append(self._enqueue(row, entry))
                self._under_way.setdefault(entry.stream, {})[row] = moving[-1]
            except TypeError as error:
                if datetime.now(UTC) - entry.at < timedelta(seconds=LATER_RELEASE_SECONDS):
                    self._left_alone[entry.stream] = now + LOOK_SECONDS
                    self._tell(row, entry)
                else:
                    refused[row] = str(error)
            except Refused as error:
                refused[row] = str(error)
        if moving:
            await asyncio.wait(moving, timeout=PATIENCE_SECONDS)
        stuck = await self._finish(refused)
        for stream in {entry.stream for _, entry in rows} & self._under_way.keys():
            last = next(reversed(self._under_way[stream].values()))
            last.add_done_callback(lambda _: self._nudged.set())  # there may be more of this stream
        return more and not stuck

    def _room(self) -> int:
        """How many rows more may be under way."""
        return UNDER_WAY - sum(map(len, self._under_way.values()))

    def _tell(self, row: int, entry: Entry) -> None:
        """Once for each kind: the admin site lists no row that waits."""
        if entry.kind not in self._unknown_kinds:
            self._unknown_kinds.add(entry.kind)
            text = "row %d of the outbox (%s for %s) and what is behind it wait for a node of a later release"
            logger.warning(text, row, entry.kind, entry.stream)

    async def _finish(self, refused: dict[int, str]) -> bool:
        """Give up what was `refused`, now or by the writer; whether it has to try others again."""
        stuck, full = False, self._room() <= 0
        for stream, futures in list(self._under_way.items()):
            if not all(future.done() for future in futures.values()):
                continue
            del self._under_way[stream]
            failures = {row: future.exception() for row, future in futures.items()}
            refused |= {row: str(error) for row, error in failures.items() if isinstance(error, Refused)}
            if any(error is not None and not isinstance(error, Refused) for error in failures.values()):
                stuck = True
                if full:
                    self._left_alone[stream] = self._loop.time() + PASSED_OVER_SECONDS
        for row, reason in refused.items():
            async with self._turn:
                if await self._backend.give_up(row, reason):
                    logger.error("row %d of the outbox gets into no stream: %s", row, reason)
        return stuck
