"""Whether the database is away. Noticed by whoever asks it in vain, over when it answers again.

It is asked by one thread, for all: while it is away nobody else waits for it. Nothing here does anything
before `watch`: a command such as `migrate` waits for as long as the database takes.
"""

import logging
import sqlite3
from collections.abc import Callable
from threading import Lock, Thread
from time import monotonic, sleep
from typing import Any, Final

import psycopg
from django.db import InterfaceError, OperationalError, connections

from app.database.patience import PatientConnection

logger = logging.getLogger(__name__)

PROBE_SECONDS: Final = 3.0
"""A database that lets nobody in for so long is away. Opening a connection takes some five round trips."""

RETRY_SECONDS: Final = 0.5
"""Between two probes while it is away."""

TOLD: Final = (
    "error connecting",
    "reconnection attempt",
    "discarding closed connection",
    "couldn't stop thread",
)
"""How the lines of psycopg's pool begin that an outage brings."""


class DatabaseAway(OperationalError):
    """It is known to be away, so nobody asked it."""


class Outage:
    """Of one database. `probe` asks it and raises; `on_begin` is called when it is found away."""

    def __init__(self, probe: Callable[[], None]) -> None:
        self.away = False
        self.on_begin: Callable[[], None] = lambda: None
        self._probe = probe
        self._watching = False
        self._probing = Lock()

    def watch(self) -> None:
        """From here on whoever waits in vain has the database asked."""
        self._watching = True

    def raise_if_away(self) -> None:
        """Raises `DatabaseAway`."""
        if self.away:
            raise DatabaseAway("the database is away")

    def suspect(self, why: str = "") -> None:
        """Have the database asked, in a moment and from any thread. `why`: what somebody met, for the log if
        the database itself turns out to be well."""
        if not self._watching:
            if why:
                self._tell(why)
        elif self._probing.acquire(blocking=False):
            Thread(target=self._ask, args=(why,), name="database-probe", daemon=True).start()

    def _ask(self, why: str) -> None:
        began = monotonic()
        try:
            while (error := self._answer()) is not None:
                if not self.away:
                    self.away = True
                    logger.error("the database is away: %s", " ".join(str(error).split()))
                    self.on_begin()
                sleep(RETRY_SECONDS)
            if self.away:
                self.away = False
                logger.warning("the database is back, after %.0f s", monotonic() - began)
            elif why:
                self._tell(why)
        finally:
            self._probing.release()

    def is_news(self, record: logging.LogRecord) -> bool:
        """Whether what the pool logs is told by nobody else: each attempt of an outage is not."""
        return not self._watching or not str(record.msg).startswith(TOLD)

    def _tell(self, why: str) -> None:
        logger.warning("the database failed somebody: %s", " ".join(why.split()))

    def _answer(self) -> Exception | None:
        try:
            self._probe()
        except Exception as error:
            return error
        return None


def is_of_the_database(error: BaseException) -> bool:
    """Whether this is the database's own trouble, which may be over soon, and no fault of who asked."""
    cause = error.__cause__
    if isinstance(cause, sqlite3.Error):  # its most general code is for SQL that is wrong
        return getattr(cause, "sqlite_errorcode", sqlite3.SQLITE_ERROR) != sqlite3.SQLITE_ERROR
    return isinstance(error, (OperationalError, InterfaceError))


class _Probe(PatientConnection):
    def go_on(self, waited: float) -> None:
        if waited > PROBE_SECONDS:
            raise psycopg.OperationalError(f"no answer for {PROBE_SECONDS:g} s")


def _ask_the_database() -> None:
    """Over a connection of its own: PostgreSQL whether it answers, SQLite whether it may be written."""
    wrapper: Any = connections["default"]
    parameters = wrapper.get_connection_params()
    if wrapper.vendor == "sqlite":
        known = {name: parameters[name] for name in ("database", "uri") if name in parameters}
        lock = sqlite3.connect(**known, timeout=PROBE_SECONDS, isolation_level=None)
        try:
            lock.execute("BEGIN IMMEDIATE")
        finally:
            lock.close()
    else:
        with _Probe.connect(**parameters | {"connect_timeout": int(PROBE_SECONDS)}, autocommit=True) as probe:
            probe.execute("SELECT 1")


outage: Final = Outage(_ask_the_database)
"""The process' own."""
is_news: Final = outage.is_news
