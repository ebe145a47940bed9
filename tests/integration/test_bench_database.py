"""What the bench reads off its PostgreSQL: queries, holes, settings."""

from collections.abc import Iterator

import psycopg
import pytest

from loadtest.bench.database import Database
from loadtest.bench.wire import WireError

TABLES = """
    CREATE TABLE journal_position (id bigint PRIMARY KEY, stream text, floor bigint, last_sequence bigint);
    CREATE TABLE journal_event (position_id bigint, sequence bigint, key text);
    CREATE TABLE chat_message (id text, sequence bigint);
    INSERT INTO journal_position VALUES (1, 'room.lobby', 2, 4), (2, 'room.cellar', 0, 0);
    INSERT INTO journal_event VALUES (1, 3, 'a'), (1, 4, 'b');
    INSERT INTO chat_message VALUES ('a', 3), ('b', 4);
"""


@pytest.fixture(scope="module")
def server() -> Iterator[Database]:
    with Database().running() as database:
        yield database


@pytest.fixture
def database(server: Database) -> Iterator[Database]:
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(TABLES)
        yield server
        connection.execute("DROP TABLE journal_position, journal_event, chat_message")


def change(database: Database, statement: str) -> None:
    with psycopg.connect(database.url, autocommit=True) as connection:
        connection.execute(statement.encode())


def test_it_waits_for_the_disk_and_says_so(server: Database) -> None:
    for setting in ("fsync on", "synchronous_commit on", "full_page_writes on"):
        assert setting in server.description()


def test_tables_without_a_hole_are_counted(database: Database) -> None:
    assert database.check() == 2


@pytest.mark.parametrize(
    "fault",
    [
        "DELETE FROM journal_event WHERE sequence = 3",
        "DELETE FROM journal_event WHERE sequence = 4",
        "DELETE FROM journal_event",
        "UPDATE journal_event SET sequence = 5 WHERE sequence = 4",
        "UPDATE journal_position SET last_sequence = 1 WHERE id = 2",
        "DELETE FROM chat_message WHERE id = 'a'",
        "UPDATE chat_message SET sequence = 9 WHERE id = 'a'",
    ],
)
def test_a_hole_and_an_event_without_its_message_are_told(database: Database, fault: str) -> None:
    change(database, fault)
    with pytest.raises(WireError):
        database.check()


def test_queries_of_everybody_are_counted_and_what_only_frames_them_is_not(database: Database) -> None:
    with psycopg.connect(database.url) as other:
        other.execute("SELECT 'too early'")
        with database.counting() as counted:
            other.execute("\n   SELECT count(*)\n   FROM chat_message WHERE id = %s", ["a"])
            other.execute("SELECT 2")
            other.execute("")
            other.commit()
        other.execute("SELECT 'too late'")
        assert counted.queries == ["SELECT count(*)", "SELECT 2"]
        with database.counting() as counted:
            other.execute("SELECT 'again'")
    assert counted.queries == ["SELECT 'again'"]


def test_transactions_and_cpu_time_grow_with_what_is_asked(database: Database) -> None:
    commits, _ = database.transactions()
    cpu = database.cpu_seconds()
    change(database, "SELECT count(*) FROM generate_series(1, 1000000)")
    assert database.transactions()[0] > commits
    assert database.cpu_seconds() > cpu
