"""How a thread that just committed to the outbox tells this process' writers to look there."""

from collections.abc import Callable
from typing import Final

_listeners: Final[list[Callable[[], None]]] = []


def listen(nudged: Callable[[], None]) -> None:
    """Call `nudged` at each nudge, on whatever thread: it must only hand it on."""
    _listeners.append(nudged)


def end_listening(nudged: Callable[[], None]) -> None:
    """Unknown ones are ignored."""
    if nudged in _listeners:
        _listeners.remove(nudged)


def nudge() -> None:
    """There is something in the outbox. Writers of other processes find it within a second by themselves."""
    for nudged in list(_listeners):
        nudged()
