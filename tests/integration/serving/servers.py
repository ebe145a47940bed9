"""Real servers around the test application, each a process with ports of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory

from deploy.local.guardian import Guardian
from deploy.local.ports import HOST, free_ports
from deploy.local.processes import Process, wait_until

APPLICATION = "tests.integration.serving.asgi:application"
PROJECT = Path(__file__).parents[3]
START_SECONDS = 90.0


class Server:
    """One server process, ready when it is made."""

    def __init__(self, guardian: Guardian, kind: str, environment: dict[str, str]) -> None:
        self.port, self.internal_port = free_ports(2)
        self.port = int(environment.get("PUBLIC_PORT", self.port))
        self.log: list[str] = []
        node = ["gunicorn", "-c", "python:app.serving.gunicorn_conf"]
        command = {
            "node": [*node, APPLICATION],
            "carillon": [*node, "app.asgi:application"],
            "daphne": ["daphne", "-b", HOST, "-p", str(self.port), APPLICATION],
        }[kind]
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("REDIS_")}
        ports = {"PUBLIC_PORT": str(self.port), "INTERNAL_PORT": str(self.internal_port)}
        self.process = Process(
            kind,
            [sys.executable, "-m", *command],
            guardian,
            environment=inherited | ports | {"PYTHONUNBUFFERED": "1"} | environment,
            cwd=PROJECT,
            on_line=lambda _, line: self.log.append(line),
        )
        probe = (self.port, "/") if kind == "daphne" else (self.internal_port, "/readyz")
        started = wait_until(lambda: self.status(*probe) is not None or not self.process.alive, START_SECONDS)
        if not started or not self.process.alive:
            self.process.kill()
            raise AssertionError(f"{kind} did not start:\n{self.process.tail()}")

    def get(self, port: int, path: str) -> tuple[int, str]:
        """Status and body."""
        http = HTTPConnection(HOST, port, timeout=30)
        try:
            http.request("GET", path, headers={"Host": "localhost"})
            response = http.getresponse()
            return response.status, response.read().decode()
        finally:
            http.close()

    def status(self, port: int, path: str) -> int | None:
        """None: nobody answers."""
        try:
            return self.get(port, path)[0]
        except (OSError, HTTPException):
            return None

    def metric(self, name: str) -> float:
        """A sample of `/metrics`, by its name with its labels; 0 when there is none yet."""
        _, text = self.get(self.internal_port, "/metrics")
        found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.M)
        return float(found[1]) if found else 0.0


def prepare_database(folder: Path) -> None:
    """Give the nodes whose DATA_FOLDER this is a database with the application's schema."""
    (folder / "carillon.sqlite3").write_bytes(_database())


@cache
def _database() -> bytes:
    """Made once: the tests are about what nodes do with it."""
    command = [sys.executable, "-m", "app.manage", "migrate", "--no-input", "--verbosity", "0"]
    with TemporaryDirectory() as folder:
        environment = os.environ | {"DATA_FOLDER": folder}
        subprocess.run(command, cwd=PROJECT, env=environment, check=True, timeout=START_SECONDS)
        return (Path(folder) / "carillon.sqlite3").read_bytes()


@contextmanager
def server(kind: str = "node", **environment: str) -> Iterator[Server]:
    """A server for one test, or for all tests of a module."""
    guardian = Guardian()
    one: Server | None = None
    try:
        one = Server(guardian, kind, environment)
        yield one
    finally:
        if one is not None:
            one.process.stop(15)
        guardian.close()
