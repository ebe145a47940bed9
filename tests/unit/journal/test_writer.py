"""What every database must make true for a writer, with a feature of the tests' own."""

import asyncio

from app.journal.writer import Writer
from tests.unit.journal.conftest import Committed
from tests.unit.journal.notes import note


async def test_entries_get_the_next_positions_of_their_streams(writer: Writer, committed: Committed) -> None:
    entries = [note("notes.a"), note("notes.b"), note("notes.a")]
    stored = await asyncio.gather(*(writer.append(entry) for entry in entries))
    assert [answer.position.sequence for answer in stored] == [1, 1, 2]
    assert [answer.at for answer in stored] == [entry.at for entry in entries]
    assert not any(answer.repeated for answer in stored)
    assert [(stream, event.sequence, event.payload) for stream, event in committed] == [
        ("notes.a", 1, entries[0].payload),
        ("notes.b", 1, entries[1].payload),
        ("notes.a", 2, entries[2].payload),
    ]
    assert {event.epoch for _, event in committed} == {answer.position.epoch for answer in stored}
