"""How a writer queues, batches and answers, with a database that the test plays."""

import asyncio
from asyncio import Future
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from datetime import UTC, datetime

import pytest
from prometheus_client import REGISTRY

from app.journal.backend import BadData, RolledBack, StreamLocked, Unanswered
from app.journal.entry import Busy, Entry, OutcomeUnknown, Refused, Stored
from app.journal.outbox import MOVED_TOGETHER
from app.journal.writer import BATCH_BYTES, Bounds, Writer
from app.realtime.stream import Position
from tests.unit.journal.conftest import Committed
from tests.unit.journal.notes import ERASED, PLAIN, note

BOUNDS = Bounds(entries=10, size=10_000, seconds=60, batch=5)


class Played:
    """A database whose batches end when and how the test says."""

    def __init__(self) -> None:
        self.batches: list[list[Entry]] = []
        self.closed = False
        self.hold = False
        self.locked: set[str] = set()
        self.behaviour: Callable[[Sequence[Entry]], None] = lambda _: None
        self.rows: dict[int, Entry] = {}
        self._waiting: Future[None] | None = None
        self._sequence = 0

    async def outbox(self, limit: int, without: Collection[str] = ()) -> list[tuple[int, Entry]]:
        return [(row, entry) for row, entry in self.rows.items() if entry.stream not in without][:limit]

    async def give_up(self, row: int, failure: str) -> bool:
        return self.rows.pop(row, None) is not None

    async def store(
        self, batch: Sequence[Entry], outbox: Sequence[int] = (), *, wait: bool = True
    ) -> list[Stored | Refused | None]:
        assert {id(self.rows[row]) for row in outbox} <= set(map(id, batch))
        self.batches.append(list(batch))
        if self.hold:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        self.behaviour(batch)
        if wait and any(entry.stream in self.locked for entry in batch):
            raise StreamLocked("a lock")
        for row in [row for row in outbox if self.rows[row].stream not in self.locked]:
            del self.rows[row]
        return [None if entry.stream in self.locked else self._next() for entry in batch]

    async def close(self) -> None:
        self.closed = True

    def release(self) -> None:
        """The batch that is held is stored, and later ones are not held."""
        self.hold = False
        assert self._waiting is not None
        self._waiting.set_result(None)

    @property
    def stored(self) -> list[Entry]:
        return [entry for batch in self.batches for entry in batch]

    def _next(self) -> Stored:
        self._sequence += 1
        return Stored(Position(1, self._sequence), datetime.now(UTC), repeated=False)


@pytest.fixture
def database() -> Played:
    return Played()


@pytest.fixture
async def writer(database: Played, committed: Committed) -> AsyncIterator[Writer]:
    writer = Writer(committed.extend, database, BOUNDS)
    writer.start()
    yield writer
    await writer.stop()


async def until(condition: Callable[[], object]) -> None:
    """A few rounds of the loop are enough for whatever this file does."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it did not come to that")


async def until_later(condition: Callable[[], object]) -> None:
    """For what waits for the clock in between."""
    async with asyncio.timeout(20):
        while True:
            if condition():
                return
            await asyncio.sleep(0.01)


async def hold(writer: Writer, database: Played) -> "Future[Stored]":
    """One batch of one entry stays at the database."""
    database.hold = True
    first = writer.append(note())
    await until(lambda: database.batches)
    return first


# --- Batches -----------------------------------------------------------------------------------------------


async def test_the_next_batch_collects_while_one_is_at_the_database(writer: Writer, database: Played) -> None:
    await hold(writer, database)
    entries = [note(), note("notes.b"), note()]
    futures = [writer.append(entry) for entry in entries]
    await asyncio.sleep(0)
    assert len(database.batches) == 1
    assert REGISTRY.get_sample_value("carillon_journal_waiting") == 3
    database.release()
    await asyncio.gather(*futures)
    assert database.batches[1:] == [entries]
    assert REGISTRY.get_sample_value("carillon_journal_waiting") == 0


async def test_a_batch_has_its_bounds(writer: Writer, database: Played) -> None:
    await hold(writer, database)
    futures = [writer.append(note()) for _ in range(7)]
    database.release()
    await asyncio.gather(*futures)
    assert [len(batch) for batch in database.batches] == [1, 5, 2]


async def test_a_batch_ends_when_its_payloads_are_many_bytes(database: Played) -> None:
    writer = Writer(
        lambda _: None, database, Bounds(entries=100, size=100 * BATCH_BYTES, seconds=60, batch=100)
    )
    futures = [writer.append(note(text="x" * (BATCH_BYTES // 4))) for _ in range(10)]
    writer.start()
    await asyncio.gather(*futures)
    assert [len(batch) for batch in database.batches] == [4, 4, 2]
    await writer.stop()


async def test_an_event_that_stands_alone_shares_no_batch_with_its_stream_and_keeps_its_order(
    writer: Writer, database: Played
) -> None:
    held = await hold(writer, database)
    alone = note(kind=ERASED)
    burst = [note(), alone, note(), note("notes.b"), note()]
    futures = [writer.append(entry) for entry in burst]
    database.release()
    await asyncio.gather(held, *futures)
    assert database.batches[1:] == [[burst[0], burst[3]], [alone], [burst[2], burst[4]]]


async def test_other_streams_go_along_with_an_event_that_stands_alone(
    writer: Writer, database: Played
) -> None:
    await hold(writer, database)
    burst = [note(kind=ERASED), note("notes.b"), note("notes.b", kind=ERASED)]
    futures = [writer.append(entry) for entry in burst]
    database.release()
    await asyncio.gather(*futures)
    assert database.batches[1:] == [burst[:2], burst[2:]]


async def test_a_key_is_only_once_in_a_batch_and_what_follows_it_in_its_stream_waits_too(
    writer: Writer, database: Played
) -> None:
    await hold(writer, database)
    first = note()
    burst = [first, note("notes.b", key=first.key), note("notes.b"), note()]
    futures = [writer.append(entry) for entry in burst]
    database.release()
    await asyncio.gather(*futures)
    assert database.batches[1:] == [[burst[0], burst[3]], [burst[1], burst[2]]]


# --- Answers -----------------------------------------------------------------------------------------------


async def test_events_are_handed_on_before_anybody_is_answered(database: Played) -> None:
    answered: list[bool] = []
    writer = Writer(lambda _: answered.append(future.done()), database, BOUNDS)
    future = writer.append(note())
    writer.start()
    await future
    assert answered == [False]
    await writer.stop()


async def test_an_answer_does_not_depend_on_who_takes_the_events(
    database: Played, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_: object) -> None:
        raise RuntimeError("planted")

    writer = Writer(broken, database, BOUNDS)
    writer.start()
    assert (await writer.append(note())).position.sequence == 1
    assert (await writer.append(note())).position.sequence == 2
    assert "planted" in caplog.text
    await writer.stop()


async def test_who_does_not_wait_for_the_answer_any_more_disturbs_nobody(
    writer: Writer, database: Played, committed: Committed
) -> None:
    await hold(writer, database)
    gone, other = writer.append(note()), writer.append(note())
    gone.cancel()
    database.release()
    await other
    assert len(committed) == 3


# --- Too much ----------------------------------------------------------------------------------------------


async def test_more_entries_than_may_wait_are_refused_and_come_in_again_later(
    writer: Writer, database: Played
) -> None:
    await hold(writer, database)
    futures = [writer.append(note()) for _ in range(BOUNDS.entries)]
    with pytest.raises(Busy) as busy:
        writer.append(note())
    assert busy.value.retry_after > 0
    database.release()
    await asyncio.gather(*futures)
    await writer.append(note())


async def test_more_bytes_than_may_wait_are_refused_and_come_in_again_later(
    writer: Writer, database: Played
) -> None:
    await hold(writer, database)
    large = "x" * (BOUNDS.size // 2)
    future = writer.append(note(text=large))
    with pytest.raises(Busy):
        writer.append(note(text=large))
    database.release()
    await future
    await writer.append(note(text=large))


async def test_an_entry_larger_than_all_that_may_wait_gets_in_when_nothing_waits(writer: Writer) -> None:
    await writer.append(note(text="x" * (2 * BOUNDS.size)))


async def test_nobody_waits_for_longer_than_the_bound_behind_a_database_that_hangs(
    database: Played,
) -> None:
    writer = Writer(lambda _: None, database, BOUNDS._replace(seconds=0.05))
    writer.start()
    first = await hold(writer, database)
    waiting = [writer.append(note()) for _ in range(10)]
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(answer, Busy) for answer in answers)
    again = writer.append(note())
    database.release()
    await asyncio.gather(first, again)
    assert len(database.stored) == 2
    await writer.stop()


# --- Failures ----------------------------------------------------------------------------------------------


def failing(times: int, error: Exception) -> Callable[[Sequence[Entry]], None]:
    """Fails so many times, then works."""
    left = [times]

    def behave(_: Sequence[Entry]) -> None:
        if left[0]:
            left[0] -= 1
            raise error

    return behave


async def test_a_batch_that_was_rolled_back_is_tried_again(writer: Writer, database: Played) -> None:
    database.behaviour = failing(3, RolledBack("a lock"))
    first, second = note(), note()
    await asyncio.gather(writer.append(first), writer.append(second))
    assert database.batches == [[first, second]] * 4


async def test_a_batch_that_is_rolled_back_again_and_again_ends_as_busy(database: Played) -> None:
    database.behaviour = failing(1000, RolledBack("a lock"))
    writer = Writer(lambda _: None, database, BOUNDS._replace(seconds=0.1))
    writer.start()
    with pytest.raises(Busy):
        await writer.append(note())
    await writer.stop()


async def test_a_stream_that_somebody_holds_holds_up_no_other(
    writer: Writer, database: Played, committed: Committed
) -> None:
    database.locked = {"notes.a"}
    held = [note(text=str(number)) for number in range(8)]  # more than a batch takes
    futures = [writer.append(entry) for entry in held]
    await asyncio.gather(*(writer.append(note("notes.b")) for _ in range(2)))
    await asyncio.gather(*(writer.append(note("notes.b")) for _ in range(2)))
    assert not any(future.done() for future in futures)
    database.locked = set()
    await asyncio.gather(*futures)
    assert [event.payload for name, event in committed if name == "notes.a"] == [
        entry.payload for entry in held
    ]
    database.batches.clear()
    await writer.append(note())
    assert len(database.batches) == 1


async def test_who_waits_for_a_stream_that_somebody_holds_is_answered_in_time(database: Played) -> None:
    database.locked = {"notes.a"}
    writer = Writer(lambda _: None, database, BOUNDS._replace(seconds=0.3))
    writer.start()
    with pytest.raises(Busy):
        await writer.append(note())
    await writer.append(note("notes.b"))
    database.locked = set()
    await writer.append(note())
    await writer.stop()


async def test_a_bad_row_beside_a_stream_that_somebody_holds_changes_no_order(
    writer: Writer, database: Played, committed: Committed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.journal.writer.HELD_SECONDS", 0.001)
    database.locked = {"notes.a"}
    waits = writer.append(note(text="0"))
    await writer.append(note("notes.b"))
    bad = note("notes.b")

    def behave(batch: Sequence[Entry]) -> None:
        if bad in batch:
            if len(batch) == 1:
                database.locked = set()
            raise BadData("planted")

    database.behaviour = behave
    burst = [note(text="1"), bad, note(text="2"), note("notes.b"), note(text="3")]
    answers = await asyncio.gather(waits, *map(writer.append, burst), return_exceptions=True)
    assert [isinstance(answer, Refused) for answer in answers] == [False, False, True, False, False, False]
    texts = [event.payload for name, event in committed if name == "notes.a"]
    assert texts == [note(text=str(number)).payload for number in range(4)]


async def test_an_answer_that_never_came_is_said_to_be_unknown_and_the_next_batch_is_tried(
    writer: Writer, database: Played, committed: Committed
) -> None:
    database.behaviour = failing(1, Unanswered("connection lost"))
    answers = await asyncio.gather(*(writer.append(note()) for _ in range(3)), return_exceptions=True)
    assert all(isinstance(answer, OutcomeUnknown) for answer in answers)
    assert committed == []
    await writer.append(note())
    assert len(database.batches) == 2  # what is unknown is not sent again: that is for who knows its key


async def test_a_batch_with_a_bad_row_is_halved_in_order(
    writer: Writer, database: Played, committed: Committed
) -> None:
    await hold(writer, database)
    entries = [note(text=str(number)) for number in range(5)]

    def behave(batch: Sequence[Entry]) -> None:
        if entries[3] in batch:
            raise BadData("planted")

    database.behaviour = behave
    futures = [writer.append(entry) for entry in entries]
    database.release()
    answers = await asyncio.gather(*futures, return_exceptions=True)
    assert [isinstance(answer, Refused) for answer in answers] == [False, False, False, True, False]
    assert [event.payload for _, event in committed][1:] == [
        entry.payload for entry in entries if entry is not entries[3]
    ]


async def test_no_row_of_the_outbox_overtakes_one_that_failed_in_the_other_half_of_its_batch(
    database: Played, committed: Committed
) -> None:
    entries = [note(text=str(number)) for number in range(3)]
    bad = note("notes.b")
    database.rows = dict(enumerate([*entries, bad], start=1))
    fails_once = failing(1, Unanswered("connection lost"))

    def behave(batch: Sequence[Entry]) -> None:
        if bad in batch:
            raise BadData("planted")
        fails_once(batch)

    database.behaviour = behave
    writer = Writer(committed.extend, database, BOUNDS)
    writer.start()
    await until_later(lambda: not database.rows)
    assert [event.payload for _, event in committed] == [entry.payload for entry in entries]
    await writer.stop()


async def test_rows_for_a_stream_that_somebody_holds_hold_up_no_other_and_keep_their_order(
    database: Played, committed: Committed
) -> None:
    database.locked = {"notes.a"}
    held = [note(text=str(number)) for number in range(MOVED_TOGETHER + 50)]
    database.rows = dict(enumerate([*held, note("notes.b")], start=1))
    writer = Writer(committed.extend, database, BOUNDS)
    writer.start()
    await until_later(lambda: committed)
    assert committed.sequences("notes.b") and len(database.rows) == len(held)
    database.locked = set()
    await until_later(lambda: not database.rows)
    assert [event.payload for _, event in committed[1:]] == [entry.payload for entry in held]
    await writer.stop()


async def test_what_was_stored_before_a_half_was_rolled_back_is_not_sent_again(
    writer: Writer, database: Played, committed: Committed
) -> None:
    entries = [note(text=str(number)) for number in range(4)]
    rolled_back = failing(1, RolledBack("a lock"))

    def behave(batch: Sequence[Entry]) -> None:
        if entries[3] in batch:
            if len(batch) == 2:
                rolled_back(batch)
            raise BadData("planted")

    database.behaviour = behave
    answers = await asyncio.gather(*map(writer.append, entries), return_exceptions=True)
    assert [isinstance(answer, Refused) for answer in answers] == [False, False, False, True]
    assert [event.payload for _, event in committed] == [entry.payload for entry in entries[:3]]


async def test_a_single_entry_is_tried_twice_because_it_may_have_met_another_writers(
    writer: Writer, database: Played
) -> None:
    database.behaviour = failing(1, BadData("a key that was there in the same moment"))
    await writer.append(note())


async def test_a_fault_of_our_own_ends_no_writer(
    writer: Writer, database: Played, caplog: pytest.LogCaptureFixture
) -> None:
    database.behaviour = failing(1, RuntimeError("planted"))
    with pytest.raises(OutcomeUnknown):
        await writer.append(note())
    await writer.append(note())
    assert "planted" in caplog.text


# --- The end -----------------------------------------------------------------------------------------------


async def test_a_writer_that_stops_stores_what_waits_and_takes_nothing_more(database: Played) -> None:
    writer = Writer(lambda _: None, database, BOUNDS)
    writer.start()
    futures = [writer.append(note(kind=PLAIN)) for _ in range(7)]
    await writer.stop()
    assert all(future.result() for future in futures)
    assert database.closed
    with pytest.raises(Busy):
        writer.append(note())


async def test_what_a_stopping_writer_cannot_store_is_answered_all_the_same(
    database: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.journal.writer.STOP_SECONDS", 0.05)
    writer = Writer(lambda _: None, database, BOUNDS)
    writer.start()
    sent = await hold(writer, database)
    waits = writer.append(note())
    await writer.stop()
    assert isinstance(sent.exception(), OutcomeUnknown)
    assert isinstance(waits.exception(), Busy)
