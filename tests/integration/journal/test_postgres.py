"""What can go wrong between a writer and PostgreSQL: nothing answered is lost, nothing is stored twice."""

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from urllib.parse import urlsplit

import psycopg
import pytest
from psycopg.pq import ExecStatus

from app.chat.kinds import KINDS, register_kinds
from app.journal.entry import Busy, OutcomeUnknown, Refused
from app.journal.postgres_backend import LOCK_SECONDS, STATEMENT_SECONDS, PostgresBackend
from app.journal.postgres_connection import ConnectionLost, PostgresConnection, Statement
from app.journal.statements import LOCK, LOCK_FREE, postgres_store
from app.observability import metrics
from tests.integration.journal.conftest import BOUNDS, MakeWriter, make_streams, plain, rows
from tests.integration.journal.proxy import Proxy, ResettingProxy
from tests.postgres_server import PostgresServer
from tests.unit.journal.conftest import Committed

PATIENCE = 30.0

CONNECTED = (
    "SELECT pid FROM pg_stat_activity "
    "WHERE application_name = 'journal-test' AND datname = current_database()"
)
WAITS_FOR_A_LOCK = f"{CONNECTED} AND wait_event_type = 'Lock'"


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if await asyncio.to_thread(condition):
                return
            await asyncio.sleep(0.02)


def retries() -> float:
    return float(metrics.journal_retries._value.get())


def stored(url: str) -> list[int]:
    return [sequence for [sequence] in rows(url, "SELECT sequence FROM journal_event ORDER BY at, sequence")]


# --- The connection is cut ---------------------------------------------------------------------------------


async def test_a_connection_cut_between_the_commit_and_its_answer_is_healed_by_sending_the_key_again(
    database: str, make_writer: MakeWriter, proxy: Proxy
) -> None:
    committed = Committed()
    writer = make_writer(proxy.url(database), committed)
    await writer.append(plain())
    proxy.hold_answers = True
    entries = [plain(), plain()]
    futures = [writer.append(entry) for entry in entries]
    await until(lambda: len(stored(database)) == 3)
    proxy.cut()
    answers = await asyncio.gather(*futures, return_exceptions=True)
    assert all(isinstance(answer, OutcomeUnknown) for answer in answers)
    again = await asyncio.gather(*map(writer.append, entries))
    assert [(answer.position.sequence, answer.repeated) for answer in again] == [(2, True), (3, True)]
    assert [answer.at for answer in again] == [entry.at for entry in entries]
    assert (await writer.append(plain())).position.sequence == 4
    assert sorted(stored(database)) == [1, 2, 3, 4]
    assert committed.sequences("notes.a") == [1, 4]


async def test_a_connection_cut_before_the_commit_is_healed_in_the_same_way(
    database: str, make_writer: MakeWriter, proxy: Proxy
) -> None:
    writer = make_writer(proxy.url(database))
    await writer.append(plain())
    proxy.hold_questions = True
    entry = plain()
    future = writer.append(entry)
    await proxy.held.wait()
    proxy.cut()
    with pytest.raises(OutcomeUnknown):
        await future
    again = await writer.append(entry)
    assert (again.position.sequence, again.repeated) == (2, False)
    assert sorted(stored(database)) == [1, 2]


@pytest.mark.parametrize("direction", ["hold_questions", "hold_answers"])
async def test_a_database_that_hangs_holds_nobody_for_longer_than_the_deadline(
    database: str, make_writer: MakeWriter, proxy: Proxy, direction: str
) -> None:
    writer = make_writer(proxy.url(database), seconds=0.5)
    await writer.append(plain())
    setattr(proxy, direction, True)
    entry = plain()
    future = writer.append(entry)
    with pytest.raises(OutcomeUnknown):
        await future
    setattr(proxy, direction, False)
    again = await writer.append(entry)
    assert again.position.sequence == 2
    assert again.repeated == (direction == "hold_answers")
    assert proxy.connections == 2


async def test_a_connection_that_died_while_nothing_was_asked_harms_nobody(
    database: str, make_writer: MakeWriter, proxy: Proxy
) -> None:
    writer = make_writer(proxy.url(database))
    await writer.append(plain())
    for _ in range(3):
        proxy.cut()
        await until(lambda: not rows(database, CONNECTED))
        await writer.append(plain())
    assert sorted(stored(database)) == [1, 2, 3, 4]


async def test_a_database_that_restarts_costs_a_wait_and_nothing_else(
    stoppable_server: PostgresServer, stoppable_database: str, make_writer: MakeWriter
) -> None:
    writer = make_writer(stoppable_database)
    await writer.append(plain())
    await asyncio.to_thread(stoppable_server.stop)
    future = writer.append(plain())
    await asyncio.to_thread(stoppable_server.start)
    assert (await future).position.sequence == 2


async def test_a_database_that_is_away_for_long_makes_the_writer_busy_until_it_is_back(
    stoppable_server: PostgresServer, stoppable_database: str, make_writer: MakeWriter
) -> None:
    await asyncio.to_thread(stoppable_server.stop)
    writer = make_writer(stoppable_database, bounds=BOUNDS._replace(seconds=0.3))
    for _ in range(2):
        with pytest.raises(Busy):
            await writer.append(plain())
    await asyncio.to_thread(stoppable_server.start)
    assert (await writer.append(plain())).position.sequence == 1


async def test_a_transaction_that_the_server_ends_before_its_commit_is_known_to_have_left_nothing(
    database: str, make_writer: MakeWriter
) -> None:
    writer = make_writer(database)
    with psycopg.connect(database) as other:
        other.execute("SELECT 1 FROM journal_position FOR UPDATE")
        future = writer.append(plain())
        await until(lambda: rows(database, WAITS_FOR_A_LOCK))
        rows(database, f"SELECT pg_terminate_backend(pid) FROM ({WAITS_FOR_A_LOCK}) AS w")
        other.rollback()
    answer = await future
    assert (answer.position.sequence, answer.repeated) == (1, False)


async def test_an_end_that_comes_together_with_the_last_bytes_is_noticed(database: str) -> None:
    parts = urlsplit(database)
    assert parts.hostname is not None and parts.port is not None
    proxy = ResettingProxy(parts.hostname, parts.port)
    url = parts._replace(netloc=f"postgres@{parts.hostname}:{proxy.port}").geturl()
    connection = await PostgresConnection.open({"conninfo": url}, prepare=False)
    proxy.reset_amid_answer()
    asking = asyncio.create_task(connection.run([Statement(b"SELECT 1")]))
    await asyncio.sleep(0)  # it is sent
    proxy.was_reset.wait(PATIENCE)  # on purpose without the loop: it finds both at once
    with pytest.raises(ConnectionLost):
        async with asyncio.timeout(PATIENCE):
            await asking
    assert not connection.usable
    await connection.close()


# --- Locks -------------------------------------------------------------------------------------------------


async def test_a_lock_that_somebody_holds_for_long_delays_and_harms_nothing(
    database: str, make_writer: MakeWriter
) -> None:
    writer = make_writer(database)
    await writer.append(plain())
    tried = retries()
    with psycopg.connect(database) as other:
        other.execute("SELECT 1 FROM journal_position FOR UPDATE")
        future = writer.append(plain())
        await until(lambda: retries() > tried)
        other.rollback()
    assert (await future).position.sequence == 2


async def test_a_batch_is_judged_and_numbered_by_what_was_committed_before_it_got_its_locks(
    database: str, make_writer: MakeWriter
) -> None:
    writer = make_writer(database)
    retries = metrics.journal_retries._value.get()
    with psycopg.connect(database) as other:
        other.execute("UPDATE journal_position SET last_sequence = 7 WHERE stream = 'notes.a'")
        future = writer.append(plain())
        await until(lambda: rows(database, WAITS_FOR_A_LOCK))
        other.commit()
    assert (await future).position.sequence == 8
    assert metrics.journal_retries._value.get() == retries, "it was stored at once"


async def test_a_stream_that_somebody_holds_for_long_holds_up_no_other(
    database: str, make_writer: MakeWriter
) -> None:
    writer = make_writer(database)
    with psycopg.connect(database) as other:
        other.execute("SELECT 1 FROM journal_position WHERE stream = 'notes.a' FOR UPDATE")
        waits = [writer.append(plain("notes.a")) for _ in range(3)]
        for number in range(1, 6):
            stored = await asyncio.gather(*(writer.append(plain("notes.b")) for _ in range(3)))
            assert stored[-1].position.sequence == 3 * number
        nowhere = await asyncio.gather(writer.append(plain("notes.nowhere")), return_exceptions=True)
        assert isinstance(nowhere[0], Refused)
        assert not any(future.done() for future in waits)
        other.rollback()
    assert [answer.position.sequence for answer in await asyncio.gather(*waits)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("prepare", "version"),
    [pytest.param(True, 16, id="prepared, PostgreSQL 16"), pytest.param(False, 17, id="PostgreSQL 17")],
)
async def test_a_node_cut_off_anywhere_amid_its_batch_holds_its_streams_for_seconds_only(
    database: str, make_writer: MakeWriter, monkeypatch: pytest.MonkeyPatch, prepare: bool, version: int
) -> None:
    """Its machine is gone: no byte of it comes any more, and nobody tells the server."""
    monkeypatch.setattr(PostgresConnection, "server_version", version * 10_000)
    parts = urlsplit(database)
    assert parts.hostname is not None and parts.port is not None
    cuts = 24
    make_streams(database, *(f"notes.{number}" for number in range(cuts)))
    async with AsyncExitStack() as stack:
        proxies = [await stack.enter_async_context(Proxy(parts.hostname, parts.port)) for _ in range(cuts)]
        for number, proxy in enumerate(proxies):
            writer = make_writer(proxy.url(database), prepare=prepare)
            await writer.append(plain(f"notes.{number}", "x" * 5000))
            before = proxy.asked
            await writer.append(plain(f"notes.{number}", "x" * 5000))
            size = proxy.asked - before
            assert size > 5000
            proxy.budget = size * (number + 1) // (cuts + 1)
            writer.append(plain(f"notes.{number}", "x" * 5000))
        await asyncio.gather(*(proxy.held.wait() for proxy in proxies))
        other = make_writer(database, bounds=BOUNDS._replace(seconds=2 * (LOCK_SECONDS + STATEMENT_SECONDS)))
        answers = await asyncio.gather(*(other.append(plain(f"notes.{number}")) for number in range(cuts)))
        assert [answer.position.sequence for answer in answers] == [3] * cuts
    # Those that are cut off cannot store what waits.
    monkeypatch.setattr("app.journal.writer.STOP_SECONDS", 0.1)


async def test_writers_on_many_common_streams_never_wait_for_each_other_in_a_circle(
    database: str, make_writer: MakeWriter, caplog: pytest.LogCaptureFixture
) -> None:
    names = [f"notes.{number}" for number in range(60)]
    make_streams(database, *random.Random(1).sample(names, 60))
    committed = [Committed() for _ in range(4)]
    writers = [make_writer(database, each, bounds=BOUNDS._replace(batch=40)) for each in committed]
    futures = [
        writer.append(plain(name))
        for number, writer in enumerate(writers)
        for round_ in range(20)
        for name in random.Random(100 * number + round_).sample(names, 60)
    ]
    await asyncio.gather(*futures)
    for name in names:
        sequences = sorted(sequence for each in committed for sequence in each.sequences(name))
        assert sequences == list(range(1, 81))
    assert "deadlock" not in caplog.text


# --- Plans -------------------------------------------------------------------------------------------------


async def test_no_table_is_read_as_a_whole_even_before_anything_is_known_of_it(
    database: str,
) -> None:
    """A plan that is kept was made when the tables were empty or tiny, perhaps."""
    register_kinds()
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute("ANALYZE journal_position")
    backend = PostgresBackend({"conninfo": database}, seconds=20, prepare=False)
    begin = await backend._begin()
    names = tuple(kind.name for kind in KINDS)
    for explained in [
        *(Statement(b"EXPLAIN " + postgres_store((name,), False), [b"[]"]) for name in names),
        Statement(b"EXPLAIN " + postgres_store(names, False), [b"[]"]),
        Statement(b"EXPLAIN " + postgres_store(names, True), [b"[]", b"{}"]),
        Statement(b"EXPLAIN " + LOCK, [b"{notes.a}"]),
        Statement(b"EXPLAIN " + LOCK_FREE, [b"{notes.a}"]),
    ]:
        [plan] = await backend._transaction([*begin, explained])
        lines = [(plan.get_value(row, 0) or b"").decode() for row in range(plan.ntuples)]
        assert len(lines) > 3
        assert not [line for line in lines if "Seq Scan" in line or "Hash Join" in line]
        await backend._transaction([Statement(b"ROLLBACK")])
    await backend.close()


# --- What travels ------------------------------------------------------------------------------------------


async def test_a_batch_larger_than_the_sockets_buffers_arrives(
    database: str, make_writer: MakeWriter
) -> None:
    writer = make_writer(database)
    entries = [plain(text="x" * 100_000) for _ in range(40)]
    await asyncio.gather(*map(writer.append, entries))
    [(size,)] = rows(database, "SELECT sum(length(payload)) FROM journal_event")
    assert size == sum(len(entry.payload) for entry in entries)
    connection = await PostgresConnection.open({"conninfo": database}, prepare=False)
    async with asyncio.timeout(PATIENCE):
        [result] = await connection.run([Statement(b"SELECT length($1::text)", [b"x" * 30_000_000])])
    assert result.get_value(0, 0) == b"30000000"
    await connection.close()


@pytest.mark.parametrize("prepare", [True, False])
async def test_statements_are_prepared_only_when_told(
    database: str, make_writer: MakeWriter, prepare: bool
) -> None:
    connection = await PostgresConnection.open({"conninfo": database}, prepare=prepare)
    statements = [Statement(b"SELECT $1::int + 1", [b"41"]), Statement(b"SELECT 7")]
    for _ in range(3):
        assert [result.get_value(0, 0) for result in await connection.run(statements)] == [b"42", b"7"]
    [count] = await connection.run(
        [Statement(b"SELECT count(*) FROM pg_prepared_statements WHERE name <> ''")]
    )
    assert int(count.get_value(0, 0) or 0) == (1 if prepare else 0)
    await connection.close()
    writer = make_writer(database, prepare=prepare)
    answers = [await writer.append(plain()) for _ in range(8)]
    assert [answer.position.sequence for answer in answers] == list(range(1, 9))


async def test_a_statement_that_fails_names_its_error_whether_it_is_prepared_or_not(database: str) -> None:
    for prepare in (True, False):
        connection = await PostgresConnection.open({"conninfo": database}, prepare=prepare)
        for text in (b"SELECT 1/0", b"SELECT nonsense"):
            results = await connection.run([Statement(b"SELECT 1"), Statement(text), Statement(b"SELECT 2")])
            assert ExecStatus.FATAL_ERROR in [result.status for result in results]
            assert connection.usable
            [fine] = await connection.run([Statement(b"SELECT 3")])
            assert fine.get_value(0, 0) == b"3"
        await connection.close()
