"""A real PostgreSQL, databases with the application's schema, and commands that run on them."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import pytest

from deploy.local.guardian import Guardian
from deploy.local.plan import PROJECT_FOLDER
from deploy.local.processes import Process, wait_until
from tests.postgres_server import PostgresServer, new_database

PATIENCE = 60.0


class Command:
    """`python -m app.manage ...`, or of another module, in a process of its own, and what it says.

    `planted` is a package with the migrations of one app more; without dots, one of those in `planted`.
    """

    def __init__(
        self,
        guardian: Guardian,
        url: str,
        *words: str,
        module: str = "app.manage",
        planted: str = "",
        **environment: str,
    ) -> None:
        self.lines: list[str] = []
        settings = "tests.integration.database.settings" if planted else "app.settings"
        package = planted if "." in planted else f"tests.integration.database.planted.{planted}"
        chosen = {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": settings, "PLANTED": package}
        self.process = Process(
            " ".join(words),
            [sys.executable, "-m", module, *words],
            guardian,
            environment={**os.environ, "PYTHONUNBUFFERED": "1", **chosen, **environment},
            cwd=PROJECT_FOLDER,
            on_line=lambda _, line: self.lines.append(line),
        )

    def wait_for(self, text: str) -> None:
        """Until it says this."""
        came = wait_until(lambda: any(text in line for line in self.lines), PATIENCE)
        assert came, f"{text!r} is not in:\n{self.process.tail()}"

    def end(self) -> int:
        """Its exit code."""
        code = self.process.wait(PATIENCE)
        assert code is not None, f"still runs:\n{self.process.tail()}"
        self.process.bury()
        return code

    @property
    def last_line(self) -> str:
        """What it said last, blank lines aside."""
        return next(line for line in reversed(self.lines) if line)


Run = Callable[..., Command]


@pytest.fixture
def run() -> Iterator[Run]:
    """Start a command: the URL of a database, the words, and settings by name."""
    guardian = Guardian()
    started: list[Command] = []

    def start(url: str, *words: str, **environment: str) -> Command:
        started.append(Command(guardian, url, *words, **environment))
        return started[-1]

    yield start
    for command in started:
        command.process.kill()
    guardian.close()


@pytest.fixture(scope="session")
def server_url() -> Iterator[str]:
    """A PostgreSQL server on which databases may be made: DATABASE_URL's, or one for this run."""
    given = os.environ.get("DATABASE_URL", "")
    if given.startswith("postgres"):
        yield given
    else:
        with PostgresServer() as server:
            yield server.url()


@pytest.fixture(scope="session")
def template(server_url: str) -> str:
    """A database with the application's schema, to be copied."""
    return migrated(server_url)


def migrated(server_url: str) -> str:
    """The URL of a new database with the application's schema."""
    url = new_database(server_url)
    guardian = Guardian()
    command = Command(guardian, url, "migrate", "--no-input")
    assert command.end() == 0, command.lines
    guardian.close()
    return url


@pytest.fixture
def database(server_url: str, template: str) -> str:
    """The URL of a database of this test's own, with the application's schema."""
    return new_database(server_url, template)


@contextmanager
def session(url: str) -> Iterator[psycopg.Connection[Any]]:
    """Somebody else at the database, who commits when asked to."""
    with psycopg.connect(url) as connection:
        yield connection
        connection.rollback()


def ask(url: str, query: str) -> Any:
    """The first value of the first row."""
    with psycopg.connect(url) as connection:
        row = connection.execute(query).fetchone()
        return row and row[0]
