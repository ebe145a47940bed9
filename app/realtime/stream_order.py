"""Where one stream is on this node, and what waits there for an event that is missing.

No I/O, no clock, no asyncio. The bus may repeat, drop and reorder: what leaves here is in order, without
holes, each event once. The database has the last word.
"""

from typing import Final

from app.realtime.stream import Reset, StreamEvent, StreamRead

HELD_LIMIT_BYTES: Final = 8 * 2**20
"""What all streams of a node may hold back together. What does not fit is read from the database later."""

EVENT_BYTES: Final = 300
"""What an event takes beside its payload."""

NOWHERE: Final = 2**53
"""Beyond every sequence: who asks for what comes after it is told only where a stream is."""


class HeldBytes:
    """What the streams of one node hold back, in bytes."""

    __slots__ = ("limit", "used")

    def __init__(self, limit: int = HELD_LIMIT_BYTES) -> None:
        self.limit = limit
        self.used = 0


class StreamOrder:
    """The order of one stream. It is nowhere until `start`; till then everything that comes is held.

    `sequence` is the last event that was given out, `known` the last one that was heard of.
    """

    __slots__ = ("_asked", "_doubted", "_held", "_held_bytes", "epoch", "known", "sequence", "started")

    def __init__(self, held_bytes: HeldBytes) -> None:
        self.started = False
        self.epoch = self.sequence = self.known = 0
        self._doubted = False
        self._held: dict[int, StreamEvent] = {}
        self._held_bytes = held_bytes
        self._asked = (0, 0)

    @property
    def behind(self) -> bool:
        """Whether something is missing, or is not as it was thought: only the database knows."""
        return self.known > self.sequence or self._doubted

    def take(self, event: StreamEvent) -> list[StreamEvent]:
        """What may be delivered now that `event` is here, in order."""
        sequence = event.sequence
        if event.epoch != self.epoch and self.started:
            self._doubted = True
            return []
        if sequence <= self.sequence:
            return []
        self.known = max(self.known, sequence)
        if sequence > self.sequence + 1 or not self.started:
            self._hold(event)
            return []
        self.sequence = sequence
        if not self._held:
            return [event]
        self._release(sequence)  # filled from the database while it was held
        return [event, *self._continued()]

    def heard_of(self, sequence: int) -> None:
        """The stream has come so far: somebody read it in the database."""
        self.known = max(self.known, sequence)

    def ask(self) -> int:
        """The sequence whose successors are to be read. `learn` or `start` takes the answer."""
        self._doubted = False
        self._asked = (self.sequence, self.known)
        return self.sequence if self.started else NOWHERE

    def start(self, read: StreamRead) -> list[StreamEvent]:
        """Go on from where the database is. What may be delivered at once: it came since the answer."""
        self.started = True
        self.epoch = read.epoch
        self.sequence = self.known = read.last_sequence
        early = sorted(self._held.values())
        self._forget_held()
        return [ready for event in early for ready in self.take(event)]

    def lags(self, read: StreamRead) -> bool:
        """Whether all that is to learn from `read` is that more has come."""
        return self.started and read.epoch == self.epoch and read.floor <= self.sequence < read.last_sequence

    def learn(self, read: StreamRead) -> list[StreamEvent] | Reset:
        """What may be delivered now, or why nobody can go on: then the order is where the database is."""
        asked, known = self._asked
        if read.epoch != self.epoch:
            reset = Reset.EPOCH
        elif asked > read.last_sequence:
            reset = Reset.AHEAD
        elif read.floor > self.sequence:
            reset = Reset.PURGED
        else:
            if known > read.last_sequence:
                self._disown(read.last_sequence, known)
            self.known = max(self.known, read.last_sequence)
            return [ready for event in read.events for ready in self.take(event)]
        self._forget_held()
        self.start(read)
        return reset

    def end(self) -> None:
        """The stream is no more: nowhere again, until the next `start`."""
        self._forget_held()
        self.started = self._doubted = False
        self.epoch = self.sequence = self.known = 0

    def _hold(self, event: StreamEvent) -> None:
        size = len(event.payload) + EVENT_BYTES
        if event.sequence not in self._held and self._held_bytes.used + size <= self._held_bytes.limit:
            self._held[event.sequence] = event
            self._held_bytes.used += size

    def _release(self, sequence: int) -> StreamEvent | None:
        event = self._held.pop(sequence, None)
        if event is not None:
            self._held_bytes.used -= len(event.payload) + EVENT_BYTES
        return event

    def _continued(self) -> list[StreamEvent]:
        """What was held and follows now."""
        ready = []
        while event := self._release(self.sequence + 1):
            ready.append(event)
            self.sequence += 1
        return ready

    def _disown(self, last: int, known: int) -> None:
        """What was heard of before the question and is not stored never was: a database lost it."""
        for sequence in [held for held in self._held if last < held <= known]:
            self._release(sequence)
        self.known = max(self._held, default=self.sequence)

    def _forget_held(self) -> None:
        for sequence in list(self._held):
            self._release(sequence)
