"""`migrate` on a real PostgreSQL: what it promises when it fails, is late, and is not alone."""

import pytest

from app.database.migration_guard import LOCK_KEY
from deploy.local.processes import wait_until
from tests.integration.database.conftest import PATIENCE, Run, ask, session
from tests.postgres_server import PostgresServer, new_database

ADVISORY_LOCKS = (
    "FROM pg_locks JOIN pg_database ON pg_database.oid = database "
    "WHERE datname = current_database() AND locktype = 'advisory'"
)
AT_THE_GATE = f"SELECT count(*) {ADVISORY_LOCKS} AND objid = 7 AND NOT granted"
PLANTED_TRACES = """
    SELECT (SELECT count(*) FROM pg_tables WHERE tablename = 'planted_thing')
        + (SELECT count(*) FROM information_schema.columns WHERE column_name = 'planted')
        + (SELECT count(*) FROM django_migrations WHERE app = 'planted')
"""


def test_a_failing_migration_leaves_the_old_schema_whole(run: Run, database: str) -> None:
    migrate = run(database, "migrate", planted="broken")
    assert migrate.end() == 1
    assert any("division by zero" in line for line in migrate.lines)
    assert ask(database, PLANTED_TRACES) == 0


def test_two_runs_migrate_one_after_the_other_even_while_an_index_is_built_concurrently(
    run: Run, database: str
) -> None:
    with session(database) as gate:
        gate.execute("SELECT pg_advisory_xact_lock(7)")
        first = run(database, "migrate", planted="gated", MIGRATION_LOCK_SECONDS="60")
        assert wait_until(lambda: ask(database, AT_THE_GATE) == 1, PATIENCE), first.lines
        second = run(database, "migrate", planted="gated", MIGRATION_LOCK_SECONDS="60")
        second.wait_for("waiting for another migration to end")
        assert ask(database, AT_THE_GATE) == 1
    assert (first.end(), second.end()) == (0, 0)
    assert any("Applying planted.0001_initial... OK" in line for line in first.lines)
    assert second.last_line == "  No migrations to apply."


def test_a_turn_that_does_not_come_ends_the_run_with_one_line(run: Run, database: str) -> None:
    with session(database) as other:
        other.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK_KEY])
        migrate = run(database, "migrate", planted="altering", MIGRATION_TURN_SECONDS="0.2")
        assert migrate.end() == 1
    assert migrate.lines[0] == "waiting for another migration to end"
    assert migrate.lines[1].startswith("CommandError: another migration")
    assert not any(migrate.lines[2:])
    assert ask(database, PLANTED_TRACES) == 0


@pytest.mark.parametrize("planted", ["altering", "altering_alone"])
def test_a_lock_that_somebody_holds_fails_the_migration_in_time_and_changes_nothing(
    run: Run, database: str, planted: str
) -> None:
    with session(database) as reader:
        reader.execute("SELECT * FROM chat_room")
        migrate = run(database, "migrate", planted=planted, MIGRATION_LOCK_SECONDS="0.2")
        assert migrate.end() == 1
        assert migrate.last_line.startswith("CommandError: waited 0.2 s for a lock")
        assert ask(database, PLANTED_TRACES) == 0
    assert run(database, "migrate", planted=planted).end() == 0


def test_a_run_that_is_told_to_stop_ends_its_statement_and_leaves_nothing(run: Run, database: str) -> None:
    with session(database) as gate:
        gate.execute("SELECT pg_advisory_xact_lock(7)")
        migrate = run(database, "migrate", planted="gated", MIGRATION_LOCK_SECONDS="60")
        assert wait_until(lambda: ask(database, AT_THE_GATE) == 1, PATIENCE), migrate.lines
        migrate.process.terminate()
        assert migrate.end() == 130
        assert migrate.last_line == "CommandError: told to stop"
        assert ask(database, AT_THE_GATE) == 0
    assert ask(database, PLANTED_TRACES) == 0


def test_waiting_lasts_until_the_database_has_come_up_and_somebody_has_migrated_it(run: Run) -> None:
    with PostgresServer() as server:
        url = new_database(server.url())
        server.stop()
        check = run(url, "migrate", "--check", "--wait", "120")
        check.wait_for("waiting for the database: ")
        server.start()
        check.wait_for("waiting for migrations: ")
        assert check.process.alive
        assert run(url, "migrate").end() == 0
        assert check.end() == 0


def test_waiting_has_an_end_that_says_what_is_missing(run: Run, database: str) -> None:
    check = run(database, "migrate", "--check", "--wait", "0.1", planted="broken")
    assert check.end() == 1
    assert check.last_line == "CommandError: waited 0 s for migrations: planted.0001_initial"


def test_a_wrong_password_is_said_and_not_shown(run: Run, database: str) -> None:
    url = database.replace("postgres@", "nobody-here:hunter2@")
    check = run(url, "migrate", "--check", "--wait", "0.1")
    assert check.end() == 1
    assert "nobody-here" in check.last_line and "hunter2" not in "\n".join(check.lines)


def test_a_schema_that_is_ahead_serves_the_release_before(run: Run, database: str) -> None:
    with session(database) as later:
        later.execute(
            "INSERT INTO django_migrations (app, name, applied) VALUES ('chat', '9999_later', now())"
        )
        later.commit()
    assert run(database, "migrate", "--check", "--wait", "0.1").end() == 0


def test_without_waiting_a_check_is_djangos(run: Run, database: str) -> None:
    check = run(database, "migrate", "--check", planted="broken")
    assert check.end() == 1
    assert not any(check.lines)


def test_waiting_without_a_check_is_refused(run: Run, database: str) -> None:
    migrate = run(database, "migrate", "--wait", "1")
    assert migrate.end() == 1
    assert migrate.last_line.startswith("CommandError: --wait goes with --check")
    endless = run(database, "migrate", "--check", "--wait", "inf")
    assert endless.end() == 2
    assert "invalid seconds value: 'inf'" in endless.last_line


def test_sqlite_migrates_and_is_waited_for_as_well(
    run: Run, tmp_path_factory: pytest.TempPathFactory
) -> None:
    url = f"sqlite:///{tmp_path_factory.mktemp('sqlite')}/carillon.sqlite3"
    check = run(url, "migrate", "--check", "--wait", "120")
    check.wait_for("waiting for migrations: ")
    assert run(url, "migrate").end() == 0
    assert check.end() == 0


def test_a_turn_that_was_lost_meanwhile_is_not_kept_secret(run: Run, database: str) -> None:
    with session(database) as gate:
        gate.execute("SELECT pg_advisory_xact_lock(7)")
        migrate = run(database, "migrate", planted="gated", MIGRATION_LOCK_SECONDS="60")
        assert wait_until(lambda: ask(database, AT_THE_GATE) == 1, PATIENCE), migrate.lines
        assert ask(database, f"SELECT pg_terminate_backend(pid) {ADVISORY_LOCKS} AND objid <> 7")
    assert migrate.end() == 1
    assert migrate.last_line.startswith("CommandError: migrated, but lost the turn meanwhile: ")
