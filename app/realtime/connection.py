"""What the hub writes to: `app.serving` has the fast kind, `mailbox_connection` the one for any server."""

from typing import ClassVar, Final, Protocol

from app.realtime.event import Delivery, EncodedEvent, Event, encode_event

CLOSE_SECONDS: Final = 5.0
"""How long a client may take to answer a close frame, or to read what is still unsent; then it is cut off."""


RELEASABLE: Final = "carillon.connection"
"""Where an application leaves its `Connection` in the scope's `state`, for the server to release it."""


class Released(Event):
    """The node hands this client over: it should come back in so many seconds, to any node."""

    name: ClassVar[str] = "connection.released"
    delivery: ClassVar[Delivery] = Delivery.DROPPABLE

    retry_after: float


def released(retry_after: float) -> bytes:
    """The payload of `Released`."""
    return encode_event(Released(retry_after)).payload


class Batch:
    """What one tick delivers to one group: the events in order, and their frames joined once for all."""

    __slots__ = ("events", "joined")

    def __init__(self, events: list[EncodedEvent]) -> None:
        self.events = events
        self.joined = events[0].frame if len(events) == 1 else b"".join([event.frame for event in events])


class Subscriber(Protocol):
    """A member of a hub's group."""

    def deliver(self, batch: Batch) -> bool | None:
        """Take one tick's events. Must not block, must not raise. False: it is closing, or is now: nothing of
        what must not be skipped will reach it."""


class Connection(Subscriber, Protocol):
    """One open WebSocket. Every frame goes through one outgoing queue, so order is the order of calls."""

    closing: bool
    """Whether `close` or `abort` was called, or the client is gone: nothing more is sent or wanted."""

    def send(self, payload: bytes) -> None:
        """Queue one text frame for this connection alone (reply, error, hello). Dropped once closed."""

    def close(self, code: int, reason: str = "") -> None:
        """Queue a close frame behind everything sent before, and close once it is written."""

    def release(self, retry_after: float) -> None:
        """Tell the client in how many seconds to come back, and close with 1012."""

    def abort(self, code: int) -> None:
        """Close at once; unsent output is thrown away. `code` is for the metrics: the client sees 1006."""

    def pause_reading(self) -> None:
        """Stop taking frames from the client: too many of its commands wait."""

    def resume_reading(self) -> None:
        """Take frames again."""


class Receiver(Protocol):
    """What a connection hands its input to: a consumer."""

    def frame_received(self, text: bytes) -> None:
        """One complete text message from the client, not yet decoded."""

    def connection_lost(self, code: int) -> None:
        """The connection is gone; called exactly once, whatever the reason."""
