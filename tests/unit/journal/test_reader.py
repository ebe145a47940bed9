"""What the database says of streams, on PostgreSQL and SQLite alike."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from app.journal.models import StoredEvent, StreamPosition
from app.journal.reader import Reader, read_streams
from app.journal.writer import Writer
from app.realtime.stream import StreamEvent, StreamRead, Unreadable
from app.realtime.stream_order import NOWHERE
from tests.unit.journal.notes import PLAIN, banned, note

PLENTY = 2**20


@pytest.fixture
async def reader(streams: None) -> AsyncIterator[Reader]:
    reader = Reader()
    yield reader
    await reader.stop()


async def written(writer: Writer, stream: str, count: int) -> None:
    await asyncio.gather(*(writer.append(note(stream, f"{stream} {n}")) for n in range(1, count + 1)))


def sequences(read: StreamRead) -> list[int]:
    return [event.sequence for event in read.events]


async def test_any_number_of_streams_is_one_query(writer: Writer, streams: None) -> None:
    await written(writer, "notes.a", 3)
    await written(writer, "notes.b", 2)

    def ask() -> tuple[dict[str, StreamRead], int]:
        with CaptureQueriesContext(connection) as queries:
            reads = read_streams({"notes.a": 1, "notes.b": 0, "notes.missing": 0}, 10, PLENTY)
        connection.close()
        return reads, len(queries)

    reads, queries = await asyncio.to_thread(ask)
    assert queries == 1
    assert {name: sequences(read) for name, read in reads.items()} == {"notes.a": [2, 3], "notes.b": [1, 2]}
    assert {read.last_sequence for read in reads.values()} == {2, 3}
    assert all(read.floor == 0 for read in reads.values())


async def test_events_come_as_they_were_committed(
    writer: Writer, reader: Reader, committed: list[tuple[str, StreamEvent]]
) -> None:
    await writer.append(note("notes.a", "dong é ✓"))
    await writer.append(banned("u2"))
    read = (await reader.read({"notes.a": 0}, 10, PLENTY))["notes.a"]
    assert [event[:4] for event in read.events] == [event[:4] for _, event in committed]
    assert [event.at for event in read.events] == pytest.approx(
        [event.at for _, event in committed], abs=0.002
    )
    assert not any(event.local for event in read.events), "this node may have nothing to do with it"
    assert [event.removes for event in read.events] == ["", "u2"]


async def test_a_stream_without_events_is_told_with_its_position(reader: Reader) -> None:
    reads = await reader.read({"notes.a": 0}, 10, PLENTY)
    epoch = await asyncio.to_thread(lambda: StreamPosition.objects.get(stream="notes.a").epoch)
    assert reads == {"notes.a": StreamRead(epoch, 0, 0, [])}


async def test_no_more_events_are_read_than_asked_for(writer: Writer, reader: Reader) -> None:
    await written(writer, "notes.a", 9)
    read = (await reader.read({"notes.a": 2}, 3, PLENTY))["notes.a"]
    assert (sequences(read), read.last_sequence) == ([3, 4, 5], 9)


async def test_no_more_bytes_are_read_than_asked_for_and_every_stream_gets_its_share(
    writer: Writer, reader: Reader
) -> None:
    large = [note(stream, "é" * 500, kind=PLAIN) for stream in ["notes.a"] * 9 + ["notes.b"] * 2]
    size = len(large[0].payload)
    assert size > 1000
    await asyncio.gather(*map(writer.append, large))
    shares = {0: ([], []), 1: ([1], []), size: ([1], []), size + 1: ([1], [1]), 5 * size: ([1, 2, 3], [1, 2])}
    for bytes_wanted, share in shares.items():
        reads = await reader.read({"notes.a": 0, "notes.b": 0}, 10, bytes_wanted)
        assert (sequences(reads["notes.a"]), sequences(reads["notes.b"])) == share
        assert (reads["notes.a"].last_sequence, reads["notes.b"].last_sequence) == (9, 2)
    reads = await reader.read({"notes.b": 0, "notes.a": 3}, 10, 1)
    assert (sequences(reads["notes.a"]), sequences(reads["notes.b"])) == ([], [1])


async def test_where_a_stream_is_can_be_asked_without_its_events(writer: Writer, reader: Reader) -> None:
    await written(writer, "notes.a", 4)
    read = (await reader.read({"notes.a": NOWHERE}, 1000, PLENTY))["notes.a"]
    assert (sequences(read), read.last_sequence) == ([], 4)


async def test_what_was_purged_is_told_by_the_floor(writer: Writer, reader: Reader) -> None:
    await written(writer, "notes.a", 5)

    def purge() -> None:
        StoredEvent.objects.filter(sequence__lte=3).delete()
        StreamPosition.objects.filter(stream="notes.a").update(floor=3)
        connection.close()

    await asyncio.to_thread(purge)
    read = (await reader.read({"notes.a": 1}, 10, PLENTY))["notes.a"]
    assert (read.floor, sequences(read)) == (3, [4, 5])


async def test_nothing_asked_is_no_query(reader: Reader) -> None:
    assert await reader.read({}, 10, PLENTY) == {}


async def test_a_database_that_fails_is_unreadable(reader: Reader) -> None:
    def lose() -> None:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE journal_event RENAME TO journal_lost")
        connection.close()

    def find() -> None:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE journal_lost RENAME TO journal_event")
        connection.close()

    await asyncio.to_thread(lose)
    try:
        with pytest.raises(Unreadable, match="journal_event"):
            await reader.read({"notes.a": 0}, 10, PLENTY)
    finally:
        await asyncio.to_thread(find)
