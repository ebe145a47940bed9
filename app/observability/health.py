"""Is this process alive, and should it get connections? Two questions with two answers.

Live means that the event loop turns; nothing outside of the process may change that. Ready means that new
connections are welcome: Redis being away is no reason to refuse them, every node would. Being the one node
that does not hear the others is one.
"""

from time import monotonic
from typing import Final

LOOP_STALL_SECONDS: Final = 10.0
"""A loop that has not turned for so long will not recover: better a restart."""


class Health:
    """What probes are told. `beat` is called on the loop, the rest from the internal port's thread."""

    def __init__(self) -> None:
        self._beat_at = monotonic()
        self.accepting = False
        self.away = ""
        """Why this node left its work to the others for a while; empty: it did not."""

    def beat(self) -> None:
        """The loop turns."""
        self._beat_at = monotonic()

    def live(self) -> tuple[bool, str]:
        """Whether the loop turns, and since when not."""
        stalled = monotonic() - self._beat_at
        if stalled > LOOP_STALL_SECONDS:
            return False, f"the event loop has not turned for {stalled:.0f} s"
        return True, "live"

    def ready(self) -> tuple[bool, str]:
        """Whether new connections are welcome, and why not."""
        if not self.accepting:
            return False, "not accepting connections"
        if self.away:
            return False, self.away
        return self.live()


health = Health()
