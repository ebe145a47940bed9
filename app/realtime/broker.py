"""The seam between nodes. Two implementations stand behind it, memory and Redis, held to one contract test.

A broker moves bytes between nodes, at most once and in order per publisher. It keeps nothing, decides
nothing and never makes its caller wait.
"""

from abc import ABC, abstractmethod
from asyncio import Future
from collections.abc import Callable
from typing import ClassVar

Deliver = Callable[[list[tuple[str, bytes]]], None]
"""Takes what one read brought: (group, data) in order of arrival, this node's own publishes included."""


StateChanged = Callable[[bool], None]
"""Told when `connected` changes, but for the change that `stop` makes."""


class BusUnavailable(ConnectionError):
    """What was published could not be handed to the bus."""


class Broker(ABC):
    """Publish and subscribe between nodes, bound to the event loop it was started on."""

    between_processes: ClassVar[bool] = True
    """Whether other processes may be on this bus."""
    failures = 0
    """How many publishes the bus did not take, ever: refused, lost with a connection, or too many."""
    bus_id = ""
    """Which life of which bus this is, the same for all who are on it. Empty: not known."""

    @abstractmethod
    def start(self, deliver: Deliver, state_changed: StateChanged) -> None:
        """Begin to connect, on the running loop, and return at once: a bus that is away heals by itself."""

    @abstractmethod
    async def stop(self) -> None:
        """Leave the bus: send what is queued (for one second at most), close connections, end tasks."""

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Whether the bus is there and every subscription is confirmed."""

    @abstractmethod
    def publish(self, group: str, data: bytes) -> bool:
        """Queue `data` for every node subscribed to `group`. False: the queue is full, it was dropped.

        Calls of one tick travel in one write. Never retried once written.
        """

    @abstractmethod
    def subscribe(self, group: str) -> "Future[None]":
        """Ask for `group`. Done when the bus confirmed it or is known to be down; never fails.

        The future is the caller's own: cancelling it neither leaves the group nor disturbs another caller.
        Survives reconnects until `unsubscribe`. Asking again for a subscribed group is a no-op.
        """

    @abstractmethod
    def unsubscribe(self, group: str) -> None:
        """No longer ask for `group`."""

    def reconnect(self) -> None:  # noqa: B027  # a bus without connections has nothing to do
        """Leave the bus and join it anew, with every subscription."""

    @abstractmethod
    async def flush(self, timeout: float) -> None:
        """Wait until the bus has answered for everything that was published and is still open.

        Raises `BusUnavailable` if any of it is lost meanwhile, or if `timeout` seconds did not suffice.
        What `publish` refused is not in it.
        """
