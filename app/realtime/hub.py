"""Local fan-out: which connections of this node are in which group, and one write for each per tick.

No I/O and no framework: the hub is told when to flush by the `schedule` it is given, and writes to whatever
has a `deliver` method.
"""

from collections import deque
from collections.abc import Callable
from time import perf_counter
from typing import Final, NamedTuple

from app.observability import metrics
from app.realtime.connection import Batch, Subscriber
from app.realtime.event import EncodedEvent

WRITES_PER_TICK: Final = 2_000
"""One turn of the loop writes to so many connections at most (about 10 ms), so that a large group delays
nobody else's command or ping for longer."""


class _Job(NamedTuple):
    """A batch on its way: to the members the group had when the tick ended."""

    group: str
    batch: Batch
    recipients: list[Subscriber]
    started: float


class Hub:
    """The groups of one node. Must be used from one thread only."""

    def __init__(self, schedule: Callable[[Callable[[], None]], object]) -> None:
        self._schedule = schedule
        self._groups: dict[str, dict[Subscriber, None]] = {}
        self._pending: dict[str, list[EncodedEvent]] = {}
        self._jobs: deque[_Job] = deque()
        self._written = 0
        self._scheduled = False

    def subscribe(self, group: str, subscriber: Subscriber) -> bool:
        """Attach `subscriber`: it gets what is published from here on. True if it is the group's first."""
        members = self._groups.get(group)
        if members is None:
            self._groups[group] = {subscriber: None}
            return True
        self._close_batch(group)
        members[subscriber] = None
        return False

    def unsubscribe(self, group: str, subscriber: Subscriber) -> bool:
        """Detach `subscriber`; nothing more is delivered to it. True if the group is empty now."""
        members = self._groups.get(group)
        if members is None or subscriber not in members:
            return False
        del members[subscriber]
        if members:
            return False
        del self._groups[group]
        self._pending.pop(group, None)
        return True

    def publish(self, group: str, event: EncodedEvent) -> None:
        """Deliver `event` to the group's members at the end of this tick."""
        if group not in self._groups:
            return
        pending = self._pending.get(group)
        if pending is None:
            self._pending[group] = [event]
            self._schedule_flush()
        else:
            pending.append(event)

    def members(self, group: str) -> int:
        """How many subscribers `group` has on this node."""
        return len(self._groups.get(group, ()))

    def groups(self) -> int:
        """How many groups have a subscriber on this node."""
        return len(self._groups)

    def _schedule_flush(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._schedule(self._flush)

    def _close_batch(self, group: str) -> None:
        """Fix who gets what is pending: the members of this moment."""
        events = self._pending.pop(group, None)
        if events:
            self._jobs.append(_Job(group, Batch(events), list(self._groups[group]), perf_counter()))

    def _flush(self) -> None:
        self._scheduled = False
        for group in list(self._pending):
            self._close_batch(group)
        budget = WRITES_PER_TICK
        while self._jobs and budget > 0:
            job = self._jobs[0]
            budget -= self._write(job, budget)
        if self._jobs:
            self._schedule_flush()

    def _write(self, job: _Job, budget: int) -> int:
        """Write the job's next part; drop the job when it is through. Returns how many writes it took."""
        start = self._written
        part = job.recipients[start : start + budget]
        members = self._groups.get(job.group, {})
        batch = job.batch
        for subscriber in part:
            if subscriber in members:
                subscriber.deliver(batch)
        self._written = start + len(part)
        if self._written >= len(job.recipients):
            self._jobs.popleft()
            self._written = 0
            metrics.observe_fan_out(
                publishes=len(batch.events),
                recipients=len(job.recipients),
                frame_bytes=len(batch.joined),
                seconds=perf_counter() - job.started,
            )
        return max(1, len(part))
