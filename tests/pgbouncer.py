"""A real PgBouncer on 127.0.0.1, the system's, in transaction mode in front of a PostgreSQL."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

import psycopg

from deploy.local.guardian import Guardian
from deploy.local.ports import HOST, free_ports
from deploy.local.processes import Process, StartFailed, wait_until

POOL_SIZE: Final = 4
"""Connections to each database; who waits for one waits for somebody's transaction to end."""

CONFIG: Final = """
[databases]
* = host={host} port={server_port} user=postgres
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {pool_size}
max_client_conn = 200
server_fast_close = 1
"""


class PgBouncer:
    """In front of the server at `server_url`. All methods block."""

    def __init__(self, server_url: str) -> None:
        self.port = free_ports(1)[0]
        self._server_url = server_url

    def __enter__(self) -> Self:
        program = shutil.which("pgbouncer", path=os.environ.get("PATH", "") + os.pathsep + "/usr/sbin")
        if program is None:
            raise StartFailed("needs PgBouncer: apt-get install pgbouncer, or your system's own way")
        self._folder = Path(tempfile.mkdtemp(prefix="carillon-pgbouncer-"))
        self._folder.chmod(0o755)
        config = self._folder / "pgbouncer.ini"
        server_port = urlsplit(self._server_url).port
        config.write_text(
            CONFIG.format(host=HOST, port=self.port, server_port=server_port, pool_size=POOL_SIZE)
        )
        self._guardian = Guardian()
        # It refuses to run as root, too, but knows how to become somebody else.
        user = ["--user", "nobody"] if os.geteuid() == 0 else []
        self._process = Process("pgbouncer", [program, *user, str(config)], self._guardian)
        if not wait_until(lambda: not self._process.alive or self._answers(), 30) or not self._process.alive:
            tail = self._process.tail()
            self.__exit__()
            raise StartFailed(f"PgBouncer does not answer on port {self.port}:\n{tail}")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._guardian.close()
        shutil.rmtree(self._folder)

    def url(self, database_url: str) -> str:
        """That database, through here."""
        return urlsplit(database_url)._replace(netloc=f"postgres@{HOST}:{self.port}").geturl()

    def _answers(self) -> bool:
        try:
            psycopg.connect(self.url(self._server_url), connect_timeout=2).close()
        except psycopg.OperationalError:
            return False
        return True
