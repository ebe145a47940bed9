"""How old events of streams are when they reach a stage of their way (`carillon_event_seconds`).

An age is from the acceptance on the node where the event was said: for those of other nodes it is as right as
the clocks of both machines are.
"""

from time import time
from typing import Final

from app.observability import metrics


class Stage:
    """One stage, for events of this node and of others. To tell it of one costs as much as two counters."""

    __slots__ = ("_local", "_remote")

    def __init__(self, name: str, *, remote: bool = True) -> None:
        self._local = metrics.event_seconds.labels(name, "local")
        self._remote = metrics.event_seconds.labels(name, "remote") if remote else self._local

    def reached(self, at: float, *, local: bool = True, times: int = 1) -> None:
        """An event that was accepted `at` (Unix time in seconds; 0: nobody knows) is there now."""
        if at and times:
            (self._local if local else self._remote).observe(max(0.0, time() - at), times)


COMMIT: Final = Stage("commit", remote=False)
"""Stored, by this node."""
BUS: Final = Stage("bus")
"""Read from the bus. A node's own events come back to it there, too."""
HUB: Final = Stage("hub")
"""Given to the hub: in its place, with none before it missing, and somebody here follows the stream."""
SOCKET: Final = Stage("socket")
"""Written to connections; each of them counts."""
