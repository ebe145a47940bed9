"""What happened, as it travels: events, and what may become of one when a connection is slow.

Events are defined by the features (`<feature>/events.py`); this module never knows one of them.
"""

from collections.abc import Callable
from enum import IntEnum
from typing import Any, ClassVar

import msgspec


class Delivery(IntEnum):
    """The event class: what a node does with an event for a connection over its budget of unsent bytes."""

    DURABLE = 1
    """Must not be skipped: the connection is closed, the client comes back and catches up."""
    LATEST = 2
    """Superseded by the next of its key: only the newest is kept until the connection drains."""
    DROPPABLE = 3
    """Skipped and counted."""


class Event(msgspec.Struct):
    """Base of all events. A subclass sets `name` (past tense, `feature.what_happened`) and `delivery`."""

    name: ClassVar[str]
    delivery: ClassVar[Delivery]

    def coalesce_key(self) -> str:
        """Which LATEST events supersede each other: those of one name and one key."""
        return self.name


def text_frame(payload: bytes) -> bytes:
    """A complete, unfragmented, unmasked text frame (RFC 6455, 5.2) around `payload`."""
    size = len(payload)
    if size < 126:
        return b"\x81" + size.to_bytes(1, "big") + payload
    if size < 65536:
        return b"\x81\x7e" + size.to_bytes(2, "big") + payload
    return b"\x81\x7f" + size.to_bytes(8, "big") + payload


class EncodedEvent:
    """An event encoded once, for every connection of every node.

    `payload` is the JSON text (or a stock message's bytes), `frame` the finished WebSocket text frame.
    `written`, if somebody wants to know, is called with how many connections it was written to, now and then.
    """

    __slots__ = ("delivery", "frame", "key", "payload", "written")

    def __init__(
        self,
        payload: bytes,
        delivery: Delivery,
        key: str = "",
        written: Callable[[int], None] | None = None,
    ) -> None:
        self.payload = payload
        self.frame = text_frame(payload)
        self.delivery = delivery
        self.key = key
        self.written = written


_encoder = msgspec.json.Encoder()


def encode_event(event: Event) -> EncodedEvent:
    """Encode `event` once: `{"event": name, "data": {...}}`."""
    payload = _encoder.encode({"event": event.name, "data": event})
    key = event.coalesce_key() if event.delivery is Delivery.LATEST else ""
    return EncodedEvent(payload, event.delivery, key)


def encode_frame(message: dict[str, Any]) -> bytes:
    """The JSON text of a reply, an error or hello."""
    return _encoder.encode(message)
