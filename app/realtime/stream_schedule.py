"""When which streams are to be read from the database. No I/O; times are the event loop's, in seconds."""

from collections.abc import Hashable
from typing import Final, Generic, TypeVar

FILL_SECONDS: Final = 0.1
"""So long the bus may take to bring what is missing: mostly it is on its way from another node."""
SWEEP_SECONDS: Final = 5.0
"""How often the database is asked whether the bus kept something from us: what was last in a stream leaves
no hole when it is lost."""
SWEEP_SECONDS_UNHEALTHY: Final = 1.0
"""The same, when the bus is known not to bring everything."""
_EARLIER: Final = SWEEP_SECONDS - SWEEP_SECONDS_UNHEALTHY

Stream = TypeVar("Stream", bound=Hashable)


class StreamSchedule(Generic[Stream]):
    """Single streams that are due, and the sweep of all of them."""

    def __init__(self) -> None:
        self._due: dict[Stream, float] = {}
        self._next_sweep = 0.0

    def __contains__(self, stream: Stream) -> bool:
        return stream in self._due

    def want(self, stream: Stream, at: float) -> None:
        """Read `stream` at this time, or earlier if that was said before."""
        self._due[stream] = min(at, self._due.get(stream, at))

    def forget(self, stream: Stream) -> None:
        """Nothing is missing any more, or somebody is asking for it."""
        self._due.pop(stream, None)

    def sweep_at_once(self) -> None:
        """Whatever was asked before does not count."""
        self._next_sweep = 0.0

    def sweep(self, now: float, healthy: bool) -> bool:
        """Whether the sweep is due: much earlier as soon as the bus is not to be trusted. The next one is
        reckoned from here."""
        due = now >= self._next_sweep - (0.0 if healthy else _EARLIER)
        if due:
            self._next_sweep = now + SWEEP_SECONDS
        return due

    def due(self, now: float) -> list[Stream]:
        """The single streams that are to be read now."""
        return [stream for stream, at in self._due.items() if at <= now]

    def next_look(self, now: float, active: bool) -> float | None:
        """When something may be due next. None: not before a stream is `active`."""
        times = list(self._due.values())
        if active:
            early = self._next_sweep - _EARLIER
            times.append(early if early > now else now + SWEEP_SECONDS_UNHEALTHY)
        return min(times, default=None)
