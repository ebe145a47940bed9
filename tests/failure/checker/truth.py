"""Reads the database as the judge needs it: by its own SQL, past the application. Blocks."""

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from typing import Any
from uuid import UUID

import psycopg

from tests.failure.checker.record import MEMBER_CHANGED, MEMBER_REMOVED, Message, Row, StreamTruth

POSITIONS = "SELECT id, stream, epoch, floor, last_sequence FROM journal_position"
ROWS = (
    "SELECT sequence, key, sender, kind, subject, removes, payload FROM journal_event"
    " WHERE position_id = {} ORDER BY sequence"
)
MESSAGES = (
    "SELECT m.id, m.sequence, m.sender, m.text, m.edited_at, m.deleted_at"
    " FROM chat_message m JOIN chat_room r ON r.id = m.room_id WHERE r.slug = {}"
)

WAITING = (
    "SELECT application_name FROM pg_stat_activity"
    " WHERE wait_event = 'ClientRead' AND xact_start < now() - interval '0.1 s'"
    " AND application_name LIKE 'carillon/%'"
)


class Database:
    """The one at `url`: postgres://… or sqlite:///file."""

    def __init__(self, url: str) -> None:
        self._url = url

    def last_sequences(self, streams: set[str]) -> dict[str, tuple[int, int]]:
        """Stream to (epoch, last sequence)."""
        with self._cursor() as cursor:
            cursor.execute(POSITIONS)
            return {row[1]: (row[2], row[4]) for row in cursor.fetchall() if row[1] in streams}

    def truth(self, streams: set[str]) -> dict[str, StreamTruth]:
        """All there is of these streams, as of one moment."""
        with self._cursor() as cursor:
            cursor.execute(POSITIONS)
            return {
                stream: self._stream(cursor, number, stream, StreamTruth(epoch, floor, last, [], {}))
                for number, stream, epoch, floor, last in cursor.fetchall()
                if stream in streams
            }

    def node_in_transaction(self) -> str:
        """The name of the node whose transaction waits for its end."""
        for _ in range(100):
            with self._cursor() as cursor:  # a transaction sees what others do only once
                cursor.execute(WAITING)
                if found := cursor.fetchone():
                    return str(found[0]).split("/")[1]
            time.sleep(0.02)
        raise AssertionError("no transaction waits for its end")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """SQLite's write lock is taken."""
        with closing(sqlite3.connect(self._file, timeout=30, isolation_level=None)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield
            connection.execute("ROLLBACK")

    @property
    def _file(self) -> str:
        return self._url.removeprefix("sqlite:///")

    def _stream(self, cursor: Any, number: int, stream: str, truth: StreamTruth) -> StreamTruth:
        cursor.execute(ROWS.format(self._mark), (number,))
        truth.rows = [_row(columns) for columns in cursor.fetchall()]
        cursor.execute(MESSAGES.format(self._mark), (stream.removeprefix("room."),))
        for key, sequence, sender, text, edited, deleted in cursor.fetchall():
            message = Message(sequence, sender, text, edited is not None, deleted is not None)
            truth.messages[_key(key)] = message
        return truth

    @property
    def _mark(self) -> str:
        return "?" if self._url.startswith("sqlite") else "%s"

    @contextmanager
    def _cursor(self) -> Iterator[Any]:
        if self._url.startswith("sqlite"):
            with closing(sqlite3.connect(self._file, timeout=30, isolation_level=None)) as connection:
                connection.execute("BEGIN")
                yield connection.cursor()
            return
        with psycopg.connect(self._url, connect_timeout=5) as database, database.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield cursor


def _row(columns: Sequence[Any]) -> Row:
    sequence, key, sender, kind, subject, removes, payload = columns
    data = json.loads(payload)["data"] if payload and kind in (MEMBER_CHANGED, MEMBER_REMOVED) else {}
    return Row(
        sequence,
        _key(key),
        sender,
        kind,
        _key(subject) if subject else "",
        removes,
        data.get("person", ""),
        data.get("role") or "",
    )


def _key(value: Any) -> str:
    """SQLite has no type for it."""
    return str(value if isinstance(value, UUID) else UUID(str(value)))
