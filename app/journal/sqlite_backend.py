"""The writer's batches on SQLite: one thread, one connection, one transaction for each batch."""

import asyncio
import json
import sqlite3
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID

from app.journal.backend import BadData, RolledBack, Unanswered
from app.journal.entry import Entry, NoSuchStream, Refused, Stored
from app.journal.statements import (
    SQLITE_ANSWER,
    SQLITE_CLEAR,
    SQLITE_FAILED,
    SQLITE_MOVED,
    SQLITE_OUTBOX,
    SQLITE_ROW,
    SQLITE_TABLES,
    sqlite_store,
)
from app.realtime.stream import Position

Answer = TypeVar("Answer")
Rows = list[tuple[Any, ...]]
Work = Callable[[sqlite3.Connection], Rows]

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

    async def store(
        self, batch: Sequence[Entry], outbox: Sequence[int] = (), *, wait: bool = True
    ) -> list[Stored | Refused | None]:
        rows = await self._in_thread(partial(self._transaction, partial(_store, batch, outbox)))
        return _answers(batch, rows)

    async def outbox(self, limit: int, without: Collection[str] = ()) -> list[tuple[int, Entry]]:
        oldest = partial(_outbox, limit, list(without))
        rows = await self._in_thread(partial(self._transaction, oldest, "BEGIN"))
        return [_outbox_row(row) for row in rows]

    async def give_up(self, row: int, failure: str) -> bool:
        [(changed,)] = await self._in_thread(partial(self._transaction, partial(_give_up, row, failure)))
        return bool(changed)

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

    def _transaction(
        self, work: Callable[[sqlite3.Connection], Rows], begin: str = "BEGIN IMMEDIATE"
    ) -> Rows:
        try:
            connection = self._open()
            connection.execute(begin)
        except sqlite3.Error as error:
            raise RolledBack(str(error)) from None
        try:
            rows = work(connection)
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._roll_back(connection)
            raise (BadData if _is_of_the_rows(error) else RolledBack)(str(error)) from None
        except BaseException:
            self._roll_back(connection)
            raise
        return rows

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


def _is_of_the_rows(error: sqlite3.Error) -> bool:
    """Whether the same rows meet it again. SQLite's most general code is for SQL that is wrong for them."""
    if isinstance(error, (sqlite3.DataError, sqlite3.IntegrityError)):
        return True
    return getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_ERROR


def _store(batch: Sequence[Entry], outbox: Sequence[int], connection: sqlite3.Connection) -> Rows:
    used = tuple(sorted({entry.kind for entry in batch}))
    for statement in SQLITE_CLEAR:
        connection.execute(statement)
    connection.executemany(SQLITE_ROW, (_row(n, entry) for n, entry in enumerate(batch)))
    for statement in sqlite_store(used):
        connection.execute(statement)
    if outbox:
        connection.execute(SQLITE_MOVED, [json.dumps(outbox)])
    return connection.execute(SQLITE_ANSWER).fetchall()


def _outbox(limit: int, without: list[str], connection: sqlite3.Connection) -> Rows:
    return connection.execute(SQLITE_OUTBOX, [json.dumps(without), limit]).fetchall()


def _give_up(row: int, failure: str, connection: sqlite3.Connection) -> Rows:
    return [(connection.execute(SQLITE_FAILED, [failure, row]).rowcount,)]


def _row(n: int, entry: Entry) -> tuple[object, ...]:
    """As Django's fields write it."""
    subject = None if entry.subject is None else entry.subject.hex
    at = str(entry.at.astimezone(UTC).replace(tzinfo=None))
    key, payload = entry.key.hex, entry.payload.decode()
    return n, entry.stream, entry.kind, key, entry.sender, subject, entry.removes, at, payload


def _outbox_row(row: tuple[Any, ...]) -> tuple[int, Entry]:
    number, stream, kind, key, sender, subject, removes, payload, at = row
    about = None if subject is None else UUID(subject)
    return number, Entry(stream, kind, UUID(key), sender, payload.encode(), about, removes, _moment(at))


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def _answers(batch: Sequence[Entry], rows: Rows) -> list[Stored | Refused | None]:
    answers: list[Stored | Refused | None] = [NoSuchStream()] * len(batch)
    for n, epoch, sequence, at, code, message in rows:
        if code is not None:
            answers[n] = Refused(code, message)
        elif sequence is None:
            answers[n] = Refused("invalid_data", "this key belongs to another entry")
        else:
            when = batch[n].at if at is None else _moment(at)
            answers[n] = Stored(Position(epoch, sequence), when, repeated=at is not None)
    return answers
