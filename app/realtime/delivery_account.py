"""What became of recent events on this node: how many were to get each, did, said so, or got it later.

In memory and bounded in bytes: what is older is forgotten, and nothing depends on it. No I/O. An event costs
the same whatever the number of connections, and a connection that confirms the same whatever it confirms.
"""

from array import array
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, NamedTuple

from app.observability import event_ages, metrics

KEPT_EVENTS: Final = 1_000
"""The latest of each stream, at least as long as there is room for them."""
_SLACK: Final = 250
"""So many more may be there: to forget is cheaper many at a time."""
_STEP: Final = 50
"""Rows are made so many at a time."""
KEPT_SECONDS: Final = 600.0
"""A stream that had no news for so long is forgotten. A client confirms within `PING_SECONDS`."""
KEPT_BYTES: Final = 8 * 2**20
"""All streams together; then the ones without news for longest are forgotten."""
_ROW_BYTES: Final = 4 * 4 + 4  # four columns of four bytes, and what arrays take in advance
_STREAM_BYTES: Final = 1_200

_expected: Final = metrics.deliveries.labels("expected")
_written: Final = metrics.deliveries.labels("written")
_confirmed: Final = metrics.deliveries.labels("confirmed")
_recovered: Final = metrics.deliveries.labels("recovered")


class Tally(NamedTuple):
    """Of one event on one node, in connections."""

    expected: int
    """They followed the stream when the event came."""
    written: int
    """It was handed to them, then; the others were closed, or went meanwhile."""
    confirmed: int
    """They said that they have it, and everything before it; whenever they got it."""
    recovered: int
    """It was written to them when they came back."""


class _StreamAccount:
    """Of one life of one stream: a row for each of its latest sequences."""

    __slots__ = ("_confirmed", "_expected", "_recovered", "_start", "_written", "epoch", "touched")

    def __init__(self, epoch: int, sequence: int) -> None:
        self.epoch = epoch
        self.touched = 0.0
        self._start = sequence
        self._expected = array("I")
        self._written = array("I")
        # These two have only what changes from one row to the next, so that who confirms a thousand events at
        # once changes two numbers.
        self._confirmed = array("i")
        self._recovered = array("i")

    @property
    def size(self) -> int:
        """Bytes, about."""
        return _STREAM_BYTES + _ROW_BYTES * len(self._expected)

    def given(self, sequence: int, expected: int, at: float, local: bool) -> Callable[[int], None]:
        row = self._row(sequence)
        if row >= 0:
            self._expected[row] = expected
        _expected.inc(expected)

        def written(connections: int) -> None:
            row = sequence - self._start
            if row >= 0:  # else it is forgotten
                self._written[row] += connections
            _written.inc(connections)
            event_ages.SOCKET.reached(at, local=local, times=connections)

        return written

    def confirmed(self, first: int, last: int) -> None:
        self._span(self._confirmed, first, last)
        _confirmed.inc(last - first + 1)

    def recovered(self, first: int, last: int) -> None:
        self._span(self._recovered, first, last)
        _recovered.inc(last - first + 1)

    def tally(self, sequence: int) -> Tally | None:
        row = sequence - self._start
        if not 0 <= row < len(self._expected):
            return None
        tally = Tally(
            self._expected[row],
            self._written[row],
            sum(self._confirmed[: row + 1]),
            sum(self._recovered[: row + 1]),
        )
        return tally if any(tally) else None

    def _span(self, column: "array[int]", first: int, last: int) -> None:
        self._row(last + 1)
        oldest = self._start + len(self._expected) - KEPT_EVENTS - _STEP
        self._row(max(first, oldest))
        column[max(0, first - self._start)] += 1
        column[max(0, last + 1 - self._start)] -= 1

    def _row(self, sequence: int) -> int:
        """Where this one is, made if it is not there; negative: it is too old to be kept."""
        row = sequence - self._start
        rows = len(self._expected)
        if row >= rows:
            if row > rows + KEPT_EVENTS:  # nobody was here meanwhile
                self._forget(rows)
                self._start = sequence
                row = rows = 0
            self._grow(rows, row - rows + _STEP)
            if row > KEPT_EVENTS + _SLACK:
                self._forget(row - KEPT_EVENTS)
                row = KEPT_EVENTS
        elif row < 0 and rows - row <= KEPT_EVENTS + _STEP:  # never where some were forgotten already
            self._grow(0, -row)
            self._start = sequence
            row = 0
        return row

    def _grow(self, at: int, rows: int) -> None:
        empty = bytes(4 * rows)
        for column in (self._expected, self._written):
            column[at:at] = array("I", empty)
        for changes in (self._confirmed, self._recovered):
            changes[at:at] = array("i", empty)

    def _forget(self, rows: int) -> None:
        """The oldest ones."""
        for changes in (self._confirmed, self._recovered):
            if rows < len(changes):
                changes[rows] += sum(changes[:rows])
        for column in (self._expected, self._written, self._confirmed, self._recovered):
            del column[:rows]
        self._start += rows


class DeliveryAccount:
    """Of all streams of a node. `clock` tells seconds. Epochs and sequences are what they are in `stream`."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.bytes = 0
        self._clock = clock
        self._streams: OrderedDict[str, _StreamAccount] = OrderedDict()
        """The one with the latest news is the last."""

    def given(
        self, stream: str, epoch: int, sequence: int, expected: int, *, at: float = 0.0, local: bool = False
    ) -> Callable[[int], None]:
        """The event goes to `expected` connections; what is returned takes how many it was written to.

        `at` and `local` as in `StreamEvent`.
        """
        account = self._of(stream, epoch, sequence)
        written = account.given(sequence, expected, at, local)
        self._noted(account)
        return written

    def confirmed(self, stream: str, epoch: int, first: int, last: int) -> None:
        """One connection said that it has `first` to `last`."""
        account = self._of(stream, epoch, last)
        account.confirmed(first, last)
        self._noted(account)

    def recovered(self, stream: str, epoch: int, first: int, last: int) -> None:
        """One connection came back, and was written `first` to `last`."""
        account = self._of(stream, epoch, last)
        account.recovered(first, last)
        self._noted(account)

    def tally(self, stream: str, sequence: int, epoch: int | None = None) -> Tally | None:
        """What is known of this event; None: nothing. `epoch` None: of the life that was last heard of."""
        self._forget_old()
        account = self._streams.get(stream)
        if account is None or epoch not in (None, account.epoch):
            return None
        return account.tally(sequence)

    def _of(self, stream: str, epoch: int, sequence: int) -> _StreamAccount:
        """The stream's account, now the last one; until `_noted` its bytes are not counted."""
        account = self._streams.get(stream)
        if account is not None:
            self.bytes -= account.size
            self._streams.move_to_end(stream)
        if account is None or account.epoch != epoch:
            account = self._streams[stream] = _StreamAccount(epoch, sequence)
        return account

    def _noted(self, account: _StreamAccount) -> None:
        account.touched = self._clock()
        self.bytes += account.size
        self._forget_old()

    def _forget_old(self) -> None:
        since = self._clock() - KEPT_SECONDS
        while self._streams:
            stream = next(iter(self._streams))
            account = self._streams[stream]
            if account.touched >= since and self.bytes <= KEPT_BYTES:
                return
            del self._streams[stream]
            self.bytes -= account.size
