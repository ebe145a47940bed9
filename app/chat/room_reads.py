"""Chat's reads for the event loop: many who ask at once share a few queries, all of one snapshot."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import starmap
from typing import Final, NamedTuple, TypeVar

import msgspec
from django.db import Error as DatabaseError

from app.chat import memberships, selectors
from app.chat.events import RoomMember, RoomMembers, room_group
from app.chat.selectors import Latest, NoStream, Place, Standing
from app.database.batches import ANSWER_SECONDS, Batches, NoAnswer
from app.database.snapshot import one_snapshot
from app.database.thread import in_database_thread
from app.journal.reader import read_streams
from app.observability import metrics
from app.realtime.node import Node, bytes_at_once
from app.realtime.protocol import CommandError
from app.realtime.stream import Position, Reset, StreamEvent, reset_reason
from app.realtime.stream_audience import CATCH_UP_LIMIT

logger = logging.getLogger(__name__)

RETRY_SECONDS: Final = 1.0
"""When to ask again while the database is away."""

READ_BYTES: Final = 16 * 2**20
"""Of events, and of snapshots, in one read for all who share it: what is sent to them is bounded by far less
each."""

ROOMS_AT_ONCE: Final = 50
"""Whose messages are in memory together, before they are encoded."""

NOTHING: Final = msgspec.Raw(b"[]")

Answer = TypeVar("Answer")


class Budget:
    """Bytes of events and of people that one command may be answered with."""

    def __init__(self) -> None:
        self._left = bytes_at_once()
        self._taken: dict[str, int] = {}

    def take(self, slug: str, size: int) -> bool:
        """Whether these events of a room are within it. Asking again for a room replaces its size."""
        self._left += self._taken.pop(slug, 0)
        if not self.spend(size):
            return False
        self._taken[slug] = size
        return True

    def spend(self, size: int) -> bool:
        """Whether so much more is within it."""
        if size > self._left:
            return False
        self._left -= size
        return True


class Question(NamedTuple):
    """How is this room for this person? `after`: they want to go on from there, if that can be.

    `snapshot`: else they want its messages, and from which position on they hold. `marked`: they read up to
    there, written or not. All questions of one command share its budget.
    """

    slug: str
    person: str
    after: Position | None
    budget: Budget
    snapshot: bool = True
    marked: int = 0


class RoomRead(NamedTuple):
    """A room as one person gets it: what came behind their position, or a snapshot.

    `events` may begin earlier than asked, they are shared; `size` is the bytes of those that were missed.
    `messages` is encoded once for all, too.
    """

    standing: Standing
    resumed: bool
    reset: Reset | None
    events: Sequence[StreamEvent] = ()
    size: int = 0
    messages: msgspec.Raw = NOTHING
    earlier: bool = False


class Page(NamedTuple):
    """Messages, encoded, oldest first: as many as a connection is sent at once, but one at least. `earlier`:
    there are more before them."""

    messages: msgspec.Raw
    earlier: bool


class RoomReads:
    """One node's reads."""

    def __init__(self, _: Node) -> None:
        self._rooms = Batches(read_rooms, logger, "reading rooms")

    async def room(self, question: Question) -> RoomRead:
        """The answer. Raises `CommandError`: the room is not there, not for them, or cannot be read."""
        try:
            read = await _or_busy(self._rooms.ask(question))
        except CommandError:
            if question.after is not None:
                metrics.resumes.labels("refused").inc()
            raise
        if question.after is not None:
            metrics.resumes.labels(read.reset or "resumed").inc()
        return read

    async def messages_before(self, slug: str, person: str, before: int, limit: int) -> Page:
        """See `selectors.messages_before`."""
        return await _in_time(lambda: _page(selectors.messages_before(slug, person, before, limit)))

    async def members_of(self, slug: str, person: str) -> RoomMembers:
        """See `memberships.members_of`; those that one connection is sent at once, the first ones."""
        members, count = await _in_time(partial(memberships.members_of, slug, person))
        return RoomMembers(slug, _list(_fitting(members)), count)

    async def person_named(self, slug: str, asker: str, name: str) -> RoomMember:
        """See `memberships.person_named`."""
        return await _in_time(partial(memberships.person_named, slug, asker, name))

    async def name_of(self, person: str) -> str:
        """See `memberships.name_of`."""
        return await _in_time(partial(memberships.name_of, person))

    async def place_of_own_event(self, slug: str, person: str, sequence: int) -> Position:
        """See `selectors.place_of_own_event`."""
        return await _in_time(partial(selectors.place_of_own_event, slug, person, sequence))


def read_rooms(questions: list[Question]) -> list[RoomRead | Exception]:
    """The answers in order, from one snapshot: a query for rights, one for the sizes of what was missed, one
    for that, one for messages."""
    answers = _read(questions)
    missing = {
        question.slug
        for question, answer in zip(questions, answers, strict=True)
        if isinstance(answer, NoStream)
    }
    if missing:
        selectors.open_missing_streams(missing)
        answers = _read(questions)
    return answers


def _read(questions: list[Question]) -> list[RoomRead | Exception]:
    with one_snapshot():
        standings = selectors.standings([(one.slug, one.person, one.marked) for one in questions])
        asked = list(zip(questions, standings, strict=True))
        sizes = selectors.sizes_behind({*filter(None, starmap(_place_behind, asked))})
        streams: dict[str, int] = {}
        answers: list[RoomRead | Exception] = [
            _answer(question, standing, sizes, streams) for question, standing in asked
        ]
        lowest: dict[str, int] = {}
        wanted: set[int] = set()
        for question, answer in zip(questions, answers, strict=True):
            if not isinstance(answer, RoomRead):
                continue
            if answer.size and question.after is not None:
                stream, after = room_group(question.slug), question.after.sequence
                lowest[stream] = min(after, lowest.get(stream, after))
            elif question.snapshot and not answer.resumed:
                wanted.add(answer.standing.room_id)
        reads = read_streams(lowest, CATCH_UP_LIMIT, READ_BYTES)
        pages = _latest_pages(sorted(wanted))
    for n, (question, answer) in enumerate(zip(questions, answers, strict=True)):
        if not isinstance(answer, RoomRead):
            continue
        room = answer.standing.room_id
        if answer.size:
            answers[n] = answer._replace(events=reads[room_group(question.slug)].events)
        elif question.snapshot and not answer.resumed:
            page = pages.get(room)
            answers[n] = _too_many() if page is None else answer._replace(**page._asdict())
    return answers


def _latest_pages(rooms: list[int]) -> dict[int, Page]:
    """What each of these rooms shows first; the last ones are missing if all would be too much."""
    pages: dict[int, Page] = {}
    size = 0
    for start in range(0, len(rooms), ROOMS_AT_ONCE):
        if size >= READ_BYTES:
            break
        for room, latest in selectors.latest_messages(rooms[start : start + ROOMS_AT_ONCE]).items():
            pages[room] = page = _page(latest)
            size += len(bytes(page.messages))
    return pages


def _page(latest: Latest) -> Page:
    fitting = _fitting(reversed(latest.messages))
    return Page(_list(fitting[::-1]), latest.earlier or len(fitting) < len(latest.messages))


def _fitting(items: Iterable[msgspec.Struct]) -> list[bytes]:
    """The first ones, encoded: as many as a connection is sent at once, but one at least."""
    fitting: list[bytes] = []
    left = bytes_at_once()
    for item in items:
        encoded = msgspec.json.encode(item)
        left -= len(encoded) + 1
        if fitting and left < 0:
            break
        fitting.append(encoded)
    return fitting


def _list(encoded: Iterable[bytes]) -> msgspec.Raw:
    return msgspec.Raw(b"[%b]" % b",".join(encoded))


def _too_many() -> CommandError:
    return CommandError("busy", "too many come back at once: try again", RETRY_SECONDS)


def _place_behind(question: Question, standing: Standing | CommandError) -> Place | None:
    """Where events are missed from, if somebody can go on from there and misses any."""
    after = question.after
    if after is None or not isinstance(standing, Standing):
        return None
    if after.sequence == standing.stream.last_sequence:
        return None
    if reset_reason(after, standing.stream, CATCH_UP_LIMIT) is not None:
        return None
    return room_group(question.slug), after.sequence


def _answer(
    question: Question,
    standing: Standing | CommandError,
    sizes: Mapping[Place, int],
    streams: dict[str, int],
) -> RoomRead | CommandError:
    """Without events and messages. `streams` has the bytes that are to be read of each, and gets these."""
    if not isinstance(standing, Standing):
        return standing
    after = question.after
    reason = None if after is None else reset_reason(after, standing.stream, CATCH_UP_LIMIT)
    if after is None or reason is not None:
        return RoomRead(standing, False, reason)
    place = _place_behind(question, standing)
    if place is None:
        return RoomRead(standing, True, None)
    stream, size = place[0], sizes.get(place)
    if size is None or not question.budget.take(question.slug, size):
        return RoomRead(standing, False, Reset.TOO_FAR)
    more = max(0, size - streams.get(stream, 0))
    if sum(streams.values()) + more > READ_BYTES:
        return _too_many()
    streams[stream] = streams.get(stream, 0) + more
    return RoomRead(standing, True, None, size=size)


async def _in_time(work: Callable[[], Answer]) -> Answer:
    """One read of its own, for what is asked rarely."""
    return await _or_busy(asyncio.wait_for(in_database_thread(work), ANSWER_SECONDS))


async def _or_busy(answer: Awaitable[Answer]) -> Answer:
    try:
        return await answer
    except (NoAnswer, TimeoutError, DatabaseError):
        raise CommandError("busy", "the database does not answer: try again", RETRY_SECONDS) from None


def reads_of(node: Node) -> RoomReads:
    """The reads of `node`, made when they are first asked for."""
    return node.part(RoomReads)
