"""One connection to PostgreSQL that carries a whole transaction in one round trip (libpq's pipeline mode).

libpq itself, on the running loop: psycopg's cursors cost more per statement than a batch may cost in all.
It knows no tables, and keeps nothing in the session, so that PgBouncer may stand between.
"""

import asyncio
from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from hashlib import sha256
from typing import Any, NamedTuple, Self

import psycopg
from psycopg.pq import DiagnosticField, ExecStatus
from psycopg.pq.abc import PGresult


class ConnectionLost(Exception):
    """It ended before everything was answered. `results`: those that came."""

    def __init__(self, reason: str, results: list[PGresult]) -> None:
        super().__init__(reason)
        self.results = results


class Statement(NamedTuple):
    """SQL with `$1`, `$2`, … and their values as text."""

    sql: bytes
    values: Sequence[bytes] = ()


class PostgresConnection:
    """Bound to the loop it was opened on. One `run` at a time."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], prepare: bool) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._prepare = prepare
        self._prepared: set[bytes] = set()
        self._results: list[PGresult] = []
        self._done: Future[None] | None = None
        self._writing = False
        self._loop = asyncio.get_running_loop()
        self._socket = self._pgconn.socket
        self._pgconn.nonblocking = 1
        self._pgconn.enter_pipeline_mode()
        # Also while nothing is asked: a server that goes away is noticed before the next batch is sent.
        self._loop.add_reader(self._socket, self._readable)

    @classmethod
    async def open(cls, parameters: Mapping[str, Any], *, prepare: bool) -> Self:
        """Raises `psycopg.OperationalError`. `prepare`: the server keeps what it parsed, per connection."""
        connection = await psycopg.AsyncConnection.connect(autocommit=True, **parameters)
        return cls(connection, prepare)

    @property
    def usable(self) -> bool:
        """False once it ended, and while something is unanswered."""
        return self._done is None and self._socket >= 0

    async def run(self, statements: Sequence[Statement]) -> list[PGresult]:
        """Send all of them at once; their results, in order. After a failed one the rest is not executed.

        Raises `ConnectionLost`. A run that was cancelled leaves a connection that can only be closed.
        """
        if not self._prepare:
            return await self._exchange(
                [partial(self._pgconn.send_query_params, text, values) for text, values in statements]
            )
        named = [(_name(text), text, values) for text, values in statements]
        new = {name: text for name, text, _ in named if name not in self._prepared}
        if new:
            results = await self._exchange(
                [partial(self._pgconn.send_prepare, name, text) for name, text in new.items()]
            )
            if any(not _is_prepared(result) for result in results):
                return results
            self._prepared |= new.keys()
        return await self._exchange(
            [partial(self._pgconn.send_query_prepared, name, values) for name, _, values in named]
        )

    async def close(self) -> None:
        """End it; the server rolls back what is open."""
        self._forget()
        await self._connection.close()

    # --- Inside ------------------------------------------------------------------------------------------

    async def _exchange(self, sends: Sequence[Callable[[], None]]) -> list[PGresult]:
        self._done = self._loop.create_future()
        self._results = []
        try:
            for send in sends:
                send()
            self._pgconn.pipeline_sync()
            self._flush()
        except psycopg.Error as error:
            self._lose(error)
        await self._done
        self._done = None
        return self._results

    def _flush(self) -> None:
        unsent = self._pgconn.flush() == 1
        if unsent and not self._writing:
            self._loop.add_writer(self._socket, self._writable)
        elif self._writing and not unsent:
            self._loop.remove_writer(self._socket)
        self._writing = unsent

    def _writable(self) -> None:
        try:
            self._flush()
        except psycopg.Error as error:
            self._lose(error)

    def _readable(self) -> None:
        try:
            self._pgconn.consume_input()
            if self._writing:
                self._flush()
            if self._done is not None and not self._done.done():
                self._take_results(self._done)
        except psycopg.Error as error:
            self._lose(error)

    def _take_results(self, done: Future[None]) -> None:
        ended = False
        while not self._pgconn.is_busy():
            result = self._pgconn.get_result()
            if result is None:
                if ended:  # twice in a row: nothing more will come
                    raise psycopg.OperationalError("the connection ended")
                ended = True
                continue
            ended = False
            if result.status == ExecStatus.PIPELINE_SYNC:
                done.set_result(None)
                return
            self._results.append(result)

    def _lose(self, error: psycopg.Error) -> None:
        self._forget()
        if self._done is not None and not self._done.done():
            self._done.set_exception(ConnectionLost(str(error).strip(), self._results))

    def _forget(self) -> None:
        if self._socket >= 0:
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)
            self._socket = -1


@lru_cache(maxsize=1024)
def _name(text: bytes) -> bytes:
    """A name stands for one SQL only: a pooler that knows no prepared statements may give us a connection with
    another node's, and there it must mean the same SQL, or nothing."""
    return b"journal_" + sha256(text).hexdigest()[:32].encode()


def _is_prepared(result: PGresult) -> bool:
    if result.status == ExecStatus.COMMAND_OK:
        return True
    return result.error_field(DiagnosticField.SQLSTATE) == b"42P05"  # of that name, so of that SQL
