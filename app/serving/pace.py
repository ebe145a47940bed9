"""How fast a node may let its connections go, and when each should be back. Rules only: no I/O, no clock.

The others say in their beacons what they can take; who leaves at the same time shares that with this node.
The time that is left wins: nobody stays because the others are busy.
"""

import random
from collections.abc import Callable, Iterable
from typing import Final

from app.realtime.hearing import Beacon

SPREAD_SECONDS: Final = 1.0
"""Whoever is let go comes back within so long, at a random moment: no slice arrives as one."""
RETRY_LIMIT_SECONDS: Final = 30.0
"""Nobody is sent away for longer, however little the others can take."""
LONGEST_STEP_SECONDS: Final = 0.5
"""A loop that stood still does not make up for it at once."""


def share(own: Beacon, others: Iterable[Beacon], unknown: float) -> float:
    """Connections per second that `own`, which leaves, may let go: its part of what those who stay can take.

    Who leaves counts by how many connections it still has, so all are done together. `unknown`: what a node
    can take that does not say, and the whole of it where nobody stays or nobody is heard.
    """
    told = list(others)
    staying = [one for one in told if not one.draining]
    if not staying:
        return unknown
    room = sum(unknown if one.accepts is None else one.accepts for one in staying)
    mine = max(1, own.connections)
    return room * mine / (mine + sum(one.connections for one in told if one.draining))


class Pace:
    """One leaving, over `seconds` at most from `now` on; times in seconds of the caller's clock.

    `even`: over all of this time, whatever the others can take.
    """

    def __init__(
        self, now: float, seconds: float, *, even: bool = False, draw: Callable[[], float] = random.random
    ) -> None:
        self.forced = False
        """Whether the time that is left made it faster than it may be."""
        self._draw = draw
        self._even = even
        self._deadline = now + seconds
        self._last = self._back = now
        self._credit = 0.0
        self._hurried = False

    def hurry(self) -> None:
        """Let everybody go now."""
        self._hurried = True

    def due(self, now: float, left: int, rate: float) -> int:
        """How many of `left` go now, at `rate` per second: mostly, and a little irregularly."""
        elapsed, self._last = min(now - self._last, LONGEST_STEP_SECONDS), now
        time_left = self._deadline - now
        if self._hurried or not left:
            return left
        if self._even or rate * time_left < left:
            self.forced = not self._even
            if time_left <= 0:
                return left
            rate = left / time_left
        self._credit += rate * elapsed * (0.5 + self._draw())
        due = min(int(self._credit), left)
        self._credit -= due
        return due

    def retry_after(self, now: float, rate: float) -> float:
        """In how many seconds the next one should be back: the others get no more than `rate` per second of
        them, also when this node has to let them go faster."""
        self._back = now if self._even else max(now, self._back) + 1 / max(rate, 1.0)
        ahead = self._back - now
        if ahead > RETRY_LIMIT_SECONDS:
            ahead = RETRY_LIMIT_SECONDS * self._draw()
        return round(ahead + SPREAD_SECONDS * self._draw(), 3)
