"""The rooms that one connection is in: each with its place in the room's stream, and a presence.

A room is entered before it is spoken of, so whatever the way out is, it is left exactly once.
"""

import asyncio
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from functools import partial

import msgspec
from django.conf import settings

from app.chat.events import (
    Refusal,
    ResumedRooms,
    RoomJoined,
    RoomRefused,
    RoomReset,
    room_group,
)
from app.chat.models import Role
from app.chat.read_markers import markers_of
from app.chat.room_reads import NOTHING, RETRY_SECONDS, Budget, Question, RoomRead, reads_of
from app.chat.room_rights import rights_of
from app.chat.selectors import no_room
from app.journal.journal import journal_of
from app.presence.services import People, presence_of
from app.realtime.connection import Connection
from app.realtime.handlers import Reply
from app.realtime.identity import Identity
from app.realtime.node import Node
from app.realtime.protocol import CommandError
from app.realtime.stream import Position, Reset, Unreadable
from app.realtime.stream_audience import Ended, Following
from app.realtime.streams import NoStream


class ConnectedRooms:
    """Of one connection of one person. `seen`: others see them there. `on_ended` is called when a room ended
    from the server's side, after it was left."""

    def __init__(
        self,
        node: Node,
        connection: Connection,
        person: Identity,
        *,
        seen: bool = True,
        on_ended: Callable[[Ended], None] | None = None,
    ) -> None:
        self._node = node
        self._seen = seen
        self._on_ended = on_ended
        self._connection = connection
        self._person = person
        self._followings: dict[str, Following | None] = {}
        """By slug; None until the reply is sent behind which the events follow."""
        self._left = False
        journal_of(node)  # streams are read from it

    async def join(self, slug: str, after: Position | None) -> Reply:
        """Hear the room from `after` on, or from a snapshot. Joining again starts over from there."""
        self._check_limit([slug])
        budget = Budget()
        read = await self._read(self._question(slug, after, budget, snapshot=True))
        return Reply(self._joined(slug, read, after, budget), partial(self._follow, slug, read, after))

    async def resume(self, places: Mapping[str, Position]) -> Reply:
        """Go on in many rooms; those where that cannot be are not joined."""
        self._check_limit(places)
        budget = Budget()
        answers = await asyncio.gather(
            *(self._resume(slug, after, budget) for slug, after in places.items()), return_exceptions=True
        )
        rooms: list[RoomJoined | RoomReset | RoomRefused] = []
        follows = []
        for (slug, after), answer in zip(places.items(), answers, strict=True):
            if isinstance(answer, CommandError):
                rooms.append(RoomRefused(slug, Refusal(answer.code, answer.message)))
            elif isinstance(answer, BaseException):
                raise answer
            elif answer.reset is not None:
                rooms.append(RoomReset(slug, answer.reset))
            elif slug not in self._followings:  # it ended while others were read
                rooms.append(RoomRefused(slug, Refusal("busy", "this room ended: join it again")))
            else:
                rooms.append(self._joined(slug, answer, after, budget))
                follows.append(partial(self._follow, slug, answer, after))
        return Reply(ResumedRooms(rooms), lambda: [follow() for follow in follows])

    def leave(self, slug: str) -> None:
        """Neither hear nor be seen. A room that one is not in is ignored."""
        if slug not in self._followings:
            return
        following = self._followings.pop(slug)
        if following is not None:
            following.end()
        self._node.streams.leave(room_group(slug))
        if self._seen:
            presence_of(self._node).leave(slug, self._person.id, self._connection)

    @property
    def followed(self) -> Collection[str]:
        """The slugs of the rooms whose events it gets."""
        return [slug for slug, following in self._followings.items() if following is not None]

    def send_out(self, slug: str) -> None:
        """This person may not be there any more, perhaps: the client joins again, and is told."""
        following = self._followings.get(slug)
        if following is not None:
            following.send_away(Reset.RIGHTS)

    def confirm(self, seen: Mapping[str, int]) -> None:
        """The client has everything up to these sequences of these streams. Streams that it does not follow
        are ignored."""
        for slug, following in self._followings.items():
            sequence = seen.get(room_group(slug))
            if sequence is not None and following is not None:
                following.confirm(sequence)

    def leave_all(self) -> None:
        """The connection is gone: nobody enters anything any more."""
        self._left = True
        for slug in [*self._followings]:
            self.leave(slug)

    def _check_limit(self, slugs: Iterable[str]) -> None:
        limit = settings.ROOMS_PER_CONNECTION
        if len(self._followings.keys() | slugs) > limit:
            raise CommandError("too_many_rooms", f"this connection may be in {limit} rooms: leave one")

    async def _resume(self, slug: str, after: Position, budget: Budget) -> RoomRead:
        read = await self._read(self._question(slug, after, budget, snapshot=False))
        if not read.resumed:
            self.leave(slug)
        return read

    def _question(self, slug: str, after: Position | None, budget: Budget, *, snapshot: bool) -> Question:
        marked = markers_of(self._node).waiting(slug, self._person.id)
        return Question(slug, self._person.id, after, budget, snapshot, marked)

    async def _read(self, question: Question) -> RoomRead:
        """Enter the room, then read it: what happens in between is not missed."""
        slug, reads = question.slug, reads_of(self._node)
        while slug in self._followings:
            read = await reads.room(question)
            if slug in self._followings:
                return read
            # It ended while it was read: whoever may still come begins anew.
        try:
            await self._enter(slug)
        except NoStream:
            await reads.room(question)  # raises why, or opens a stream that is missing
            with suppress(NoStream):
                await self._enter(slug)
            if slug not in self._followings:
                raise no_room(slug) from None
        try:
            return await reads.room(question)
        except BaseException:
            self.leave(slug)
            raise

    async def _enter(self, slug: str) -> None:
        """Raises `NoStream` and `CommandError`."""
        try:
            await self._node.streams.enter(room_group(slug))
        except Unreadable:
            raise CommandError("busy", "the database does not answer: try again", RETRY_SECONDS) from None
        if self._left:
            self._node.streams.leave(room_group(slug))
            raise asyncio.CancelledError
        self._followings[slug] = None

    def _joined(self, slug: str, read: RoomRead, after: Position | None, budget: Budget) -> RoomJoined:
        people, members = People([], 0), NOTHING
        if self._seen:
            presence = presence_of(self._node)
            people = presence.enter(slug, room_group(slug), self._person, self._connection)
            encoded = msgspec.json.encode(people.members)
            if budget.spend(len(encoded)):
                members = msgspec.Raw(encoded)
            else:
                presence.tell_all_later(slug)
        standing = read.standing
        return RoomJoined(
            room=slug,
            title=standing.title,
            public=standing.public,
            role=None if standing.role is Role.VISITOR else standing.role.value,
            muted=standing.muted,
            members=members,
            count=people.count,
            position=_start(read, after),
            resumed=read.resumed,
            reset=read.reset,
            messages=read.messages,
            earlier=read.earlier,
            last_read=standing.last_read,
            unread=standing.unread,
        )

    def _follow(self, slug: str, read: RoomRead, after: Position | None) -> None:
        """The reply is on its way: what comes behind its position follows."""
        if slug not in self._followings:  # it ended while the reply was made
            return
        former = self._followings[slug]
        if former is not None:
            former.end()
        self._followings[slug] = self._node.streams.follow(
            room_group(slug),
            self._connection,
            person=self._person.id,
            after=_start(read, after),
            ended=partial(self._ended, slug),
            events=read.events,
        )
        rights_of(self._node).watch(self, self._person.id)

    def _ended(self, slug: str, ended: Ended) -> None:
        """Removed, or reset: the client was told, and is here no longer."""
        self.leave(slug)
        if self._on_ended is not None:
            self._on_ended(ended)


def _start(read: RoomRead, after: Position | None) -> Position:
    return after if read.resumed and after is not None else read.standing.position
