"""When somebody who was refused, or lost their connection, comes back.

No earlier than a node says, and each at a moment of their own.
"""

import random
from collections.abc import Callable
from typing import Final

FIRST_SECONDS: Final = 1.0
"""At most, until the first try to come back; then twice as long each time, up to `LAST_SECONDS`."""
LAST_SECONDS: Final = 8.0
LONGEST_HINT_SECONDS: Final = 60.0


def told(retry_after: str | None) -> float | None:
    """The seconds of this header; None: there is none, or it says something else."""
    if retry_after is None or not retry_after.isdecimal():
        return None
    return min(float(retry_after), LONGEST_HINT_SECONDS)


class Waits:
    """One person's."""

    def __init__(self, draw: Callable[[], float] = random.random) -> None:
        self._draw = draw
        self._window = FIRST_SECONDS

    def connected(self) -> None:
        """It worked: the next loss begins with short waits again."""
        self._window = FIRST_SECONDS

    def refused(self, retry_after: float | None) -> float:
        """Seconds until the next try: no earlier than the node said, and at random a little later."""
        wait = self._draw() * self._window
        self._window = min(2 * self._window, LAST_SECONDS)
        return wait + (retry_after or 0.0)

    def lost(self, released: float | None) -> float:
        """Seconds until the first try after a connection: what the node drew that let us go, else our own."""
        return self._draw() * FIRST_SECONDS if released is None else released
