"""PostgreSQL for the figures of durable posts, and what can be read off it from outside.

Set as docs/operations.md tells operators to. fsync, synchronous_commit and full_page_writes are on: an answer
means that the disk has it. Its processes run where the bench's own does. Speaks SQL only, and only where the
wire cannot say it.
"""

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Final

import psycopg

from deploy.local.processes import wait_until
from loadtest.bench.wire import WireError
from tests.postgres_server import PostgresServer, new_database

OPTIONS: Final = ("shared_buffers=1GB", "max_wal_size=4GB", "min_wal_size=2GB", "jit=off")
SETTINGS: Final = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    *(option.partition("=")[0] for option in OPTIONS),
)
LOG_SECONDS: Final = 10.0
LOG_MEGABYTES: Final = 2048
"""Of the server's write-ahead log: more than a figure writes before a checkpoint."""

_STATEMENT: Final = re.compile(r"LOG:  (?:execute [^:]*|statement):(?: (.*))?$")
_NO_QUERY: Final = ("BEGIN", "COMMIT", "ROLLBACK", "SET")
_marks: Final = count(1)
_TICKS_PER_SECOND: Final = os.sysconf("SC_CLK_TCK")

_HOLES: Final = """
    SELECT p.stream, p.floor, p.last_sequence, count(e.sequence)
    FROM journal_position p LEFT JOIN journal_event e ON e.position_id = p.id
    GROUP BY p.id
    HAVING count(e.sequence) <> p.last_sequence - p.floor
        OR min(e.sequence) <> p.floor + 1 OR max(e.sequence) <> p.last_sequence
"""
_STORED: Final = """
    SELECT count(*) FROM chat_message m JOIN journal_event e ON e.key = m.id AND e.sequence = m.sequence
"""


@dataclass
class Counted:
    """What the server was asked for meanwhile, the first line of each; filled at the end."""

    statements: list[str]

    @property
    def queries(self) -> list[str]:
        """Without those that only begin, end or set something, and empty ones: is anybody there?"""
        return [one for one in self.statements if one and not one.startswith(_NO_QUERY)]


class Database:
    """One database on a server of its own. All methods block."""

    def __init__(self) -> None:
        self._log: list[str] = []
        self._server = PostgresServer(options=OPTIONS, on_line=lambda _, line: self._log.append(line))
        self.url = ""

    @contextmanager
    def running(self) -> Iterator["Database"]:
        """Started, and gone afterwards."""
        with self._server as server:
            self.url = new_database(server.url())
            self._fill_log()
            yield self

    def description(self) -> str:
        """How it makes sure, for the report."""
        with self._connect() as connection:
            query = "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY(%s) ORDER BY name"
            values = connection.execute(query, [list(SETTINGS)]).fetchall()
        return "PostgreSQL: " + ", ".join(f"{name} {value}" for name, value in values)

    def transactions(self) -> tuple[int, int]:
        """Commits and deadlocks so far, of what has ended more than a second ago."""
        time.sleep(1.1)  # a server process tells its numbers once a second
        with self._connect() as connection:
            query = "SELECT xact_commit, deadlocks FROM pg_stat_database WHERE datname = current_database()"
            [commits, deadlocks] = connection.execute(query).fetchall()[0]
        return int(commits), int(deadlocks)

    def check(self) -> int:
        """How many messages are stored. Raises `WireError` for a hole, or an event without its message."""
        with self._connect() as connection:
            if holes := connection.execute(_HOLES).fetchall():
                raise WireError(f"{len(holes)} streams have holes: {holes[0]}")
            [[messages]] = connection.execute(_STORED).fetchall()
            [[events]] = connection.execute("SELECT count(*) FROM journal_event").fetchall()
        if messages != events:
            raise WireError(f"{events:,} events and {messages:,} messages are stored")
        return int(messages)

    def cpu_seconds(self) -> float:
        """Of all its processes so far."""
        return _ticks(self._server.pid) / _TICKS_PER_SECOND

    @contextmanager
    def counting(self) -> Iterator[Counted]:
        """Its log names every statement meanwhile; that takes some of its speed."""
        self._set("log_statement", "all")
        begin = self._marked()
        counted = Counted([])
        yield counted
        end = self._marked()
        self._set("log_statement", "none")
        lines = self._log[begin + 1 : end + 1]
        matches = zip(map(_STATEMENT.search, lines[:-1]), lines[1:], strict=True)
        # What does not fit into the first line stands in the next ones, behind a tab.
        texts = [match[1] or (behind if behind[:1] == "\t" else "") for match, behind in matches if match]
        counted.statements = [text.strip() for text in texts]

    # --- Inside ------------------------------------------------------------------------------------------

    def _fill_log(self) -> None:
        """As on a server that has run for a while, whose log goes into files that it has used before: making
        a new one, every 16 MiB, holds up all commits for some tens of milliseconds."""
        fill = "SELECT count(pg_logical_emit_message(false, 'bench', repeat('x', 1048576)))"
        with self._connect() as connection:
            connection.execute(f"{fill} FROM generate_series(1, {LOG_MEGABYTES})")
            connection.execute("CHECKPOINT")

    def _connect(self) -> "psycopg.Connection[tuple[str | int, ...]]":
        return psycopg.connect(self.url, autocommit=True)

    def _set(self, name: str, value: str) -> None:
        with self._connect() as connection:
            connection.execute(f"ALTER SYSTEM SET {name} = '{value}'")
            connection.execute("SELECT pg_reload_conf()")
        time.sleep(0.5)  # every process reads it when it is next asked something

    def _marked(self) -> int:
        """The line of the log that a statement of ours makes now."""
        mark = f"SELECT 'mark {next(_marks)} of the bench'"
        with self._connect() as connection:
            connection.execute(mark)
        if not wait_until(lambda: any(mark in line for line in self._log), LOG_SECONDS):
            raise WireError("PostgreSQL does not log what it is asked")
        return next(at for at, line in enumerate(self._log) if mark in line)


def _ticks(postmaster: int) -> int:
    """User and system time of its processes, and of those of them that have ended."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            fields = stat.read_text().rpartition(")")[2].split()
            if int(stat.parent.name) == postmaster:
                ticks += sum(map(int, fields[11:15]))
            elif int(fields[1]) == postmaster:
                ticks += sum(map(int, fields[11:13]))
    return ticks
