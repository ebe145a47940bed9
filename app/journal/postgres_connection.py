"""One connection to PostgreSQL that carries a whole transaction in one round trip (libpq's pipeline mode).

libpq itself, on the running loop: psycopg's cursors cost more per statement than a batch may cost in all.
It knows no tables, and keeps nothing in the session, so that PgBouncer may stand between.
"""

import asyncio
from asyncio import Future
from collections.abc import Callable, Mapping, Sequence
from functools import partial
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
    """SQL with `$1`, `$2`, … and their values as text."""

    sql: bytes
    values: Sequence[bytes] = ()


class PostgresConnection:
    """Bound to the loop it was opened on. One `run` at a time."""

    def __init__(self, connection: psycopg.AsyncConnection[Any], prepare: bool) -> None:
        self._connection = connection
        self._pgconn = connection.pgconn
        self._prepare = prepare
        self._prepared: dict[bytes, bytes] = {}
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
        new = {
            text: b"journal_%d" % (len(self._prepared) + number)
            for number, text in enumerate(
                {text: None for text, _ in statements if text not in self._prepared}
            )
        }
        if new:
            send = self._pgconn.send_prepare
            results = await self._exchange([partial(send, name, text) for text, name in new.items()])
            if any(result.status != ExecStatus.COMMAND_OK for result in results):
                return results
            self._prepared |= new
        return await self._exchange(
            [
                partial(self._pgconn.send_query_prepared, self._prepared[text], values)
                for text, values in statements
            ]
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
