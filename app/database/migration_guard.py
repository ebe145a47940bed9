"""PostgreSQL while its schema changes: one run at a time, and no statement that makes everybody wait.

All of it lives inside transactions, so that it holds through PgBouncer in transaction mode too.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, sleep
from typing import Any, Final

import psycopg
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper

LOCK_KEY: Final = int.from_bytes(b"carillon")
"""PostgreSQL's advisory locks have numbers, one line of them per database."""

TRY_SECONDS: Final = 0.5
SAY_SECONDS: Final = 5.0

Say = Callable[[str], None]


class NoTurn(Exception):
    """Another run migrates and did not end in time, or may have begun before this one ended."""


@contextmanager
def migration_turn(connection: BaseDatabaseWrapper, seconds: float, say: Say) -> Iterator[None]:
    """Nobody else migrates inside of this. Waits up to `seconds` for it. Raises `NoTurn`.

    The lock is tried again and again, never waited for: a statement that waits has a snapshot, and the
    other run's CREATE INDEX CONCURRENTLY would wait for that one to end.
    """
    with psycopg.connect(**connection.get_connection_params()) as holder:
        # A repeatable read would keep its snapshot for as long as the lock.
        holder.isolation_level = psycopg.IsolationLevel.READ_COMMITTED
        began = monotonic()
        said = began - SAY_SECONDS
        while not _take(holder):
            waited = monotonic() - began
            if waited >= seconds:
                raise NoTurn(f"another migration has been running for {seconds:g} s and more")
            if monotonic() - said >= SAY_SECONDS:
                said = monotonic()
                say("waiting for another migration to end")
            sleep(TRY_SECONDS)
        yield
        try:
            holder.rollback()
        except psycopg.OperationalError as error:
            raise NoTurn(f"migrated, but lost the turn meanwhile: {error}") from None


def _take(holder: psycopg.Connection[tuple[Any, ...]]) -> bool:
    """Whether the lock is ours now; then the transaction is left open, for the lock lasts as long as it."""
    row = holder.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK_KEY]).fetchone()
    if row is not None and row[0]:
        holder.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
        return True
    holder.rollback()
    return False


class LockTimeout:
    """Wraps `execute`: each statement waits so long for a lock, at most.

    A statement that waits for a table's lock makes all later ones wait behind it, reads too.
    """

    def __init__(self, seconds: float) -> None:
        self._statement = f"SET LOCAL lock_timeout = {round(seconds * 1000)}"

    def __call__(
        self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        connection = context["connection"]
        if not connection.in_atomic_block:
            if "CONCURRENTLY" in str(sql).upper():  # allowed in no transaction, and in nobody's way
                return execute(sql, params, many, context)
            with transaction.atomic(using=connection.alias):
                return self(execute, sql, params, many, context)
        context["cursor"].cursor.execute(self._statement)  # the driver's cursor: not wrapped again
        return execute(sql, params, many, context)
