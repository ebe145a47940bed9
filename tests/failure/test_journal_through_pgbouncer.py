"""The journal behind PgBouncer in transaction mode: its writer leaves nothing in a session."""

import asyncio
from collections.abc import Iterator

import psycopg
import pytest

from app.journal.entry import Refused, Stored
from tests.integration.database.conftest import run, server_url, template
from tests.integration.journal.conftest import (
    MakeWriter,
    database,
    make_writer,
    plain,
    rows,
)
from tests.integration.journal.test_postgres import (
    test_a_batch_larger_than_the_sockets_buffers_arrives,
    test_a_lock_that_somebody_holds_for_long_delays_and_harms_nothing,
    test_writers_on_many_common_streams_never_wait_for_each_other_in_a_circle,
)
from tests.pgbouncer import PgBouncer

__all__ = [
    "make_writer",
    "run",
    "server_url",
    "template",
    "test_a_batch_larger_than_the_sockets_buffers_arrives",
    "test_a_lock_that_somebody_holds_for_long_delays_and_harms_nothing",
    "test_writers_on_many_common_streams_never_wait_for_each_other_in_a_circle",
]

direct = database


@pytest.fixture(scope="module")
def pgbouncer(server_url: str) -> Iterator[PgBouncer]:
    with PgBouncer(server_url) as pgbouncer:
        yield pgbouncer


@pytest.fixture(name="database")
def database_through_pgbouncer(direct: str, pgbouncer: PgBouncer) -> str:
    return pgbouncer.url(direct)


async def test_a_batch_leaves_no_setting_in_a_connection_that_others_get_next(
    database: str, make_writer: MakeWriter
) -> None:
    writer = make_writer(database)
    await writer.append(plain())
    bad = plain(text="\\0")
    bad.payload = b'{"event": no JSON'
    answers = await asyncio.gather(writer.append(plain()), writer.append(bad), return_exceptions=True)
    assert isinstance(answers[0], Stored) and isinstance(answers[1], Refused)
    for name in ("lock_timeout", "idle_in_transaction_session_timeout"):
        assert rows(database, f"SHOW {name}") == [("0",)]
    assert rows(database, "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'journal%'") == [(0,)]


async def test_where_the_pooler_knows_no_prepared_statements_the_writers_go_on_without(
    database: str, make_writer: MakeWriter, caplog: pytest.LogCaptureFixture
) -> None:
    writer = make_writer(database, prepare=True)
    await writer.append(plain())
    with psycopg.connect(database) as other:
        other.execute("SELECT 1")  # has the server's connection now on which the writer prepared
        assert (await writer.append(plain())).position.sequence == 2
    assert "going on without" in caplog.text
    others = [make_writer(database, prepare=True) for _ in range(3)]
    for round_ in range(10):
        answers = await asyncio.gather(*(each.append(plain()) for each in [writer, *others]))
        sequences = sorted(answer.position.sequence for answer in answers)
        assert sequences == list(range(4 * round_ + 3, 4 * round_ + 7))
