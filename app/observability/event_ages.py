"""How old events of streams are when they reach a stage of their way (`carillon_event_seconds`).

An age is from the acceptance on the node where the event was said: for those of other nodes it is as right as
the clocks of both machines are.
"""

from enum import StrEnum
from time import time
from typing import Final

from app.observability import metrics


class Stage(StrEnum):
    """In the order in which they are reached."""

    COMMIT = "commit"
    """Stored; local events only."""
    BUS = "bus"
    """Read from the bus. A node's own events come back to it there, too."""
    HUB = "hub"
    """Given to the hub: in its place, with none before it missing, and somebody here follows the stream."""
    SOCKET = "socket"
    """Written to connections; each of them counts."""


_LOCAL: Final = {stage: metrics.event_seconds.labels(stage, "local") for stage in Stage}
_REMOTE: Final = {
    stage: metrics.event_seconds.labels(stage, "remote") for stage in Stage if stage != "commit"
}


def reached(stage: Stage, at: float, *, local: bool, times: int = 1) -> None:
    """An event that was accepted `at` (Unix time in seconds; 0: nobody knows) is at `stage` now."""
    if at and times:
        (_LOCAL if local else _REMOTE)[stage].observe(max(0.0, time() - at), times)
