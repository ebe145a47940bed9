"""Chat's WebSocket doors: commands in, replies out. Writes are in `services`, reads in `room_reads`.

Who may do what is decided where it is read or written: in the read's snapshot, under the stream's lock.
"""

from asyncio import Future
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
from channels.consumer import SyncConsumer
from django.conf import settings
from django.utils import timezone

from app.chat import services
from app.chat.commands import (
    AskDeliveries,
    DeleteMessage,
    EditMessage,
    FindPerson,
    JoinRoom,
    LeaveRoom,
    ListMembers,
    MarkRead,
    PostMessage,
    ReadHistory,
    RemoveMember,
    Resume,
    SetMember,
)
from app.chat.connected_rooms import ConnectedRooms
from app.chat.events import History, PostedMessage, RoomMember, RoomMembers, room_group
from app.chat.kinds import NO_ROOM
from app.chat.models import Role
from app.chat.read_markers import markers_of
from app.chat.room_reads import reads_of
from app.chat.selectors import no_room
from app.journal.entry import Busy, NoSuchStream, OutcomeUnknown, Refused, Stored
from app.presence.services import presence_of
from app.realtime.consumers import RealtimeConsumer
from app.realtime.delivery_questions import Deliveries
from app.realtime.handlers import Later, Reply, command
from app.realtime.protocol import CommandError, Ping, encode_error
from app.realtime.stream import Position


class ChatConsumer(RealtimeConsumer):
    """One connection, many rooms."""

    def __init__(self) -> None:
        super().__init__()
        self._rooms: ConnectedRooms | None = None

    @property
    def rooms(self) -> ConnectedRooms:
        """Made when they are first asked for: an idle connection carries none."""
        if self._rooms is None:
            self._rooms = ConnectedRooms(self.node, self.connection, self.identity)
        return self._rooms

    @command("ping")
    def ping(self, data: Ping) -> None:
        """The client asks whether anybody is there, and confirms what it has."""
        if data.seen and self._rooms is not None:
            self._rooms.confirm(data.seen)

    # --- Being in rooms ----------------------------------------------------------------------------------

    @command("chat.join_room")
    async def join_room(self, data: JoinRoom) -> Reply:
        """Hear the room and be seen in it, from a position on or from a snapshot."""
        place = data.position
        after = None if place is None else Position(place.epoch, place.sequence)
        return await self.rooms.join(data.room, after)

    @command("chat.resume")
    async def resume(self, data: Resume) -> Reply:
        """Go on in many rooms from where this client was."""
        places: dict[str, Position] = {}
        for one in data.rooms:
            if one.room in places:
                raise CommandError("invalid_data", f"the room {one.room} is named twice")
            places[one.room] = Position(one.epoch, one.sequence)
        return await self.rooms.resume(places)

    @command("chat.leave_room")
    def leave_room(self, data: LeaveRoom) -> None:
        """Neither hear nor be seen."""
        if self._rooms is not None:
            self._rooms.leave(data.room)

    # --- Saying something --------------------------------------------------------------------------------

    @command("chat.post_message")
    def post_message(self, data: PostMessage) -> Later:
        """Say something to a room, joined or not."""
        _check_text(data.text)
        with _answering(data.room):
            future = services.post_message(
                self.node, data.room, sender=self.identity, key=data.key, text=data.text
            )
        return Later(future, partial(_posted, data.room, data.key))

    @command("chat.edit_message")
    def edit_message(self, data: EditMessage) -> Later:
        """Give one's own message another text."""
        _check_text(data.text)
        with _answering(data.room):
            future = services.edit_message(
                self.node,
                data.room,
                sender=self.identity.id,
                key=data.key,
                message=data.message_id,
                text=data.text,
            )
        return Later(future, partial(_stored, data.room))

    @command("chat.delete_message")
    def delete_message(self, data: DeleteMessage) -> Later:
        """Take a message's text away."""
        with _answering(data.room):
            future = services.delete_message(
                self.node, data.room, sender=self.identity.id, key=data.key, message=data.message_id
            )
        return Later(future, partial(_stored, data.room))

    # --- Reading -----------------------------------------------------------------------------------------

    @command("chat.history")
    async def history(self, data: ReadHistory) -> History:
        """A page of older messages."""
        page = await reads_of(self.node).messages_before(data.room, self.identity.id, data.before, data.limit)
        return History(data.room, page.messages, page.earlier)

    @command("chat.mark_read")
    def mark_read(self, data: MarkRead) -> None:
        """This person read the room up to there, on whatever device."""
        markers_of(self.node).mark(data.room, self.identity.id, data.sequence)

    @command("chat.deliveries")
    async def deliveries(self, data: AskDeliveries) -> Deliveries:
        """On each node: how many were to get this event, got it, and say so."""
        position = await reads_of(self.node).place_of_own_event(data.room, self.identity.id, data.sequence)
        return await self.node.deliveries(room_group(data.room), position)

    # --- Members -----------------------------------------------------------------------------------------

    @command("chat.members")
    async def members(self, data: ListMembers) -> RoomMembers:
        """Who belongs to the room, and as what."""
        return await reads_of(self.node).members_of(data.room, self.identity.id)

    @command("chat.find_person")
    async def find_person(self, data: FindPerson) -> RoomMember:
        """Whose account has this name: to add them."""
        return await reads_of(self.node).person_named(data.room, self.identity.id, data.name)

    @command("chat.set_member")
    async def set_member(self, data: SetMember) -> Later:
        """Give somebody a role, mute or ban them."""
        name = await self._name_of(data.person, data.room)
        with _answering(data.room):
            future = services.set_member(
                self.node,
                data.room,
                sender=self.identity.id,
                key=data.key,
                person=data.person,
                name=name,
                role=Role(data.role or Role.VISITOR),
                muted=data.muted,
            )
        return Later(future, partial(_stored, data.room))

    @command("chat.remove_member")
    async def remove_member(self, data: RemoveMember) -> Later:
        """End somebody's membership, or one's own."""
        name = await self._name_of(data.person, data.room)
        with _answering(data.room):
            future = services.remove_member(
                self.node, data.room, sender=self.identity.id, key=data.key, person=data.person, name=name
            )
        return Later(future, partial(_stored, data.room))

    async def _name_of(self, person: str, room: str) -> str:
        """As others see it there; a guest's is known while they are there."""
        here = presence_of(self.node).name_of(room, person)
        return here or await reads_of(self.node).name_of(person)

    def disconnected(self, code: int) -> None:
        if self._rooms is not None:
            self._rooms.leave_all()


class RoomConsumer(ChatConsumer):
    """The same with the room of the URL joined at once: for a client that wants only one."""

    async def connected(self) -> None:
        try:
            joined = await self.rooms.join(self.url_kwargs["slug"], None)
        except CommandError as error:
            self.connection.send(encode_error(None, error))
        else:
            self.send(joined.data)
            joined.then()


class ChatTasks(SyncConsumer):  # type: ignore[misc]  # untyped library
    """What nobody waits for, on the channel `chat`. Each may be done twice without harm."""

    def purge_guests(self, message: dict[str, str]) -> None:
        services.purge_guests(timezone.now() - timedelta(hours=settings.JOURNAL_KEEP_HOURS))


def _check_text(text: str) -> None:
    if text.isspace():
        raise CommandError("invalid_data", "expected a text that is not only spaces")
    if "\x00" in text:
        raise CommandError("invalid_data", "expected a text without NUL characters")


@contextmanager
def _answering(room: str) -> Iterator[None]:
    """What becomes of an entry for `room`, in the protocol's words."""
    try:
        yield
    except NoSuchStream:
        raise no_room(room) from None
    except Refused as refused:
        if refused.message == NO_ROOM:
            raise no_room(room) from None
        raise CommandError(refused.code, refused.message) from None
    except Busy as busy:
        raise CommandError("busy", "this could not be stored in time: try again", busy.retry_after) from None
    except OutcomeUnknown:
        raise CommandError("unknown", "this may be stored or not: send it again with the same key") from None


def _stored(room: str, future: "Future[Stored]") -> Any:
    """Where it is stored: the reply."""
    with _answering(room):
        return future.result().position


def _posted(room: str, key: UUID, future: "Future[Stored]") -> msgspec.Struct:
    with _answering(room):
        stored = future.result()
    return PostedMessage(key, stored.position.epoch, stored.position.sequence, stored.at)
