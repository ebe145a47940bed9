"""Django's `migrate`, safe to run from many pods at once, and `--check --wait` for those who need it done.

Must never leave the schema half changed because it was told to stop, or hold up those who use the tables.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from time import monotonic, sleep
from typing import Any, Final

import psycopg
from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import Error as DatabaseError
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.executor import MigrationExecutor
from django.db.utils import OperationalError

from app.database.migration_guard import LockTimeout, NoTurn, migration_turn

LOOK_SECONDS: Final = 1.0
SAY_SECONDS: Final = 5.0


def seconds(text: str) -> float:
    """What follows `--wait`."""
    value = float(text)
    if not 0 <= value < inf:
        raise ValueError(text)
    return value


class Command(migrate.Command):
    """`migrate [--check [--wait SECONDS]]`; everything else is Django's."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--wait",
            type=seconds,
            metavar="SECONDS",
            help="With --check: wait so long until the database answers and lacks no migration.",
        )

    def execute(self, *args: Any, **options: Any) -> str | None:
        if options["wait"] is not None:
            options["skip_checks"] = True  # they ask a database that may not be there yet
        try:
            with _without_pool(connections[options["database"]]):
                return super().execute(*args, **options)
        except KeyboardInterrupt:
            self._say("")  # ends the line of the migration
            raise CommandError("told to stop", returncode=130) from None

    def handle(self, *args: Any, **options: Any) -> None:
        connection = connections[options["database"]]
        if options["wait"] is not None:
            self._wait(connection, options)
        elif connection.vendor != "postgresql" or options["check_unapplied"] or options["plan"]:
            super().handle(*args, **options)
        else:
            self._migrate(connection, *args, **options)

    def _migrate(self, connection: BaseDatabaseWrapper, *args: Any, **options: Any) -> None:
        lock_timeout = LockTimeout(settings.MIGRATION_LOCK_SECONDS)
        try:
            with (
                migration_turn(connection, settings.MIGRATION_TURN_SECONDS, self._say),
                connection.execute_wrapper(lock_timeout),
            ):
                super().handle(*args, **options)
        except NoTurn as error:
            raise CommandError(_one_line(error)) from None
        except psycopg.OperationalError as error:
            raise CommandError(f"the database does not answer: {_one_line(error)}") from None
        except OperationalError as error:
            if isinstance(error.__cause__, psycopg.errors.LockNotAvailable):
                self._say("")
                raise CommandError(
                    f"waited {settings.MIGRATION_LOCK_SECONDS:g} s for a lock that somebody else holds: the "
                    "migration named last was rolled back, run it again"
                ) from error
            raise

    def _wait(self, connection: BaseDatabaseWrapper, options: dict[str, Any]) -> None:
        if not options["check_unapplied"] or options["app_label"]:
            raise CommandError("--wait goes with --check, and looks at all migrations")
        began = monotonic()
        said_at, said = began, ""
        while missing := _missing(connection):
            waited = monotonic() - began
            if waited >= options["wait"]:
                raise CommandError(f"waited {waited:.0f} s for {missing}")
            if missing != said or monotonic() - said_at >= SAY_SECONDS:
                said_at, said = monotonic(), missing
                self._say(f"waiting for {missing}")
            sleep(min(LOOK_SECONDS, options["wait"] - waited))

    def _say(self, line: str) -> None:
        self.stdout.write(line)
        self.stdout.flush()


def _missing(connection: BaseDatabaseWrapper) -> str:
    """What is not there yet: the database, or migrations. Those of a later release do not matter."""
    try:
        executor = MigrationExecutor(connection)
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError as error:
        return f"the database: {_one_line(error)}"
    finally:
        connection.close()
    names = [f"{migration.app_label}.{migration.name}" for migration, _ in plan]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"migrations: {', '.join(names[:3])}{more}" if names else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _without_pool(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """A pool keeps to itself why there is no connection, and one is all that is needed here."""
    options = connection.settings_dict["OPTIONS"]
    if "pool" not in options:
        yield
        return
    pool = options.pop("pool")
    try:
        yield
    finally:
        connection.close()
        options["pool"] = pool
