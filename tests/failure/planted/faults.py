"""What can be planted. Each fault takes one rule of the journal out of a running node."""

from collections.abc import Callable


def bad_bus() -> None:
    """No fault of ours but of the bus: `settings.py` has put it there. Nothing else may follow from it."""


FAULTS: dict[str, Callable[[], None]] = {fault.__name__: fault for fault in (bad_bus,)}
