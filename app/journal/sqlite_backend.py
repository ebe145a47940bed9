"""The writer's batches on SQLite: one thread, one connection, one transaction for each batch."""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar

from app.journal.backend import BadData, RolledBack, Unanswered
from app.journal.entry import Entry, Refused, Stored
from app.journal.statements import SQLITE_ANSWER, SQLITE_CLEAR, SQLITE_ROW, SQLITE_TABLES, sqlite_store
from app.realtime.stream import Position

Answer = TypeVar("Answer")

LOCK_SECONDS: Final = 2.0
"""How long a batch waits for whoever else writes."""


class SqliteBackend:
    """`parameters` are those of `sqlite3.connect`; `seconds` is how long a batch may take in all."""

    def __init__(self, parameters: Mapping[str, Any], *, seconds: float) -> None:
        self._parameters = dict(parameters) | {
            "timeout": LOCK_SECONDS,
            "isolation_level": None,
            "check_same_thread": False,
        }
        self._seconds = seconds
        self._connection: sqlite3.Connection | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="journal")

    async def store(self, batch: Sequence[Entry]) -> list[Stored | Refused]:
        return await self._in_thread(partial(self._store, batch))

    async def close(self) -> None:
        with suppress(Unanswered):
            await self._in_thread(self._close)

    async def _in_thread(self, work: Callable[[], Answer]) -> Answer:
        future = asyncio.get_running_loop().run_in_executor(self._thread, work)
        try:
            async with asyncio.timeout(self._seconds):
                return await future
        except TimeoutError:
            if self._connection is not None:
                self._connection.interrupt()
            raise Unanswered(f"the database did not answer within {self._seconds:g} s") from None

    # --- In the thread -----------------------------------------------------------------------------------

    def _store(self, batch: Sequence[Entry]) -> list[Stored | Refused]:
        try:
            connection = self._open()
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            raise RolledBack(str(error)) from None
        try:
            rows = _store(connection, batch)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back(connection)
            bad = isinstance(error, (sqlite3.DataError, sqlite3.IntegrityError)) or _is_of_the_statement(
                error
            )
            raise (BadData if bad else RolledBack)(str(error)) from None
        except BaseException:
            self._roll_back(connection)
            raise
        return _answers(batch, rows)

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(**self._parameters)
            # What was answered must be there after a power cut, too.
            connection.executescript(f"PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; {SQLITE_TABLES}")
            self._connection = connection
        return self._connection

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        try:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        except sqlite3.Error:
            self._close()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()


def _is_of_the_statement(error: sqlite3.Error) -> bool:
    """Whether the SQL itself is wrong for these rows: SQLite says so with its most general code."""
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_ERROR


def _store(connection: sqlite3.Connection, batch: Sequence[Entry]) -> list[tuple[Any, ...]]:
    used = tuple(sorted({entry.kind for entry in batch}))
    for statement in SQLITE_CLEAR:
        connection.execute(statement)
    connection.executemany(SQLITE_ROW, (_row(n, entry) for n, entry in enumerate(batch)))
    for statement in sqlite_store(used):
        connection.execute(statement)
    return connection.execute(SQLITE_ANSWER).fetchall()


def _row(n: int, entry: Entry) -> tuple[object, ...]:
    """As Django's fields write it."""
    subject = None if entry.subject is None else entry.subject.hex
    at = str(entry.at.astimezone(UTC).replace(tzinfo=None))
    key, payload = entry.key.hex, entry.payload.decode()
    return n, entry.stream, entry.kind, key, entry.sender, subject, entry.removes, at, payload


def _answers(batch: Sequence[Entry], rows: list[tuple[Any, ...]]) -> list[Stored | Refused]:
    answers: list[Stored | Refused] = [Refused("not_found", "there is no such stream")] * len(batch)
    for n, epoch, sequence, at, code, message in rows:
        if code is not None:
            answers[n] = Refused(code, message)
        elif sequence is None:
            answers[n] = Refused("invalid_data", "this key belongs to another entry")
        else:
            when = batch[n].at if at is None else datetime.fromisoformat(at).replace(tzinfo=UTC)
            answers[n] = Stored(Position(epoch, sequence), when, repeated=at is not None)
    return answers
