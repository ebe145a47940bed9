"""Chat's writes: the only place that opens rooms and publishes messages."""

from datetime import UTC, datetime
from uuid import UUID

from django.db import IntegrityError, transaction

from app.chat.events import MessagePosted, PostedMessage, room_group
from app.chat.models import Room
from app.realtime.event import encode_event
from app.realtime.identity import Identity
from app.realtime.node import Node


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


def post_message(node: Node, room: str, sender: Identity, key: UUID, text: str) -> PostedMessage:
    """Publish a message from `node`. It is live only: who is not there does not get it later."""
    sent_at = datetime.now(UTC)
    message = MessagePosted(room, str(key), sender, text, sent_at, node.name)
    queued = node.publish(room_group(room), encode_event(message))
    return PostedMessage(str(key), sent_at, queued and node.broker.connected)
