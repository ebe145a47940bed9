"""What holds on PostgreSQL holds through PgBouncer in transaction mode, and leaves nothing behind there."""

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.integration.database.conftest import Run, run, server_url, session, template
from tests.integration.database.test_migrate import (
    test_a_failing_migration_leaves_the_old_schema_whole,
    test_a_lock_that_somebody_holds_fails_the_migration_in_time_and_changes_nothing,
    test_a_run_that_is_told_to_stop_ends_its_statement_and_leaves_nothing,
    test_two_runs_migrate_one_after_the_other_even_while_an_index_is_built_concurrently,
)
from tests.integration.database.test_pool import Guest, all_done
from tests.integration.serving.servers import server
from tests.pgbouncer import POOL_SIZE, PgBouncer
from tests.postgres_server import new_database

__all__ = [
    "run",
    "server_url",
    "template",
    "test_a_failing_migration_leaves_the_old_schema_whole",
    "test_a_lock_that_somebody_holds_fails_the_migration_in_time_and_changes_nothing",
    "test_a_run_that_is_told_to_stop_ends_its_statement_and_leaves_nothing",
    "test_two_runs_migrate_one_after_the_other_even_while_an_index_is_built_concurrently",
]


@pytest.fixture(scope="module")
def pgbouncer(server_url: str) -> Iterator[PgBouncer]:
    with PgBouncer(server_url) as pgbouncer:
        yield pgbouncer


@pytest.fixture
def database(server_url: str, template: str, pgbouncer: PgBouncer) -> str:
    """A database with the application's schema, through PgBouncer."""
    return pgbouncer.url(new_database(server_url, template))


def test_an_empty_database_is_migrated(run: Run, server_url: str, pgbouncer: PgBouncer) -> None:
    url = pgbouncer.url(new_database(server_url))
    migrate = run(url, "migrate")
    assert migrate.end() == 0, migrate.lines
    assert run(url, "migrate", "--check", "--wait", "1").end() == 0


def test_a_migration_leaves_no_setting_in_a_connection_that_others_get_next(run: Run, database: str) -> None:
    for planted in ("altering", "altering_alone"):
        with session(database) as reader:
            reader.execute("SELECT * FROM chat_room")
            assert run(database, "migrate", planted=planted, MIGRATION_LOCK_SECONDS="0.2").end() == 1
    with ExitStack() as together:
        others = [together.enter_context(session(database)) for _ in range(POOL_SIZE)]
        left = [other.execute("SHOW lock_timeout").fetchone() for other in others]
    assert left == [("0",)] * POOL_SIZE


def test_a_crowd_is_served_over_fewer_connections_than_it_has(database: str) -> None:
    pool = str(4 * POOL_SIZE)
    with server("carillon", DATABASE_URL=database, DATABASE_POOL_SIZE=pool) as node:
        guest = Guest(node)
        for _ in range(5):
            answers, names = guest.ask(40), guest.connect(10)
            assert (all_done(answers), all_done(names)) == ({200}, {"Ada"})
