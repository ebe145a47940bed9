"""What this node can take now, as its beacons say: other nodes that leave let their connections go by it.

Measured, not assumed: what a new connection takes of the loop, from what the loop did in seconds when many
came and in those when few did. So whatever they do on arrival counts: their rooms, what they missed.
"""

from typing import Final

LATE_SECONDS: Final = 0.5
"""A loop whose timers are so late takes nobody."""
BUSY_LIMIT: Final = 0.8
"""So much of the loop is given away; the rest is for what nobody foresees."""
FIRST_COST_SECONDS: Final = 0.004
"""What a connection is thought to take before any has come: more than it does, for a careful start."""
UNMEASURED_PER_SECOND: Final = BUSY_LIMIT / FIRST_COST_SECONDS
"""What is believed of a node that does not say."""
FIRST_TRUST: Final = 20.0**2
"""What that is worth: as much as one second in which 20 came. Who come in twice the number tell four times as
much, because the same noise is shared among them."""
TRUST_LIMIT: Final = 100.0**2
"""What all that was learnt is worth at most: so it can change."""
QUIET: Final = 5.0
"""A second in which fewer came tells what everything else takes."""


class Headroom:
    """`limit`: connections per second that a node takes at most, however little they take."""

    def __init__(self, limit: float) -> None:
        self._limit = limit
        self._sampled: tuple[float, float, int] | None = None
        self.cost = FIRST_COST_SECONDS
        """Seconds of the loop's work for each new connection."""
        self._trust = FIRST_TRUST
        self._rest = 0.0
        """The part of the loop that everything else takes."""

    def sample(self, now: float, worked: float, accepted: int) -> None:
        """Called about once a second: the clock, how long the loop has worked, and how many connections it
        has taken in all; seconds."""
        before, self._sampled = self._sampled, (now, worked, accepted)
        if before is None or now <= before[0]:
            return
        seconds = now - before[0]
        busy = min(1.0, (worked - before[1]) / seconds)
        came = max(0.0, (accepted - before[2]) / seconds)
        if came:
            self._trust += came**2
            learnt = (busy - self._rest) / came - self.cost
            self.cost = max(0.0, self.cost + learnt * came**2 / self._trust)
            self._trust = min(self._trust, TRUST_LIMIT)
        rest = max(0.0, busy - came * self.cost)
        quiet = QUIET**2 / (QUIET**2 + came**2)
        self._rest += (rest - self._rest) / 2 * quiet  # one busy second is no busy node

    def accepts(self, loop_lag: float) -> float:
        """Connections per second: fewer the busier the loop is, the more each takes, and the later its timers
        are (seconds)."""
        free = max(0.0, BUSY_LIMIT - self._rest)
        taken = min(self._limit, free / self.cost) if self.cost else self._limit
        return round(taken * max(0.0, 1 - loop_lag / LATE_SECONDS), 1)
