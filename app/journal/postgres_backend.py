"""The writer's batches on PostgreSQL: one transaction in one round trip."""

import asyncio
import logging
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, NoReturn
from uuid import UUID

import msgspec
import psycopg
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult

from app.journal.backend import BadData, RolledBack, StreamLocked, Unanswered
from app.journal.entry import Entry, NoSuchStream, Refused, Stored
from app.journal.postgres_connection import ConnectionLost, PostgresConnection, Statement
from app.journal.statements import (
    LOCK,
    LOCK_FREE,
    POSTGRES_FAILED,
    POSTGRES_OUTBOX,
    STREAMS,
    postgres_store,
)
from app.realtime.stream import Position

logger = logging.getLogger(__name__)

LOCK_SECONDS: Final = 2
"""How long a batch waits for another one's locks, and how long the server waits for a node amid its batch."""

STATEMENT_SECONDS: Final = 4
"""How long one statement may take, from its first byte to its answer."""

_BEGIN: Final = Statement(b"BEGIN ISOLATION LEVEL READ COMMITTED")

_FOR_THIS_TRANSACTION: Final = {
    "lock_timeout": f"{LOCK_SECONDS}s",
    # A node that falls silent amid its batch is in the way of all others.
    "idle_in_transaction_session_timeout": f"{LOCK_SECONDS}s",
    "statement_timeout": f"{STATEMENT_SECONDS}s",
    # Each row is looked up by an index, whatever the planner believes: before a table was analyzed, a plan
    # that is kept would read all of it for each batch.
    "enable_seqscan": "off",
    "enable_hashjoin": "off",
    "enable_mergejoin": "off",
}
# From PostgreSQL 17 on. The others do not see a client that falls silent in the middle of a message.
_SINCE_17: Final = {"transaction_timeout": f"{LOCK_SECONDS + STATEMENT_SECONDS}s"}

_COMMIT: Final = Statement(b"COMMIT")

_DATA: Final = ("21", "22", "23", "42", "44", "P0")
"""Classes of errors (SQLSTATE) that the same rows meet again."""

_PREPARED_ELSEWHERE: Final = ("26000", "42P05")
"""A prepared statement is not there, or is there already: it is not our connection alone."""
_LOCKED: Final = "55P03"

_START: Final = datetime(1970, 1, 1, tzinfo=UTC)


class _Row(msgspec.Struct):
    """One row of `json_to_recordset`."""

    n: int
    stream: str
    kind: str
    key: UUID
    sender: str
    subject: UUID | None
    removes: str
    at: datetime
    payload: msgspec.Raw


_encode: Final = msgspec.json.Encoder().encode


class PostgresBackend:
    """Bound to the running loop. `parameters` are libpq's; `seconds` is how long a batch may take in all."""

    def __init__(self, parameters: Mapping[str, Any], *, seconds: float, prepare: bool) -> None:
        self._parameters = parameters
        self._seconds = seconds
        self._prepare = prepare
        self._connection: PostgresConnection | None = None

    async def store(
        self, batch: Sequence[Entry], outbox: Sequence[int] = (), *, wait: bool = True
    ) -> list[Stored | Refused | None]:
        begin = await self._begin()
        streams = _array({entry.stream for entry in batch})
        if wait:
            lock = Statement(LOCK, [streams], holds_locks=True)
            _, stored = await self._transaction([*begin, lock, _store(batch, outbox), _COMMIT])
            return _answers(batch, stored)
        free, existing = await self._transaction(
            [*begin, Statement(LOCK_FREE, [streams], holds_locks=True), Statement(STREAMS, [streams])]
        )
        held = _streams(existing) - _streams(free)
        sent = [entry for entry in batch if entry.stream not in held]
        if not sent:
            await self._transaction([Statement(b"ROLLBACK")])
            return [None] * len(batch)
        [stored] = await self._transaction([_store(sent, outbox), _COMMIT])
        answers = iter(_answers(sent, stored))
        return [None if entry.stream in held else next(answers) for entry in batch]

    async def outbox(self, limit: int, without: Collection[str] = ()) -> list[tuple[int, Entry]]:
        begin = await self._begin()
        oldest = Statement(POSTGRES_OUTBOX, [b"%d" % limit, _array(without)])
        [found] = await self._transaction([*begin, oldest, _COMMIT])
        return [_outbox_row(found, row) for row in range(found.ntuples)]

    async def give_up(self, row: int, failure: str) -> bool:
        begin = await self._begin()
        failed = Statement(POSTGRES_FAILED, [failure.encode(), b"%d" % row])
        [changed] = await self._transaction([*begin, failed, _COMMIT])
        return changed.command_tuples == 1

    async def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    async def _begin(self) -> list[Statement]:
        connection = await self._open()
        chosen = _FOR_THIS_TRANSACTION | (_SINCE_17 if connection.server_version >= 170_000 else {})
        return [_BEGIN, _settings(tuple(chosen.items()))]

    async def _transaction(self, statements: Sequence[Statement]) -> list[PGresult]:
        """The results of `statements`, but for those that begin and commit. Rolled back if one fails."""
        begins, commits = statements[0] is _BEGIN, statements[-1] is _COMMIT
        if not begins and (self._connection is None or not self._connection.usable):
            # What was begun went with its connection: on another one this would be stored without its locks.
            raise RolledBack("the connection ended amid the batch")
        connection = await self._open()
        failed: PGresult | None = None
        try:
            async with asyncio.timeout(self._seconds):
                results = await connection.run(statements)
                failed = _failure(results)
                if failed is not None:
                    await connection.run([Statement(b"ROLLBACK")])
        except (ConnectionLost, TimeoutError) as error:
            await self.close()
            if failed is None and isinstance(error, ConnectionLost):
                # The commit comes last: what failed before it was not committed.
                failed = _failure(error.results[: len(statements) - 1])
            if failed is None:
                text = str(error) or f"the database did not answer within {self._seconds:g} s"
                raise (Unanswered if commits and connection.sent else RolledBack)(text) from None
        except BaseException:
            await self.close()
            raise
        if failed is not None:
            await self._raise(failed)
        return results[2 if begins else 0 : -1 if commits else None]

    async def _raise(self, failed: PGresult) -> NoReturn:
        state = (failed.error_field(DiagnosticField.SQLSTATE) or b"").decode()
        text = (failed.error_field(DiagnosticField.MESSAGE_PRIMARY) or b"").decode(errors="replace")
        if state in _PREPARED_ELSEWHERE and self._prepare:
            logger.warning(
                "a pooler between us and the database loses prepared statements: going on without. "
                "DATABASE_PREPARED_STATEMENTS=false says so from the start"
            )
            self._prepare = False
            await self.close()
            raise RolledBack(text)
        kind = StreamLocked if state == _LOCKED else BadData if state.startswith(_DATA) else RolledBack
        raise kind(f"{text} (SQLSTATE {state})")

    async def _open(self) -> PostgresConnection:
        if self._connection is not None and not self._connection.usable:
            await self.close()
        if self._connection is None:
            try:
                async with asyncio.timeout(self._seconds):
                    self._connection = await PostgresConnection.open(self._parameters, prepare=self._prepare)
            except (psycopg.Error, OSError, TimeoutError) as error:
                raise RolledBack(f"no connection: {error}") from None
        return self._connection


@cache
def _settings(chosen: tuple[tuple[str, str], ...]) -> Statement:
    """Until the transaction ends, and in no session."""
    calls = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in chosen)
    return Statement(f"SELECT {calls}".encode())


def _store(batch: Sequence[Entry], outbox: Sequence[int]) -> Statement:
    rows = [
        _Row(n, e.stream, e.kind, e.key, e.sender, e.subject, e.removes, e.at, msgspec.Raw(e.payload))
        for n, e in enumerate(batch)
    ]
    used = tuple(sorted({entry.kind for entry in batch}))
    moved = [b"{%b}" % _encode(outbox)[1:-1]] if outbox else []
    return Statement(postgres_store(used, bool(outbox)), [_encode(rows), *moved], holds_locks=True)


def _streams(found: PGresult) -> set[str]:
    return {(found.get_value(row, 0) or b"").decode() for row in range(found.ntuples)}


def _array(names: Collection[str]) -> bytes:
    """As PostgreSQL writes an array of texts."""
    quoted = (name.replace("\\", "\\\\").replace('"', '\\"') for name in names)
    return ("{" + ",".join(f'"{name}"' for name in quoted) + "}").encode()


def _failure(results: Sequence[PGresult]) -> PGresult | None:
    """The first result that is an error of the server's."""
    for result in results:
        if result.status == ExecStatus.FATAL_ERROR:
            return result if result.error_field(DiagnosticField.SQLSTATE) else None
    return None


def _outbox_row(found: PGresult, row: int) -> tuple[int, Entry]:
    number, stream, kind, key, sender, subject, removes, payload, at = (
        (found.get_value(row, column) or b"").decode() for column in range(9)
    )
    return int(number), Entry(
        stream,
        kind,
        UUID(key),
        sender,
        payload.encode(),
        UUID(subject) if subject else None,
        removes,
        _START + timedelta(microseconds=int(at)),
    )


def _answers(batch: Sequence[Entry], stored: PGresult) -> list[Stored | Refused | None]:
    answers: list[Stored | Refused | None] = [NoSuchStream()] * len(batch)
    value = stored.get_value
    for row in range(stored.ntuples):
        n = int(value(row, 0) or 0)
        epoch, sequence, at, code = value(row, 1), value(row, 2), value(row, 3), value(row, 4)
        if code is not None:
            answers[n] = Refused(code.decode(), (value(row, 5) or b"").decode())
        elif epoch is None or sequence is None:
            answers[n] = Refused("invalid_data", "this key belongs to another entry")
        else:
            when = batch[n].at if at is None else _START + timedelta(microseconds=int(at))
            answers[n] = Stored(Position(int(epoch), int(sequence)), when, repeated=at is not None)
    return answers
