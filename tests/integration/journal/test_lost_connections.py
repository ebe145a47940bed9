"""What is known of a batch whose connection to PostgreSQL went away amid it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest
from psycopg.pq.abc import PGresult

from app.journal.backend import BadData, RolledBack
from app.journal.entry import Stored
from app.journal.postgres_backend import PostgresBackend
from app.journal.postgres_connection import PostgresConnection, Statement
from app.journal.statements import STREAMS
from tests.integration.journal.conftest import plain, rows
from tests.integration.journal.proxy import Proxy
from tests.unit.journal.notes import PLAIN, note

run = PostgresConnection.run

Lose = Callable[[Proxy], None]


def silent(_: Proxy) -> None:
    raise TimeoutError


@pytest.fixture
async def backend(database: str, proxy: Proxy) -> AsyncIterator[PostgresBackend]:
    """Connected through the proxy, with nothing that stores prepared yet."""
    backend = PostgresBackend({"conninfo": proxy.url(database)}, seconds=20, prepare=True)
    await backend.outbox(1)
    yield backend
    await backend.close()


async def stores(backend: PostgresBackend) -> bool:
    """Whether it is usable."""
    [answer] = await backend.store([plain()])
    return isinstance(answer, Stored)


@pytest.mark.parametrize("lose", [Proxy.cut, silent])
async def test_what_failed_is_known_to_be_rolled_back_though_the_connection_went_before_it_was_told_so(
    backend: PostgresBackend, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, lose: Lose
) -> None:
    async def run_until_rollback(self: PostgresConnection, statements: Sequence[Statement]) -> list[PGresult]:
        if statements[0].sql == b"ROLLBACK":
            lose(proxy)
        return await run(self, statements)

    monkeypatch.setattr(PostgresConnection, "run", run_until_rollback)
    with pytest.raises(BadData):
        await backend.store([note(text="no database takes a \0", kind=PLAIN)])
    assert await stores(backend)


async def test_a_batch_of_which_nothing_was_sent_is_known_to_have_left_nothing(
    backend: PostgresBackend, proxy: Proxy
) -> None:
    """Its statements are prepared first."""
    proxy.hold_questions = True
    storing = asyncio.create_task(backend.store([plain()]))
    await proxy.held.wait()
    proxy.cut()
    with pytest.raises(RolledBack):
        await storing
    assert await stores(backend)


async def test_no_half_of_a_batch_goes_on_over_another_connection(
    backend: PostgresBackend, proxy: Proxy, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There it would hold no locks, and be stored one statement at a time."""

    async def run_and_lose(self: PostgresConnection, statements: Sequence[Statement]) -> list[PGresult]:
        results = await run(self, statements)
        if statements[-1].sql == STREAMS:
            proxy.cut()
            async with asyncio.timeout(20):
                while True:
                    if not self.usable:
                        break
                    await asyncio.sleep(0.01)
        return results

    monkeypatch.setattr(PostgresConnection, "run", run_and_lose)
    with pytest.raises(RolledBack):
        await backend.store([plain()], wait=False)
    assert rows(database, "SELECT 1 FROM journal_event") == []
    assert await stores(backend)
