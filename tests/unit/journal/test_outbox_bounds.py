"""However much of the outbox is for streams that somebody holds, the rest is moved past it."""

import asyncio

import pytest

from app.journal.entry import Entry
from app.journal.writer import Bounds, Writer
from tests import virtual_time
from tests.unit.journal.conftest import Committed
from tests.unit.journal.notes import PLAIN, note
from tests.unit.journal.test_writer_queue import Played, until_later


@pytest.mark.parametrize(
    ("streams", "rows", "waits"),
    [
        pytest.param(6, 200, 3600, id="a few streams with many rows, and nothing is given up"),
        pytest.param(50, 60, 5, id="more streams than there is room for"),
    ],
)
def test_what_waits_for_streams_that_somebody_holds_takes_no_other_streams_room(
    committed: Committed, streams: int, rows: int, waits: float
) -> None:
    names = [f"notes.held_{number}" for number in range(streams)]
    held: list[Entry] = [note(name, str(number), kind=PLAIN) for name in names for number in range(rows)]

    async def move() -> None:
        database = Played()
        database.locked = set(names)
        database.rows = dict(enumerate([*held, note("notes.b", kind=PLAIN)], start=1))
        writer = Writer(committed.extend, database, Bounds(1000, 2**20, waits, batch=100))
        writer.start()
        await until_later(lambda: committed)
        assert [name for name, _ in committed] == ["notes.b"]
        database.locked = set()
        async with asyncio.timeout(60):
            await until_later(lambda: not database.rows)
        await writer.stop()

    virtual_time.run(move())
    for name in names:
        events = [event.payload for stream, event in committed if stream == name]
        assert events == [entry.payload for entry in held if entry.stream == name]
