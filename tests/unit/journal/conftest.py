"""A journal with streams, in whatever database the run is on (`make test` runs it on both)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from app.journal.services import open_stream
from app.journal.writer import Bounds, Writer
from app.realtime.stream import StreamEvent
from tests.unit.journal.notes import drop_tables, make_tables

Ask = Callable[..., list[tuple[Any, ...]]]

BOUNDS = Bounds(entries=1000, size=2**20, seconds=5, batch=100)


class Committed(list[tuple[str, StreamEvent]]):
    """What a writer handed on, in order."""

    def sequences(self, stream: str) -> list[int]:
        return [event.sequence for name, event in self if name == stream]


@pytest.fixture
def streams(transactional_db: None) -> Iterator[None]:
    """`notes.a` and `notes.b`, empty."""
    make_tables()
    for name in ("notes.a", "notes.b"):
        open_stream(name)
    yield
    drop_tables()


@pytest.fixture
def ask(streams: None) -> Ask:
    """The rows of a query; usable from a test that is a coroutine through `asyncio.to_thread`."""

    def rows(query: str) -> list[tuple[Any, ...]]:
        try:
            with connection.cursor() as cursor:
                cursor.execute(query)
                return list(cursor.fetchall())
        finally:
            connection.close()

    return rows


@pytest.fixture
def committed() -> Committed:
    return Committed()


@pytest.fixture
async def writer(streams: None, committed: Committed) -> AsyncIterator[Writer]:
    writer = Writer(committed.extend, bounds=BOUNDS)
    writer.start()
    yield writer
    async with asyncio.timeout(20):
        await writer.stop()
