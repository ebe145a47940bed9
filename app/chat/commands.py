"""What clients of chat may ask: the data of each command."""

from typing import Annotated, Final, Literal
from uuid import UUID

import msgspec

from app.chat.models import PERSON_LIMIT, PERSON_PATTERN, SLUG_PATTERN

HISTORY_LIMIT: Final = 100
RESUME_LIMIT: Final = 1000
"""Rooms in one frame; a connection may be in fewer (`ROOMS_PER_CONNECTION`)."""

Slug = Annotated[str, msgspec.Meta(pattern=rf"^{SLUG_PATTERN}\Z")]
Person = Annotated[str, msgspec.Meta(pattern=rf"^{PERSON_PATTERN}\Z")]
Text = Annotated[str, msgspec.Meta(min_length=1, max_length=4000)]
Number = Annotated[int, msgspec.Meta(ge=0, lt=2**53)]


class Place(msgspec.Struct, forbid_unknown_fields=True, frozen=True):
    """Where a client is in a stream."""

    epoch: Number
    sequence: Number


class JoinRoom(msgspec.Struct, forbid_unknown_fields=True):
    room: Slug
    position: Place | None = None


class RoomPlace(msgspec.Struct, forbid_unknown_fields=True):
    room: Slug
    epoch: Number
    sequence: Number


class Resume(msgspec.Struct, forbid_unknown_fields=True):
    rooms: Annotated[list[RoomPlace], msgspec.Meta(min_length=1, max_length=RESUME_LIMIT)]


class LeaveRoom(msgspec.Struct, forbid_unknown_fields=True):
    room: Slug


class PostMessage(msgspec.Struct, forbid_unknown_fields=True):
    room: Slug
    key: UUID
    text: Text


class EditMessage(msgspec.Struct, forbid_unknown_fields=True):
    room: Slug
    key: UUID
    message_id: UUID
    text: Text


class DeleteMessage(msgspec.Struct, forbid_unknown_fields=True):
    room: Slug
    key: UUID
    message_id: UUID


class ReadHistory(msgspec.Struct, forbid_unknown_fields=True):
    room: Slug
    before: Number
    limit: Annotated[int, msgspec.Meta(ge=1, le=HISTORY_LIMIT)] = 50


class AskDeliveries(msgspec.Struct, forbid_unknown_fields=True):
    room: Slug
    sequence: Number


class MarkRead(msgspec.Struct, forbid_unknown_fields=True):
    room: Slug
    sequence: Number


class SetMember(msgspec.Struct, forbid_unknown_fields=True):
    room: Slug
    key: UUID
    person: Person
    role: Literal["owner", "moderator", "member", "banned"] | None
    muted: bool = False


class ListMembers(msgspec.Struct, forbid_unknown_fields=True):
    room: Slug


class FindPerson(msgspec.Struct, forbid_unknown_fields=True):
    room: Slug
    name: Annotated[str, msgspec.Meta(min_length=1, max_length=PERSON_LIMIT)]


class RemoveMember(msgspec.Struct, forbid_unknown_fields=True):
    room: Slug
    key: UUID
    person: Person
