"""What a node does about its deafness, step by step. Rules only: no I/O, no clock.

First it joins the bus anew; if that does not help it leaves, which takes a turn; it comes back when it hears
again. In doubt it stays as it is.
"""

from enum import Enum
from typing import Final

HEAL_SECONDS: Final = 4.0
"""After the bus was joined anew: two beacons of every node, should it have helped."""
DOUBT_SECONDS: Final = 4.0
"""Who hears itself has to hear less than others for so long: of a node that died some know earlier."""
RECONNECT_SECONDS: Final = 10.0
"""How often a node that stays deaf joins the bus anew."""
RETURN_SECONDS: Final = 5.0
"""A node that left has to hear for so long before clients come to it again."""


class State(Enum):
    HEARING = "hearing"
    DEAF = "deaf"
    AWAY = "away"


class Step(Enum):
    STAY = "stay"
    RECONNECT = "reconnect"
    LEAVE = "leave"
    RETURN = "return"


class Deafness:
    """One node's deafness. `judge` says what is to be done; `LEAVE` is done by whoever then calls `left`."""

    def __init__(self) -> None:
        self.state = State.HEARING
        self._deaf_since: float | None = None
        self._reconnected = 0.0
        self._reconnected = 0.0
        self._hears_since: float | None = None

    def judge(self, deaf: bool | None, hears_itself: bool, now: float) -> Step:
        """`deaf`: as the witness has it; None: in doubt."""
        if deaf is None:
            self._hears_since = None
            return Step.STAY
        if not deaf:
            return self._hears(now)
        self._hears_since = None
        if self._deaf_since is None:
            self._deaf_since = now
        if self.state is State.HEARING:
            if hears_itself and now - self._deaf_since < DOUBT_SECONDS:
                return Step.STAY
            self.state = State.DEAF
            self._reconnected = float("-inf")
        since = now - self._reconnected
        if since >= RECONNECT_SECONDS:
            self._reconnected = now
            return Step.RECONNECT
        return Step.LEAVE if self.state is State.DEAF and since >= HEAL_SECONDS else Step.STAY

    def left(self) -> None:
        """The node got its turn and is leaving."""
        self.state = State.AWAY

    def _hears(self, now: float) -> Step:
        self._deaf_since = None
        if self.state is not State.AWAY:
            self.state = State.HEARING
            return Step.STAY
        if self._hears_since is None:
            self._hears_since = now
        if now - self._hears_since < RETURN_SECONDS:
            return Step.STAY
        self.state = State.HEARING
        return Step.RETURN
