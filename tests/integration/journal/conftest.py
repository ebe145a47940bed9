"""Journals on a real PostgreSQL, and a proxy in front of it that loses what passes."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any, Protocol
from urllib.parse import urlsplit

import psycopg
import pytest

from app.journal.entry import Entry
from app.journal.outbox import OutboxMover
from app.journal.postgres_backend import PostgresBackend
from app.journal.writer import Bounds, Writer
from tests.integration.database.conftest import migrated, run, server_url, template
from tests.integration.journal.proxy import Proxy
from tests.postgres_server import PostgresServer, new_database
from tests.unit.journal.conftest import Committed
from tests.unit.journal.notes import PLAIN, note

__all__ = ["run", "server_url", "template"]

BOUNDS = Bounds(entries=10_000, size=2**24, seconds=20, batch=200)


class MakeWriter(Protocol):
    """A started writer on the database at that URL."""

    def __call__(
        self,
        url: str,
        committed: Committed | None = None,
        *,
        seconds: float = 20,
        prepare: bool = False,
        bounds: Bounds = BOUNDS,
    ) -> Writer: ...


def plain(stream: str = "notes.a", text: str = "ding") -> Entry:
    """Of a kind that needs no tables."""
    return note(stream, text, kind=PLAIN)


def make_streams(url: str, *names: str) -> None:
    with psycopg.connect(url) as connection:
        for number, name in enumerate(names):
            connection.execute(
                "INSERT INTO journal_position (stream, epoch) VALUES (%s, %s)", [name, number + 1]
            )


def rows(url: str, query: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(url) as connection:
        return list(connection.execute(query).fetchall())


@pytest.fixture
def database(server_url: str, template: str) -> str:
    """A database of this test's own, with the streams `notes.a` and `notes.b`."""
    url = new_database(server_url, template)
    make_streams(url, "notes.a", "notes.b")
    return url


@pytest.fixture(scope="session")
def stoppable_server() -> Iterator[PostgresServer]:
    """A server that nobody else is at, so that tests may stop it."""
    with PostgresServer() as server:
        yield server


@pytest.fixture(scope="session")
def stoppable_template(stoppable_server: PostgresServer) -> str:
    return migrated(stoppable_server.url())


@pytest.fixture
def stoppable_database(stoppable_server: PostgresServer, stoppable_template: str) -> Iterator[str]:
    """As `database`, on the server that may be stopped. It runs again for the next test."""
    url = new_database(stoppable_server.url(), stoppable_template)
    make_streams(url, "notes.a", "notes.b")
    yield url
    stoppable_server.stop()
    stoppable_server.start()


@pytest.fixture
async def make_writer(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[MakeWriter]:
    """These writers leave the outbox alone: what a test does to a connection, it does to a batch."""

    async def move(_: OutboxMover) -> bool:
        return False

    monkeypatch.setattr(OutboxMover, "_move", move)
    writers: list[Writer] = []

    def make(
        url: str,
        committed: Committed | None = None,
        *,
        seconds: float = 20,
        prepare: bool = False,
        bounds: Bounds = BOUNDS,
    ) -> Writer:
        parameters = {"conninfo": url, "application_name": "journal-test", "connect_timeout": 5}
        backend = PostgresBackend(parameters, seconds=seconds, prepare=prepare)
        writer = Writer((Committed() if committed is None else committed).extend, backend, bounds)
        writer.start()
        writers.append(writer)
        return writer

    yield make
    await asyncio.gather(*(writer.stop() for writer in writers))


@pytest.fixture
async def proxy(database: str) -> AsyncIterator[Proxy]:
    parts = urlsplit(database)
    assert parts.hostname is not None and parts.port is not None
    async with Proxy(parts.hostname, parts.port) as proxy:
        yield proxy
