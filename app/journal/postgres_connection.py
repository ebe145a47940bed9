"""One connection to PostgreSQL that carries a whole transaction in one round trip (libpq's pipeline mode).

libpq itself, on the running loop: psycopg's cursors cost more per statement than a batch may cost in all.
It knows no tables, and keeps nothing in the session, so that PgBouncer may stand between.
"""

import asyncio
from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from hashlib import sha256
from select import POLLIN, poll
from typing import Any, NamedTuple, Self

import psycopg
from psycopg.pq import ExecStatus
from psycopg.pq.abc import PGresult


class ConnectionLost(Exception):
    """It ended before everything was answered. `results`: those that came."""

    def __init__(self, reason: str, results: list[PGresult]) -> None:
        super().__init__(reason)
        self.results = results


class Statement(NamedTuple):
    """SQL with `$1`, `$2`, … and their values as text.

    `holds_locks`: from here on a client that falls silent is in others' way. The server is told to watch: for
    it a client is idle only after a Sync, and while none comes no timeout of it runs.
    """

    sql: bytes
    values: Sequence[bytes] = ()
    holds_locks: bool = False


class PostgresConnection:
    """Bound to the loop it was opened on. One `run` at a time."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], prepare: bool) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._prepare = prepare
        self._prepared: set[bytes] = set()
        self.sent = False
        """Whether anything of the last run's statements may be at the server: they are prepared before."""
        self._results: list[PGresult] = []
        self._syncs = 0
        self._done: Future[None] | None = None
        self._writing = False
        self._loop = asyncio.get_running_loop()
        self._socket = self._pgconn.socket
        self._pgconn.nonblocking = 1
        self._pgconn.enter_pipeline_mode()
        self._unread = poll()
        self._unread.register(self._socket, POLLIN)
        # Also while nothing is asked: a server that goes away is noticed before the next batch is sent.
        self._loop.add_reader(self._socket, self._readable)

    @classmethod
    async def open(cls, parameters: Mapping[str, Any], *, prepare: bool) -> Self:
        """Raises `psycopg.OperationalError`. `prepare`: the server keeps parsed what has values."""
        connection = await psycopg.AsyncConnection.connect(autocommit=True, **parameters)
        return cls(connection, prepare)

    @property
    def server_version(self) -> int:
        """170002 is 17.2."""
        return self._pgconn.server_version

    @property
    def usable(self) -> bool:
        """False once it ended, and while something is unanswered."""
        return self._done is None and self._socket >= 0

    async def run(self, statements: Sequence[Statement]) -> list[PGresult]:
        """Send all of them at once; their results, in order. In a transaction none works after a failed one.

        Raises `ConnectionLost`. A run that was cancelled leaves a connection that can only be closed.
        """
        self.sent = False
        new = {each.sql for each in statements if self._is_kept(each)} - self._prepared
        if new:
            send = self._pgconn.send_prepare
            results = await self._exchange(
                [Statement(text) for text in new], [partial(send, _name(text), text) for text in new]
            )
            if any(result.status != ExecStatus.COMMAND_OK for result in results):
                return results
            self._prepared |= new
        self.sent = True
        return await self._exchange(statements, [partial(self._send, each) for each in statements])

    async def close(self) -> None:
        """End it; the server rolls back what is open."""
        self._forget()
        await self._connection.close()

    # --- Inside ------------------------------------------------------------------------------------------

    def _is_kept(self, statement: Statement) -> bool:
        # Never BEGIN: where a pooler loses it, what follows would run outside of a transaction.
        return self._prepare and bool(statement.values)

    def _send(self, statement: Statement) -> None:
        if self._is_kept(statement):
            self._pgconn.send_query_prepared(_name(statement.sql), statement.values)
        else:
            self._pgconn.send_query_params(statement.sql, statement.values)

    async def _exchange(
        self, statements: Sequence[Statement], sends: Sequence[Callable[[], None]]
    ) -> list[PGresult]:
        self._done = self._loop.create_future()
        self._results = []
        self._syncs = 1
        try:
            for statement, send in zip(statements, sends, strict=True):
                send()
                if statement.holds_locks:
                    self._syncs += 1
                    self._pgconn.pipeline_sync()
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
            while True:
                self._pgconn.consume_input()
                if self._writing:
                    self._flush()
                if self._done is not None and not self._done.done():
                    self._take_results(self._done)
                # uvloop calls us no more once the server has reset the connection: what it left is read now.
                if not self._unread.poll(0):
                    return
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
            if result.status != ExecStatus.PIPELINE_SYNC:
                self._results.append(result)
                continue
            self._syncs -= 1
            if self._syncs == 0:
                done.set_result(None)
                return

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
    """A name stands for one SQL only: a pooler that knows no prepared statements may give us a connection
    with another node's, and there it must mean the same SQL, or nothing."""
    return b"journal_" + sha256(text).hexdigest()[:32].encode()
