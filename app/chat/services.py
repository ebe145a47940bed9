"""Chat's writes: the only place that opens rooms and publishes messages."""

import secrets
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID

from django.db import IntegrityError, transaction
from django.utils import timezone

from app.chat.events import MessagePosted, PostedMessage, room_group
from app.chat.models import Room
from app.realtime.event import encode_event
from app.realtime.identity import Identity
from app.realtime.node import Node

CHECK_ROOMS: Final = "broadcast-check-"
"""How the slugs of rooms for checks begin; none of them is listed."""

ABANDONED: Final = timedelta(hours=1)
"""No check takes so long: one that left its room behind was killed."""


def open_room(slug: str, title: str) -> tuple[Room, bool]:
    """The room at `slug`, and whether it was opened now. Raises `ValidationError` for a bad slug or title."""
    room = Room(slug=slug, title=title)
    room.clean_fields()
    try:
        with transaction.atomic():
            room.save(force_insert=True)
    except IntegrityError:
        return Room.objects.get(slug=slug), False
    return room, True


def open_check_room() -> Room:
    """A room that people do not see, for one check; those that killed checks left behind are closed."""
    rooms = Room.objects.filter(slug__startswith=CHECK_ROOMS, listed=False)
    rooms.filter(created_at__lt=timezone.now() - ABANDONED).delete()
    return Room.objects.create(
        slug=f"{CHECK_ROOMS}{secrets.token_hex(8)}", title="Broadcast check", listed=False
    )


def close_room(slug: str) -> None:
    """Nobody finds the room any more. Who is in it stays until they leave."""
    Room.objects.filter(slug=slug).delete()


def post_message(node: Node, room: str, sender: Identity, key: UUID, text: str) -> PostedMessage:
    """Publish a message from `node`. It is live only: who is not there does not get it later."""
    sent_at = datetime.now(UTC)
    message = MessagePosted(room, str(key), sender, text, sent_at, node.name)
    queued = node.publish(room_group(room), encode_event(message))
    return PostedMessage(str(key), sent_at, queued and node.broker.connected)
