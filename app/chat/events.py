"""Chat's wire types, and the groups they go to."""

from datetime import datetime
from typing import ClassVar

import msgspec

from app.presence.events import Member
from app.realtime.event import Delivery, Event
from app.realtime.identity import Identity


def room_group(slug: str) -> str:
    """Everybody who is in the room."""
    return f"room.{slug}"


class MessagePosted(Event):
    """Somebody said something. `message_id` is the sender's key, so whoever gets it twice can tell."""

    name: ClassVar[str] = "chat.message_posted"
    delivery: ClassVar[Delivery] = Delivery.DURABLE

    room: str
    message_id: str
    sender: Identity
    text: str
    sent_at: datetime
    node: str


class RoomJoined(Event):
    """Where one is now, and who else is: the reply to a join, or an event when the URL joined the room."""

    name: ClassVar[str] = "chat.room_joined"
    delivery: ClassVar[Delivery] = Delivery.DURABLE

    room: str
    title: str
    members: list[Member]
    count: int


class PostedMessage(msgspec.Struct):
    """The reply to a post. `reached_bus`: it was handed to a bus that was there."""

    message_id: str
    sent_at: datetime
    reached_bus: bool
