"""One node's way into the journal: entries queue up, go to the database in batches, and are answered.

Must never hold more than its bounds, answer an entry before the commit, or let one bad entry harm another.
"""

import asyncio
import logging
import time
from asyncio import Future, Task, TimerHandle
from collections import deque
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from django.conf import settings

from app.database.thread import OutageLog
from app.journal import kinds
from app.journal.backend import Backend, BadData, RolledBack, StreamLocked, Unanswered
from app.journal.databases import own_backend
from app.journal.entry import (
    Busy,
    Entry,
    EventKind,
    OutcomeUnknown,
    Refused,
    Stored,
    check_key,
    check_size,
)
from app.journal.outbox import OutboxMover
from app.observability import metrics
from app.realtime.stream import StreamEvent

logger = logging.getLogger(__name__)

BATCH_BYTES: Final = 2**20
"""Payloads of one batch, about."""

RETRY_SECONDS: Final = 0.05
RETRY_LIMIT_SECONDS: Final = 1.0
"""Between two tries of a batch that was rolled back: the first pause, and the longest."""

HELD_SECONDS: Final = 0.1
"""How long a stream that somebody holds is left alone, once a batch waited for its lock in vain."""

STOP_SECONDS: Final = 5.0


class Bounds(NamedTuple):
    """What may wait: entries, bytes of their payloads, for so many seconds. And the entries of a batch."""

    entries: int
    size: int
    seconds: float
    batch: int


class _Waiting(NamedTuple):
    entry: Entry
    future: "Future[Stored]"
    since: float
    alone: bool
    row: int = 0
    """Where it is in the outbox, if it came from there."""

    def breaks_off(self, streams: Collection[str]) -> bool:
        """Whether it is of the outbox and would overtake what failed in one of `streams`."""
        return bool(self.row) and self.entry.stream in streams


Commit = Callable[[list[tuple[str, StreamEvent]]], None]
"""Takes what was newly stored, in order, before anybody is answered. Must not block."""


class Writer:
    """Bound to the running loop. One batch is at the database while the next one collects.

    `now` is the Unix time in seconds by which keys are judged.
    """

    def __init__(
        self,
        commit: Commit,
        backend: Backend | None = None,
        bounds: Bounds | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._commit = commit
        self._backend = backend or own_backend()
        self._bounds = bounds or Bounds(
            settings.JOURNAL_QUEUE_ENTRIES,
            settings.JOURNAL_QUEUE_BYTES,
            settings.JOURNAL_QUEUE_SECONDS,
            settings.JOURNAL_BATCH_ENTRIES,
        )
        self._now = now
        self._loop = asyncio.get_running_loop()
        self._queue: deque[_Waiting] = deque()
        self._size = 0
        self._wake = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._task: Task[None] | None = None
        self._left: list[_Waiting] = []
        self._broken_off: set[str] = set()  # streams of which a row of the outbox failed with this batch
        self._held: dict[str, float] = {}
        self._patient = True
        self._turn = asyncio.Lock()
        self._outbox = OutboxMover(self._backend, self._turn, self._append_row)
        self._expiry: TimerHandle | None = None
        self._stopped = False
        self._outage = OutageLog(logger, "the journal's database")
        self._batch_seconds = 0.0

    def start(self) -> None:
        """Begin to store; until then entries wait."""
        self._task = self._loop.create_task(self._run(), name="journal writer")
        metrics.journal_waiting.set_function(lambda: len(self._queue))
        self._outbox.start()

    def append(self, entry: Entry) -> "Future[Stored]":
        """Store `entry`. The future has `Stored`, or raises `Refused`, `Busy` or `OutcomeUnknown`.

        Raises `Refused` and `Busy` at once where that is known, `TypeError` for a kind that nobody
        registered. Of one stream, what is appended first gets the lower sequence.
        """
        kind = kinds.kind(entry.kind)
        check_key(entry.key, self._now())
        check_size(entry.payload)
        size = self._size + len(entry.payload)
        full = len(self._queue) >= self._bounds.entries or size > self._bounds.size
        if self._stopped or (full and self._queue):
            metrics.journal_entries.labels("busy").inc()
            raise Busy(self._retry_after())
        return self._enqueue(entry, kind)

    def _append_row(self, row: int, entry: Entry) -> "Future[Stored]":
        check_size(entry.payload)
        # However old its key is: nobody sends it again.
        return self._enqueue(entry, kinds.kind(entry.kind), row)

    def _enqueue(self, entry: Entry, kind: EventKind, row: int = 0) -> "Future[Stored]":
        future: Future[Stored] = self._loop.create_future()
        self._queue.append(_Waiting(entry, future, self._loop.time(), kind.alone, row))
        self._size += len(entry.payload)
        if self._expiry is None:
            self._expiry = self._loop.call_later(self._bounds.seconds, self._expire)
        self._idle.clear()
        self._wake.set()
        return future

    async def flush(self) -> None:
        """Until nothing waits and nothing is at the database."""
        await self._idle.wait()

    async def stop(self) -> None:
        """Store what waits, for a few seconds at most; what is left was never sent (`Busy`)."""
        self._stopped = True
        await self._outbox.stop()
        if self._task is not None:
            with suppress(TimeoutError):
                async with asyncio.timeout(STOP_SECONDS):
                    await self.flush()
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        if self._expiry is not None:
            self._expiry.cancel()
        self._give_up(self._queue)
        self._queue.clear()
        self._size = 0
        await self._backend.close()

    # --- Inside ------------------------------------------------------------------------------------------

    def _expire(self) -> None:
        """Answer those who have waited too long: what is at the database may hang there for longer."""
        now, expired = self._loop.time(), []
        while self._queue and now - self._queue[0].since >= self._bounds.seconds:
            expired.append(self._queue.popleft())
        self._size -= sum(len(waiting.entry.payload) for waiting in expired)
        self._give_up(expired)
        self._expiry = None
        if self._queue:
            pause = self._queue[0].since + self._bounds.seconds - now
            self._expiry = self._loop.call_later(pause, self._expire)

    async def _run(self) -> None:
        while True:
            while not self._queue:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
            batch = self._take_batch()
            if not batch:
                await asyncio.sleep(RETRY_SECONDS)
                continue
            metrics.journal_batch_entries.observe(len(batch))
            try:
                await self._store_in_time(batch)
            except asyncio.CancelledError:
                self._fail(batch, lambda: OutcomeUnknown("the node stops"), "unknown")
                raise
            except Exception:
                logger.exception("the writer failed with a batch of %d", len(batch))
                self._fail(batch, lambda: OutcomeUnknown("the node failed"), "unknown")

    def _take_batch(self) -> list[_Waiting]:
        """As much as fits, in order: what may not be in it, and all behind it in its stream, stays."""
        batch: list[_Waiting] = []
        kept: list[_Waiting] = []
        keys, streams = set(), set()
        now = self._loop.time()
        self._held = {name: until for name, until in self._held.items() if until > now - self._bounds.seconds}
        closed = {name for name, until in self._held.items() if until > now}
        size = 0
        queue, limit = self._queue, self._bounds.batch
        while queue and len(batch) < limit and size < BATCH_BYTES:
            waiting = queue.popleft()
            entry = waiting.entry
            stream = entry.stream
            if stream in closed or entry.key in keys or (waiting.alone and stream in streams):
                closed.add(stream)
                kept.append(waiting)
                continue
            batch.append(waiting)
            keys.add(entry.key)
            streams.add(stream)
            size += len(entry.payload)
            if waiting.alone:
                closed.add(stream)
        queue.extendleft(reversed(kept))
        self._size -= size
        return batch

    async def _store_in_time(self, batch: list[_Waiting]) -> None:
        """Store it, try again after what certainly rolled back, until its first entry waited too long."""
        deadline = batch[0].since + self._bounds.seconds
        pause = RETRY_SECONDS
        self._broken_off.clear()
        try:
            while True:
                try:
                    await self._store(batch)
                except RolledBack as error:
                    self._patient = self._patient and not isinstance(error, StreamLocked)
                    self._outage.failed(error)
                    metrics.journal_retries.inc()
                    left = {id(waiting) for waiting in self._left}
                    batch = [each for each in batch if not each.future.done() and id(each) not in left]
                    if self._loop.time() + pause > deadline:
                        self._give_up(batch)
                        return
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, RETRY_LIMIT_SECONDS)
                else:
                    self._patient = not (self._left or self._held)
                    return
        finally:
            self._put_back()

    def _put_back(self) -> None:
        """What is left is first again, but not before a moment: other streams go on meanwhile."""
        until = self._loop.time() + HELD_SECONDS
        self._held |= {waiting.entry.stream: until for waiting in self._left}
        self._queue.extendleft(reversed(self._left))
        self._size += sum(len(waiting.entry.payload) for waiting in self._left)
        self._left = []
        if self._queue and self._expiry is None:
            self._expiry = self._loop.call_later(self._bounds.seconds, self._expire)

    async def _store(self, batch: Sequence[_Waiting], *, again: bool = True) -> None:
        """Answer all of `batch` but what stands in streams that somebody holds, which is left.

        Halves it when the database does not take it. Raises `RolledBack`.
        """
        overtaking = [waiting for waiting in batch if waiting.breaks_off(self._broken_off)]
        if overtaking:
            self._give_up(overtaking)
            batch = [waiting for waiting in batch if not waiting.breaks_off(self._broken_off)]
        held = {waiting.entry.stream for waiting in self._left}
        if held:
            self._left += [waiting for waiting in batch if waiting.entry.stream in held]
            batch = [waiting for waiting in batch if waiting.entry.stream not in held]
        if not batch:
            return
        began = self._loop.time()
        try:
            async with self._turn:
                answers = await self._backend.store(
                    [waiting.entry for waiting in batch],
                    [waiting.row for waiting in batch if waiting.row],
                    wait=self._patient,
                )
        except BadData as error:
            if len(batch) > 1:
                middle = len(batch) // 2
                await self._store(batch[:middle])
                await self._store(batch[middle:])
            elif again:
                # It may have met what somebody else stored in the same moment, and will see it now.
                await self._store(batch, again=False)
            else:
                [waiting] = batch
                why = "this cannot be stored"
                if waiting.row:  # its failure is for the operator, and told by one node
                    why = f"{why}: {error}"
                else:
                    entry = waiting.entry
                    logger.error("%s for %s cannot be stored: %s", entry.kind, entry.stream, error)
                self._fail(batch, lambda: Refused("internal_error", why), "refused")
        except Unanswered as error:
            self._outage.failed(error)
            text = str(error)
            self._fail(batch, lambda: OutcomeUnknown(text), "unknown")
        else:
            self._outage.worked()
            self._batch_seconds = self._loop.time() - began
            metrics.journal_seconds.labels("store").observe(self._batch_seconds)
            metrics.journal_seconds.labels("wait").observe(began - batch[0].since)
            self._answer(batch, answers)

    def _answer(self, batch: Sequence[_Waiting], answers: Sequence[Stored | Refused | None]) -> None:
        events = [
            (
                entry.stream,
                StreamEvent(epoch, sequence, entry.payload, entry.removes, entry.at.timestamp(), local=True),
            )
            for (entry, *_), answer in zip(batch, answers, strict=True)
            if isinstance(answer, Stored) and not answer.repeated
            for epoch, sequence in [(answer.position.epoch, answer.position.sequence)]
        ]
        if events:
            try:
                self._commit(events)
            except Exception:
                logger.exception("%d stored events were not handed on: the sweep will find them", len(events))
        repeated = refused = 0
        for waiting, answer in zip(batch, answers, strict=True):
            if answer is None:
                self._left.append(waiting)
                continue
            if self._held:
                self._held.pop(waiting.entry.stream, None)
            if isinstance(answer, Refused):
                refused += 1
            elif answer.repeated:
                repeated += 1
            if waiting.future.done():  # nobody waits for it any more
                continue
            if isinstance(answer, Refused):
                _refuse(waiting.future, answer)
            else:
                waiting.future.set_result(answer)
        metrics.journal_entries.labels("stored").inc(len(events))
        metrics.journal_entries.labels("repeated").inc(repeated)
        metrics.journal_entries.labels("refused").inc(refused)

    def _give_up(self, batch: Collection[_Waiting]) -> None:
        retry_after = self._retry_after()
        self._fail(batch, lambda: Busy(retry_after), "busy")

    def _fail(self, batch: Collection[_Waiting], error: Callable[[], Exception], outcome: str) -> None:
        for waiting in batch:
            if not waiting.future.done():
                _refuse(waiting.future, error())
        metrics.journal_entries.labels(outcome).inc(len(batch))
        streams = {waiting.entry.stream for waiting in batch if waiting.row}
        if outcome != "refused" and streams:
            # Later rows of the outbox must not overtake these: all of their streams are read again. What
            # waits goes here, what is in the batch under way before it gets to the database.
            self._broken_off |= streams
            later = [waiting for waiting in self._queue if waiting.breaks_off(streams)]
            self._queue = deque(waiting for waiting in self._queue if not waiting.breaks_off(streams))
            self._size -= sum(len(waiting.entry.payload) for waiting in later)
            self._give_up(later)

    def _retry_after(self) -> float:
        """When what waits now should be stored."""
        batches = 1 + len(self._queue) / self._bounds.batch
        return round(min(max(0.2, batches * self._batch_seconds), self._bounds.seconds), 1)


def _refuse(future: "Future[Stored]", error: Exception) -> None:
    future.set_exception(error)
    future.exception()  # who asked may be gone: nobody is to be told that nobody looked
