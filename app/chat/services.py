"""Chat's writes: rooms open and close here, and whatever happens in one goes from here into its stream."""

import secrets
from asyncio import Future
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from app.chat.events import (
    MemberChanged,
    MemberRemoved,
    MessageDeleted,
    MessageEdited,
    MessagePosted,
    room_group,
)
from app.chat.memberships import name_of
from app.chat.models import Membership, Message, Role, Room
from app.journal.entry import Entry, Stored
from app.journal.journal import journal_of
from app.journal.services import close_stream, open_stream, publish_on_commit
from app.realtime.event import Event, encode_frame
from app.realtime.identity import GUEST, Identity
from app.realtime.node import Node

CHECK_ROOMS: Final = "broadcast-check-"
"""How the slugs of rooms for checks begin; none of them is listed."""

ABANDONED: Final = timedelta(hours=1)
"""No check takes so long: one that left its room behind was killed."""

# --- Rooms: in Django's thread ---------------------------------------------------------------------------


def open_room(
    slug: str, title: str, *, opener: Identity | None = None, public: bool = True
) -> tuple[Room, bool]:
    """The room at `slug`, and whether it was opened now; then `opener` is its owner.

    Raises `ValidationError` for a bad slug or title.
    """
    room = Room(slug=slug, title=title, public=public)
    room.clean_fields()
    try:
        with transaction.atomic():
            room.save(force_insert=True)
            begin_room(room, opener)
    except IntegrityError:
        return Room.objects.get(slug=slug), False
    return room, True


def begin_room(room: Room, opener: Identity | None = None) -> None:
    """What a new room needs besides its row, in the same transaction."""
    open_stream(room_group(room.slug))
    if opener:
        Membership.objects.create(room=room, person=opener.id, name=opener.name, role=Role.OWNER)


def open_check_room() -> Room:
    """A room that people do not see, for one check; those that killed checks left behind are closed."""
    rooms = Room.objects.filter(slug__startswith=CHECK_ROOMS, listed=False)
    for abandoned in rooms.filter(created_at__lt=timezone.now() - ABANDONED):
        close_room(abandoned.slug)
    room = Room(slug=f"{CHECK_ROOMS}{secrets.token_hex(8)}", title="Broadcast check", listed=False)
    with transaction.atomic():
        room.save(force_insert=True)
        begin_room(room)
    return room


@transaction.atomic
def close_room(slug: str) -> None:
    """The room is gone, with all that was said in it. Who is in it hears no more."""
    close_stream(room_group(slug))  # first: under its lock nothing is written to the room any more
    Message.objects.filter(room__slug=slug).delete()
    Room.objects.filter(slug=slug).delete()


def purge_guests(older_than: datetime) -> int:
    """Forget how far guests read who are nobody in particular and marked nothing since; how many it were.

    Who is a member, muted or banned stays: somebody decided that.
    """
    read = Membership.objects.filter(person__startswith=GUEST, role=Role.VISITOR, muted=False)
    return read.filter(used_at__lt=older_than).delete()[0]


# --- What happens in a room: on a node's event loop ------------------------------------------------------
# Each returns the writer's future: `Stored` after the commit, or `Refused`, `Busy`, `OutcomeUnknown`. The
# first two may be raised at once.


def post_message(node: Node, room: str, *, sender: Identity, key: UUID, text: str) -> "Future[Stored]":
    """Say something. `key` becomes the message's id."""
    at = datetime.now(UTC)
    event = MessagePosted(room, key, sender, text, at, node.name)
    return _append(node, event, Entry(room_group(room), event.name, key, sender.id, b"", at=at))


def edit_message(
    node: Node, room: str, *, sender: str, key: UUID, message: UUID, text: str
) -> "Future[Stored]":
    """Give one's own message another text."""
    at = datetime.now(UTC)
    event = MessageEdited(room, message, text, at)
    return _append(node, event, Entry(room_group(room), event.name, key, sender, b"", message, at=at))


def delete_message(node: Node, room: str, *, sender: str, key: UUID, message: UUID) -> "Future[Stored]":
    """Take a message's text away, from wherever it is kept."""
    at = datetime.now(UTC)
    event = MessageDeleted(room, message, at)
    return _append(node, event, Entry(room_group(room), event.name, key, sender, b"", message, at=at))


def set_member(
    node: Node, room: str, *, sender: str, key: UUID, person: str, name: str, role: Role, muted: bool
) -> "Future[Stored]":
    """Give `person` a role, and let them speak or not. A ban removes them. `name` is theirs, or empty."""
    event, removes = member_event(room, person, name, role, muted)
    entry = Entry(room_group(room), event.name, key, sender, b"", removes=removes)
    return _append(node, event, entry)


def remove_member(
    node: Node, room: str, *, sender: str, key: UUID, person: str, name: str
) -> "Future[Stored]":
    """End `person`'s membership, and what they hear of the room. Lifts a ban, too."""
    event = MemberRemoved(room, person, name, banned=False)
    return _append(node, event, Entry(room_group(room), event.name, key, sender, b"", removes=person))


# --- What an operator does: with the caller's transaction, from Django's thread --------------------------


def set_member_on_commit(room: str, person: str, role: Role, muted: bool) -> None:
    """`set_member` in the name of the system."""
    event, removes = member_event(room, person, name_of(person), role, muted)
    publish_on_commit(room_group(room), event, removes=removes)


def remove_member_on_commit(room: str, person: str) -> None:
    """`remove_member` in the name of the system."""
    event = MemberRemoved(room, person, name_of(person), banned=False)
    publish_on_commit(room_group(room), event, removes=person)


def delete_message_on_commit(room: str, message: UUID) -> None:
    """`delete_message` in the name of the system."""
    event = MessageDeleted(room, message, datetime.now(UTC))
    publish_on_commit(room_group(room), event, subject=message)


def member_event(room: str, person: str, name: str, role: Role, muted: bool) -> tuple[Event, str]:
    """The event that gives `person` this role, and whom it removes from the room (empty: nobody)."""
    if role is Role.BANNED:
        return MemberRemoved(room, person, name, banned=True), person
    return MemberChanged(room, person, name, None if role is Role.VISITOR else role.value, muted), ""


def _append(node: Node, event: Event, entry: Entry) -> "Future[Stored]":
    entry.payload = encode_frame({"event": event.name, "data": event})
    return journal_of(node).append(entry)
