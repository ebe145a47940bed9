"""Chat's reads for the event loop: many who ask at once share a few queries, all of one snapshot."""

import asyncio
import logging
from collections.abc import Awaitable, Sequence
from functools import partial
from typing import Final, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import msgspec
from django.db import Error as DatabaseError

from app.chat import selectors
from app.chat.events import KeptMessage, room_group
from app.chat.selectors import Latest, NoStream, Standing
from app.database.batches import ANSWER_SECONDS, Batches, NoAnswer
from app.database.snapshot import one_snapshot
from app.database.thread import in_database_thread
from app.journal.reader import read_streams
from app.realtime.node import Node
from app.realtime.protocol import CommandError
from app.realtime.stream import Position, Reset, StreamEvent, reset_reason
from app.realtime.stream_audience import CATCH_UP_LIMIT

logger = logging.getLogger(__name__)

RETRY_SECONDS: Final = 1.0
"""When to ask again while the database is away."""

NOTHING: Final = msgspec.Raw(b"[]")

Answer = TypeVar("Answer")


class Question(NamedTuple):
    """How is this room for this person? `after`: they want to go on from there, if that can be.

    `snapshot`: else they want its messages, and from which position on they hold.
    """

    slug: str
    person: str
    after: Position | None
    snapshot: bool = True


class RoomRead(NamedTuple):
    """A room as one person gets it: what came behind their position, or a snapshot.

    `events` may begin earlier than asked, they are shared; `messages` is encoded once for all, too.
    """

    standing: Standing
    resumed: bool
    reset: Reset | None
    events: Sequence[StreamEvent] = ()
    messages: msgspec.Raw = NOTHING
    earlier: bool = False


class RoomReads:
    """One node's reads."""

    def __init__(self) -> None:
        self._rooms = Batches(read_rooms, logger, "reading rooms")

    async def room(self, question: Question) -> RoomRead:
        """The answer. Raises `CommandError`: the room is not there, not for them, or cannot be read."""
        return await _or_busy(self._rooms.ask(question))

    async def messages_before(self, slug: str, person: str, before: int, limit: int) -> Latest:
        """See `selectors.messages_before`."""
        work = partial(selectors.messages_before, slug, person, before, limit)
        return await _or_busy(asyncio.wait_for(in_database_thread(work), ANSWER_SECONDS))


def read_rooms(questions: list[Question]) -> list[RoomRead | Exception]:
    """The answers in order, from one snapshot: a query for rights, one for events, one for messages."""
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
        standings = selectors.standings([(question.slug, question.person) for question in questions])
        resets: list[Reset | None] = []
        behind: dict[str, int] = {}
        wanted: set[int] = set()
        for (slug, _, after, snapshot), standing in zip(questions, standings, strict=True):
            reset = None
            if isinstance(standing, Standing):
                if after is not None:
                    reset = reset_reason(after, standing.stream, CATCH_UP_LIMIT)
                if after is None or reset is not None:
                    wanted |= {standing.room_id} if snapshot else set()
                elif after.sequence < standing.stream.last_sequence:
                    stream = room_group(slug)
                    behind[stream] = min(after.sequence, behind.get(stream, after.sequence))
            resets.append(reset)
        streams = read_streams(behind, CATCH_UP_LIMIT) if behind else {}
        latest = selectors.latest_messages(wanted)
    messages = {room: (_encoded(one.messages), one.earlier) for room, one in latest.items()}
    answers: list[RoomRead | Exception] = []
    for question, standing, reset in zip(questions, standings, resets, strict=True):
        if not isinstance(standing, Standing):
            answers.append(standing)
        elif question.after is not None and reset is None:
            read = streams.get(room_group(question.slug))
            answers.append(RoomRead(standing, True, None, read.events if read else ()))
        elif question.snapshot:
            answers.append(RoomRead(standing, False, reset, (), *messages[standing.room_id]))
        else:
            answers.append(RoomRead(standing, False, reset))
    return answers


def _encoded(messages: list[KeptMessage]) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(messages))


async def _or_busy(answer: Awaitable[Answer]) -> Answer:
    try:
        return await answer
    except (NoAnswer, TimeoutError, DatabaseError):
        raise CommandError("busy", "the database does not answer: try again", RETRY_SECONDS) from None


_reads: "WeakKeyDictionary[Node, RoomReads]" = WeakKeyDictionary()


def reads_of(node: Node) -> RoomReads:
    """The reads of `node`, made when they are first asked for."""
    reads = _reads.get(node)
    if reads is None:
        reads = _reads[node] = RoomReads()
    return reads
