"""Threads with one database connection each, for what the event loop asks in batches.

Never for work of unknown length: who waits for a thread waits for everybody's batch there.
"""

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from django.db import Error as DatabaseError
from django.db import close_old_connections, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from app.database.outage import DatabaseAway

Answer = TypeVar("Answer")


class OutageLog:
    """One line when `what` begins to fail and one when it works again: every client meets the same error.

    None for a database that is known to be away."""

    def __init__(self, logger: logging.Logger, what: str) -> None:
        self._logger = logger
        self._what = what
        self._failing = False

    def failed(self, error: Exception) -> None:
        """With the traceback, unless it is the database that says what is wrong with it."""
        if isinstance(error, DatabaseAway):
            return  # told already, for all
        if not self._failing:
            self._failing = True
            expected = isinstance(error, DatabaseError)
            self._logger.error("%s fails: %s", self._what, error, exc_info=None if expected else error)

    def worked(self) -> None:
        if self._failing:
            self._failing = False
            self._logger.info("%s works again", self._what)


class DatabaseThread:
    """A thread for one kind of question; it starts with the first, so after any fork."""

    def __init__(self, name: str) -> None:
        self._executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix=name)

    async def run(self, work: Callable[[], Answer]) -> Answer:
        """What `work` returns or raises. Old and broken connections are closed before it and after it."""
        return await asyncio.get_running_loop().run_in_executor(self._executor, _with_usable_connection, work)

    async def close_connections(self) -> None:
        """Close the thread's connections; the next call opens others. For who must leave nothing open."""
        await asyncio.get_running_loop().run_in_executor(self._executor, _close_connections)


_shared: Final = DatabaseThread("database")
in_database_thread: Final = _shared.run
"""For short questions of any feature: who waits here waits for everybody's."""
close_connections: Final = _shared.close_connections


def _close_connections() -> None:
    for connection in connections.all(initialized_only=True):
        # Not the wrapper's own `close`: SQLite's leaves a database in memory open.
        BaseDatabaseWrapper.close(connection)


def _with_usable_connection(work: Callable[[], Answer]) -> Answer:
    close_old_connections()
    try:
        return work()
    finally:
        close_old_connections()
