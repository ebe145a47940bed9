"""Local fan-out: which connections of this node are in which group, and one write for each per tick.

No I/O and no framework: the hub is told when to flush by the `schedule` it is given, and writes to whatever
has a `deliver` method. Order is kept within a group, not between groups.
"""

import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable
from time import perf_counter
from typing import Final

from app.observability import metrics
from app.realtime.connection import Batch, Subscriber
from app.realtime.event import EncodedEvent

WRITES_PER_TICK: Final = 2_000
"""One turn of the loop writes to so many connections at most (about 10 ms), so that a large group delays
nobody else's command or ping for longer."""

logger = logging.getLogger(__name__)


class _Group:
    """Who is in, and what waits. `members` maps each to how many events had been published when it joined,
    so that joining costs the same in a group of any size and needs no copy of it. `changed` is the same
    number for the last that came or went."""

    __slots__ = ("changed", "members", "pending", "published", "since")

    def __init__(self) -> None:
        self.members: dict[Subscriber, int] = {}
        self.pending: list[EncodedEvent] = []
        self.published = self.changed = 0
        self.since = 0.0


class Job:
    """One group's batch on its way to the members that the group had when the batch was closed."""

    __slots__ = ("batch", "bytes", "deliveries", "end", "first", "group", "recipients", "since", "written")

    def __init__(self, group: _Group) -> None:
        self.group = group
        self.batch = Batch(group.pending)
        self.first, self.end = group.published - len(group.pending), group.published
        self.recipients = list(group.members)
        self.since = group.since
        self.written = self.deliveries = self.bytes = 0
        group.pending = []

    def due(self, subscriber: Subscriber) -> Batch | None:
        """What of the batch is for `subscriber`: all, what came after it joined, or nothing."""
        joined = self.group.members.get(subscriber, self.end)
        if joined <= self.first:
            return self.batch
        # At the end: it left, or left and came back since.
        return Batch(self.batch.events[joined - self.first :]) if joined < self.end else None

    def count(self, batch: Batch, writes: int) -> None:
        self.deliveries += writes * len(batch.events)
        self.bytes += writes * len(batch.joined)
        for event in batch.events:
            if event.written is not None:
                event.written(writes)


class Hub:
    """The groups of one node. Must be used from one thread only."""

    def __init__(self, schedule: Callable[[Callable[[], None]], object]) -> None:
        self._schedule = schedule
        self._groups: dict[str, _Group] = {}
        self._pending: dict[_Group, None] = {}
        self._jobs: deque[Job] = deque()
        self._scheduled = False

    def subscribe(self, group: str, subscriber: Subscriber) -> bool:
        """Attach `subscriber`: it gets what is published from here on. True if it is the group's first."""
        entry = self._groups.get(group)
        if entry is not None:
            entry.members.setdefault(subscriber, entry.published)
            entry.changed = entry.published
            return False
        entry = self._groups[group] = _Group()
        entry.members[subscriber] = 0
        metrics.groups.inc()
        return True

    def unsubscribe(self, group: str, subscriber: Subscriber) -> bool:
        """Detach `subscriber`; nothing more is delivered to it. True if the group is empty now."""
        entry = self._groups.get(group)
        if entry is None or entry.members.pop(subscriber, None) is None:
            return False
        entry.changed = entry.published
        if entry.members:
            return False
        # What is pending has no reader left: a group of the same name made later is another one.
        del self._groups[group]
        metrics.groups.dec()
        self._pending.pop(entry, None)
        return True

    def finish(self, group: str, leaving: Collection[Subscriber]) -> bool:
        """Deliver at once what was published so far to those who leave, then detach them. True as in
        `unsubscribe`."""
        entry = self._groups.get(group)
        if entry is None:
            return False
        if entry in self._pending:
            del self._pending[entry]
            self._jobs.append(Job(entry))
        for job in self._jobs:
            if job.group is entry:
                self._write_to(job, set(job.recipients[job.written :]).intersection(leaving))
        emptied = [self.unsubscribe(group, subscriber) for subscriber in leaving]
        return any(emptied)

    def publish(self, group: str, event: EncodedEvent) -> None:
        """Deliver `event` to the group's members at the end of this tick."""
        entry = self._groups.get(group)
        if entry is None:
            return
        if not entry.pending:
            entry.since = perf_counter()
            self._pending[entry] = None
            self._schedule_flush()
        entry.pending.append(event)
        entry.published += 1

    def members(self, group: str) -> int:
        """How many subscribers `group` has on this node."""
        entry = self._groups.get(group)
        return len(entry.members) if entry else 0

    def is_member(self, group: str, subscriber: Subscriber) -> bool:
        """Whether `subscriber` is in `group`."""
        entry = self._groups.get(group)
        return entry is not None and subscriber in entry.members

    def groups(self) -> int:
        """How many groups have a subscriber on this node."""
        return len(self._groups)

    def idle(self) -> bool:
        """Whether everything published was written."""
        return not self._pending and not self._jobs

    def _schedule_flush(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._schedule(self._flush)

    def _flush(self) -> None:
        self._scheduled = False
        budget = WRITES_PER_TICK
        while budget > 0 and not self.idle():
            if not self._jobs:
                # Only now: what is published while earlier jobs are written joins into one batch, so a node
                # that falls behind writes larger batches instead of collecting jobs.
                self._jobs.extend(map(Job, self._pending))
                self._pending.clear()
            budget -= self._write(self._jobs[0], budget)
        if not self.idle():
            self._schedule_flush()

    def _write(self, job: Job, budget: int) -> int:
        """Write the job's next part; drop the job when it is through. Returns how many writes it took."""
        part = job.recipients[job.written : job.written + budget]
        job.written += len(part)
        if job.written == len(job.recipients):
            self._jobs.popleft()
        self._write_to(job, part)
        if job.written == len(job.recipients):
            metrics.observe_fan_out(
                publishes=len(job.batch.events),
                recipients=len(job.recipients),
                deliveries=job.deliveries,
                size=job.bytes,
                seconds=perf_counter() - job.since,
            )
        return max(1, len(part))

    def _write_to(self, job: Job, subscribers: Iterable[Subscriber]) -> None:
        group, first, whole = job.group, job.first, job.batch
        writes = 0
        for subscriber in subscribers:
            # Nobody is looked up as long as nobody came or went: that would cost a cache miss for each.
            batch = whole if group.changed <= first else job.due(subscriber)
            if batch is None:
                continue
            try:
                if subscriber.deliver(batch) is False:
                    continue
            except Exception:
                logger.exception("a subscriber failed to take a batch; the others get theirs")
                continue
            if batch is whole:
                writes += 1
            else:
                job.count(batch, 1)
        job.count(whole, writes)
