"""What this node can take now, as its beacons say: other nodes that leave let their connections go by it."""

from typing import Final

LATE_SECONDS: Final = 0.5
"""A loop whose timers are so late takes nobody."""


class Headroom:
    """`per_second`: connections that a node takes which has nothing else to do."""

    def __init__(self, per_second: float) -> None:
        self._per_second = per_second
        self._sampled: tuple[float, float] | None = None
        self._idle = 1.0

    def sample(self, now: float, worked: float) -> None:
        """Called about once a second: the clock, and how long the loop has worked in all; seconds."""
        if self._sampled is not None and now > self._sampled[0]:
            busy = (worked - self._sampled[1]) / (now - self._sampled[0])
            self._idle += (max(0.0, 1 - busy) - self._idle) / 2  # one busy second is no busy node
        self._sampled = now, worked

    def accepts(self, loop_lag: float) -> float:
        """Connections per second: less the busier the loop is, and the later its timers are (seconds)."""
        return round(self._per_second * self._idle * max(0.0, 1 - loop_lag / LATE_SECONDS), 1)
