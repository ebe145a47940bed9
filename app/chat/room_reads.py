"""Chat's reads for the event loop: many who ask at once share a few queries, all of one snapshot."""

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from typing import Final, NamedTuple, TypeVar
from weakref import WeakKeyDictionary

import msgspec
from django.conf import settings
from django.db import Error as DatabaseError

from app.chat import selectors
from app.chat.events import room_group
from app.chat.selectors import Latest, NoStream, Standing
from app.database.batches import ANSWER_SECONDS, Batches, NoAnswer
from app.database.snapshot import one_snapshot
from app.database.thread import in_database_thread
from app.journal.reader import read_streams
from app.observability import metrics
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


class RoomReads:
    """One node's reads."""

    def __init__(self) -> None:
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


def catch_up_bytes() -> int:
    """More than this is not caught up with: the next event would find the connection over its budget."""
    return int(settings.UNSENT_LIMIT_BYTES) // 2


class _CaughtUp:
    """A stream's events, and how many bytes each of them and all behind it are."""

    def __init__(self, events: list[StreamEvent]) -> None:
        self.events = events
        self._behind = [0, *accumulate(len(event.payload) for event in reversed(events))]

    def size_after(self, sequence: int) -> int:
        """Of the events behind `sequence`."""
        return self._behind[max(0, self.events[-1].sequence - sequence)] if self.events else 0


def _read(questions: list[Question]) -> list[RoomRead | Exception]:
    with one_snapshot():
        standings = selectors.standings([(question.slug, question.person) for question in questions])
        asked = list(zip(questions, standings, strict=True))
        reads = read_streams(_behind(asked), CATCH_UP_LIMIT)
        caught_up = {stream: _CaughtUp(read.events) for stream, read in reads.items()}
        answers: list[RoomRead | Exception] = [
            _answer(question, standing, caught_up) for question, standing in asked
        ]
        wanted = {
            answer.standing.room_id
            for question, answer in zip(questions, answers, strict=True)
            if isinstance(answer, RoomRead) and not answer.resumed and question.snapshot
        }
        latest = selectors.latest_messages(wanted)
    encoded = {room: msgspec.Raw(msgspec.json.encode(one.messages)) for room, one in latest.items()}
    for n, answer in enumerate(answers):
        if isinstance(answer, RoomRead) and not answer.resumed and answer.standing.room_id in encoded:
            room = answer.standing.room_id
            answers[n] = answer._replace(messages=encoded[room], earlier=latest[room].earlier)
    return answers


def _behind(asked: Iterable[tuple[Question, Standing | CommandError]]) -> dict[str, int]:
    """Stream → the lowest sequence behind which events are wanted."""
    lowest: dict[str, int] = {}
    for (slug, _, after, _), standing in asked:
        if (
            after is not None
            and isinstance(standing, Standing)
            and after.sequence < standing.stream.last_sequence
            and reset_reason(after, standing.stream, CATCH_UP_LIMIT) is None
        ):
            stream = room_group(slug)
            lowest[stream] = min(after.sequence, lowest.get(stream, after.sequence))
    return lowest


def _answer(
    question: Question, standing: Standing | CommandError, caught_up: Mapping[str, _CaughtUp]
) -> RoomRead | CommandError:
    """Without messages."""
    if not isinstance(standing, Standing):
        return standing
    after = question.after
    if after is None:
        return RoomRead(standing, False, None)
    reason = reset_reason(after, standing.stream, CATCH_UP_LIMIT)
    if reason is not None:
        return RoomRead(standing, False, reason)
    missed = caught_up.get(room_group(question.slug))
    if missed is None or after.sequence == standing.stream.last_sequence:
        return RoomRead(standing, True, None)
    size = missed.size_after(after.sequence)
    if size > catch_up_bytes():
        return RoomRead(standing, False, Reset.TOO_FAR)
    return RoomRead(standing, True, None, missed.events, size)


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
