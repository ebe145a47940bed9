"""Chat's WebSocket doors: commands in, replies out. Writes are in `services`, reads in `selectors`."""

from typing import Annotated
from uuid import UUID

import msgspec
from django.conf import settings

from app.chat import services
from app.chat.events import PostedMessage, RoomJoined, room_group
from app.chat.models import SLUG_PATTERN
from app.chat.selectors import find_room
from app.presence.services import presence_of
from app.realtime.consumers import RealtimeConsumer
from app.realtime.handlers import command
from app.realtime.protocol import CommandError, encode_error

Slug = Annotated[str, msgspec.Meta(pattern=rf"^{SLUG_PATTERN}\Z")]


class JoinRoom(msgspec.Struct, forbid_unknown_fields=True):
    room: Slug


class LeaveRoom(msgspec.Struct, forbid_unknown_fields=True):
    room: Slug


class PostMessage(msgspec.Struct, forbid_unknown_fields=True):
    room: Slug
    key: UUID
    text: Annotated[str, msgspec.Meta(min_length=1, max_length=4000)]


class ChatConsumer(RealtimeConsumer):
    """One connection, many rooms."""

    def __init__(self) -> None:
        super().__init__()
        self._rooms: set[str] | None = None

    @command("chat.join_room")
    async def join_room(self, data: JoinRoom) -> RoomJoined:
        """Hear the room and be seen in it. Joining again is harmless."""
        return await self._join(data.room)

    @command("chat.leave_room")
    def leave_room(self, data: LeaveRoom) -> None:
        """Neither hear nor be seen."""
        if self._rooms and data.room in self._rooms:
            self._rooms.remove(data.room)
            self.unsubscribe(room_group(data.room))
            presence_of(self.node).leave(data.room, self.identity.id, self.connection)

    @command("chat.post_message")
    def post_message(self, data: PostMessage) -> PostedMessage:
        """Say something to a room that was joined."""
        if not self._rooms or data.room not in self._rooms:
            raise CommandError("not_joined", f"join {data.room!r} before you post there")
        if data.text.isspace():
            raise CommandError("invalid_data", "chat.post_message: expected a text that is not only spaces")
        return services.post_message(self.node, data.room, self.identity, data.key, data.text)

    def disconnected(self, code: int) -> None:
        presence = presence_of(self.node)
        for room in self._rooms or ():
            presence.leave(room, self.identity.id, self.connection)

    async def _join(self, slug: str) -> RoomJoined:
        rooms = self._rooms or set()
        limit = settings.ROOMS_PER_CONNECTION
        if slug not in rooms and len(rooms) >= limit:
            raise CommandError("too_many_rooms", f"this connection is in {limit} rooms already: leave one")
        room = await find_room(slug)
        if room is None:
            raise CommandError("not_found", f"there is no room {slug!r}")
        await self.subscribe(room_group(slug))
        self._rooms = rooms | {slug}
        people = presence_of(self.node).enter(slug, room_group(slug), self.identity, self.connection)
        return RoomJoined(slug, room.title, people.members, people.count)


class RoomConsumer(ChatConsumer):
    """The same with the room of the URL joined at once: for a client that wants only one."""

    async def connected(self) -> None:
        try:
            self.send(await self._join(self.url_kwargs["slug"]))
        except CommandError as error:
            self.connection.send(encode_error(None, error))
