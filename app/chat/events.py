"""Chat's wire types, and the groups they go to."""

from datetime import datetime
from typing import ClassVar
from uuid import UUID

import msgspec

from app.realtime.event import Delivery, Event
from app.realtime.identity import Identity
from app.realtime.stream import Position, Reset


def room_group(slug: str) -> str:
    """Everybody who is in the room; its stream has the same name."""
    return f"room.{slug}"


class MessagePosted(Event):
    """Somebody said something. `message_id` is the sender's key, so whoever gets it twice can tell."""

    name: ClassVar[str] = "chat.message_posted"
    delivery: ClassVar[Delivery] = Delivery.DURABLE

    room: str
    message_id: UUID
    sender: Identity
    text: str
    sent_at: datetime
    node: str


class MessageEdited(Event):
    """A message has another text now."""

    name: ClassVar[str] = "chat.message_edited"
    delivery: ClassVar[Delivery] = Delivery.DURABLE

    room: str
    message_id: UUID
    text: str
    edited_at: datetime


class MessageDeleted(Event):
    """A message has no text any more, anywhere."""

    name: ClassVar[str] = "chat.message_deleted"
    delivery: ClassVar[Delivery] = Delivery.DURABLE

    room: str
    message_id: UUID
    deleted_at: datetime


class MemberChanged(Event):
    """Somebody has another role, or may speak or not. Without a role they are nobody in particular.
    `person_name` is empty where nobody knows it."""

    name: ClassVar[str] = "chat.member_changed"
    delivery: ClassVar[Delivery] = Delivery.DURABLE

    room: str
    person: str
    person_name: str
    role: str | None
    muted: bool


class MemberRemoved(Event):
    """Somebody is in the room no longer; the last event of it that they get. `banned`: they stay out."""

    name: ClassVar[str] = "chat.member_removed"
    delivery: ClassVar[Delivery] = Delivery.DURABLE

    room: str
    person: str
    person_name: str
    banned: bool


class KeptMessage(msgspec.Struct, frozen=True):
    """A message as it stands now, with the place of the event that posted it."""

    message_id: UUID
    sequence: int
    sender: Identity
    text: str
    sent_at: datetime
    edited_at: datetime | None
    deleted: bool
    node: str


class RoomJoined(Event):
    """Where one is now, and who else is: the reply to a join or (without messages) to a resume, or an event
    when the URL joined the room. Where `members` would be too many bytes at once nobody is named."""

    name: ClassVar[str] = "chat.room_joined"
    delivery: ClassVar[Delivery] = Delivery.DURABLE

    room: str
    title: str
    public: bool
    role: str | None
    muted: bool
    members: msgspec.Raw
    count: int
    position: Position
    resumed: bool
    reset: Reset | None
    messages: msgspec.Raw
    earlier: bool
    last_read: int | None
    unread: int


class RoomReset(msgspec.Struct, frozen=True):
    """A room that cannot be gone on with: it is joined again, without a position."""

    room: str
    reset: Reset
    resumed: bool = False


class Refusal(msgspec.Struct, frozen=True):
    """Why something cannot be had, as in an error."""

    code: str
    message: str


class RoomRefused(msgspec.Struct, frozen=True):
    """A room that cannot be joined at all."""

    room: str
    error: Refusal


class ResumedRooms(msgspec.Struct, frozen=True):
    """The reply to a resume, in the order of the command."""

    rooms: list[RoomJoined | RoomReset | RoomRefused]


class RoomMember(msgspec.Struct, frozen=True):
    """A person, and what they are in a room; who is here at the moment is a `Member`."""

    id: str
    name: str
    guest: bool
    role: str | None
    muted: bool


class RoomMembers(msgspec.Struct, frozen=True):
    """Who belongs to a room; `count`: how many they are, also when not all are named, up to a limit."""

    room: str
    members: msgspec.Raw
    count: int


class PostedMessage(msgspec.Struct, frozen=True):
    """The reply to a post: where it is stored, and since when."""

    message_id: UUID
    epoch: int
    sequence: int
    sent_at: datetime


class History(msgspec.Struct, frozen=True):
    """A page of older messages, oldest first; `earlier`: there are more before them."""

    room: str
    messages: msgspec.Raw
    earlier: bool
