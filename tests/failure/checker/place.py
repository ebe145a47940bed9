"""Where a run happens: real nodes, a real Redis with its Sentinels, a real database; all of it to be broken.

Everything here blocks; from a coroutine call it with `asyncio.to_thread`.
"""

import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit

from deploy.local.guardian import Guardian
from deploy.local.nodes import NODE_COMMAND
from deploy.local.plan import PROJECT_FOLDER
from deploy.local.ports import HOST, free_ports
from deploy.local.processes import Process, StartFailed, wait_until_ready
from deploy.local.redis_configs import PRIMARY_NAME
from deploy.local.redis_servers import RedisServers
from tests.failure.checker.proxy import Proxy
from tests.postgres_server import PostgresServer, new_database
from tests.visitor import Door, Visitor

Database = Literal["postgresql", "sqlite"]
STOP_SECONDS: Final = 20.0
COMMAND_SECONDS: Final = 120.0
OWN_NETWORK: Final = "CARILLON_OWN_NETWORK"
"""Set where packets may be dropped, because nobody else's go there."""
COMMITS_LAST: Final = ("fsync=off", "full_page_writes=off", "shared_buffers=32MB")
"""What PostgreSQL has acknowledged survives its own crash, though not the machine's."""


@dataclass(frozen=True)
class Person:
    """A guest of the deployment; the cookie is theirs on every node."""

    id: str
    name: str
    cookie: str


class Node:
    """One node: its ports stay the same whenever it is started again."""

    def __init__(self, number: int, ports: Iterator[int]) -> None:
        self.name = f"node-{number}"
        self.port, self.internal_port = next(ports), next(ports)
        self.process: Process | None = None
        self.way = Proxy((HOST, self.port), next(ports))
        """Between clients and this node."""

    def is_ready(self) -> bool:
        """Whether it wants clients."""
        http = HTTPConnection(HOST, self.internal_port, timeout=10)
        with closing(http):
            http.request("GET", "/readyz")
            return http.getresponse().status == 200

    def metric(self, name: str) -> float:
        """A sample of its metrics, by its name with its labels."""
        http = HTTPConnection(HOST, self.internal_port, timeout=10)
        with closing(http):
            http.request("GET", "/metrics")
            page = http.getresponse().read().decode()
        return next(
            float(line.rpartition(" ")[2]) for line in page.splitlines() if line.rpartition(" ")[0] == name
        )

    @property
    def address(self) -> tuple[str, int]:
        """Where clients find it."""
        return HOST, self.way.port


class Place:
    """`nodes` nodes on one database and one bus."""

    def __init__(self, folder: Path, database: Database, nodes: int = 3) -> None:
        self.database: Database = database
        self.folder = folder
        # All at once: two that are drawn apart may be the same, until somebody listens there.
        self._ports = iter(free_ports(8 + 3 * nodes))
        take = self._ports.__next__
        self.nodes = [Node(number, self._ports) for number in range(1, nodes + 1)]
        self.redis = RedisServers(
            folder / "redis", redis_ports=(take(), take()), sentinel_ports=(take(), take(), take())
        )
        self.people: list[Person] = []
        self._planted: dict[int, str] = {}
        self._releases: dict[int, str] = {}
        """What is planted into a node before everything else: which release it is."""
        self.postgres: PostgresServer | None = None
        self.way_to_database: Proxy | None = None
        """Between nodes and PostgreSQL."""
        self._url = ""
        self._own_url = ""
        self._public_port = take()
        self._stack = ExitStack()
        self._log = (folder / "nodes.log").open("w", buffering=1)

    def __enter__(self) -> Self:
        with self._stack as stack:
            self._guardian = Guardian()
            stack.callback(self._guardian.close)
            stack.callback(self._log.close)
            stack.enter_context(self.redis)
            self._start_database()
            for node in self.nodes:
                stack.enter_context(node.way)
            stack.callback(self._stop_nodes)
            self.manage("migrate", "--verbosity", "0")
            self.start_nodes()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # --- The database ------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The database as only the checker has it: past the proxy."""
        return self._own_url

    @property
    def sqlite_file(self) -> Path:
        return self.folder / "data" / "carillon.sqlite3"

    def _start_database(self) -> None:
        if self.database == "sqlite":
            self.sqlite_file.parent.mkdir(parents=True)
            self._own_url = self._url = f"sqlite:///{self.sqlite_file}"
            return
        self.postgres = self._stack.enter_context(PostgresServer(next(self._ports), options=COMMITS_LAST))
        self._own_url = new_database(self.postgres.url())
        parts = urlsplit(self._own_url)
        self.way_to_database = self._stack.enter_context(Proxy((HOST, parts.port or 0), next(self._ports)))
        self._url = parts._replace(netloc=f"postgres@{HOST}:{self.way_to_database.port}").geturl()

    # --- Nodes -------------------------------------------------------------------------------------------

    def environment(self, node: Node | None = None) -> dict[str, str]:
        """What a node, or a command, is told."""
        told = {name: value for name, value in os.environ.items() if not name.startswith("REDIS_")}
        told |= {
            "DATABASE_URL": self._url if node else self._own_url,
            "DATA_FOLDER": str(self.folder / "data"),
            "REDIS_SENTINELS": ",".join(f"{host}:{port}" for host, port in self.redis.sentinel_addresses),
            "REDIS_PRIMARY_NAME": PRIMARY_NAME,
            "COMMANDS_PER_SECOND": "1000",
            "COMMANDS_BURST": "2000",
            "DJANGO_SETTINGS_MODULE": "tests.failure.planted.settings",
            "PYTHONUNBUFFERED": "1",
        }
        if node is not None:
            told |= {
                "NODE_NAME": node.name,
                "PUBLIC_PORT": str(self._public_port),
                "NODE_PORT": str(node.port),
                "INTERNAL_HOST": HOST,
                "INTERNAL_PORT": str(node.internal_port),
                "PLANTED": self._told_to_plant(self.nodes.index(node) + 1),
            }
        return told

    def start_nodes(self) -> None:
        """Start those that do not run, and wait until they are ready."""
        chosen = [node for node in self.nodes if node.process is None]
        for node in chosen:
            node.process = Process(
                node.name,
                self._command(node),
                self._guardian,
                environment=self.environment(node),
                cwd=PROJECT_FOLDER,
                on_line=self._note,
            )
        for node in chosen:
            self._wait_until_ready(node)

    def _command(self, node: Node) -> Sequence[str]:
        return NODE_COMMAND

    def _wait_until_ready(self, node: Node) -> None:
        assert node.process is not None
        wait_until_ready(node.process, node.internal_port)

    def plant(self, faults: Mapping[int, str]) -> None:
        """These nodes, and no others, run with these faults from now on."""
        for number, node in enumerate(self.nodes, 1):
            if self._told_to_plant(number) != faults.get(number, ""):
                self.drain(node)
        self._planted = dict(faults)
        self._releases = {}
        self.start_nodes()

    def _told_to_plant(self, number: int) -> str:
        return ",".join(filter(None, (self._releases.get(number), self._planted.get(number))))

    def replace(self, node: Node, release: str) -> None:
        """Drain it, and start it again as another release; what was planted into it stays."""
        number = self.nodes.index(node) + 1
        self._releases[number] = release
        self.drain(node)
        self.start_nodes()

    def kill(self, node: Node) -> None:
        """SIGKILL to all of it."""
        process, node.process = node.process, None
        assert process is not None
        process.kill()

    def drain(self, node: Node) -> None:
        """SIGTERM, as a pod's end begins; returns when it has ended."""
        process, node.process = node.process, None
        if process is not None:
            process.stop(STOP_SECONDS)

    def pause(self, node: Node) -> None:
        """SIGSTOP to all of it: its connections stay open, and nobody is there."""
        assert node.process is not None
        node.process.signal(signal.SIGSTOP)

    def go_on(self, node: Node) -> None:
        assert node.process is not None
        node.process.signal(signal.SIGCONT)

    def node_named(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    @contextmanager
    def cut_off(self, port: int) -> Iterator[None]:
        """Drop every packet to and from `port`; nothing is reset. Only in a network of one's own."""
        if not os.environ.get(OWN_NETWORK):
            raise AssertionError(
                "needs a network of its own: python -m tests.failure.own_network tests/failure"
            )
        rules = [["INPUT", "-p", "tcp", f"--{side}port", str(port), "-j", "DROP"] for side in ("d", "s")]
        for rule in rules:
            subprocess.run(["iptables", "-w", "-A", *rule], check=True)
        try:
            yield
        finally:
            for rule in rules:
                subprocess.run(["iptables", "-w", "-D", *rule], check=True)

    # --- Backups -----------------------------------------------------------------------------------------

    def back_up(self) -> None:
        """A copy of the database as it is now. Nobody may write meanwhile."""
        if self.postgres is not None:
            self._with_postgres_stopped(self.postgres, shutil.copytree)
        else:
            with (
                closing(sqlite3.connect(self.sqlite_file)) as live,
                closing(sqlite3.connect(self._copy)) as copy,
            ):
                live.backup(copy)

    def restore(self) -> None:
        """As docs/operations say: put the backup back, give the streams new epochs, then let nodes in."""
        if self.postgres is not None:
            assert self.way_to_database is not None
            self.way_to_database.refuse()
            self._with_postgres_stopped(self.postgres, _replace)
            self.manage("renew_epochs")
            self.way_to_database.pass_on()
        else:
            # A file that nodes have open cannot be swapped: its content is, in one transaction.
            self.manage("renew_epochs", DATABASE_URL=f"sqlite:///{self._copy}")
            with (
                closing(sqlite3.connect(self._copy)) as copy,
                closing(sqlite3.connect(self.sqlite_file)) as live,
            ):
                copy.backup(live)

    @property
    def _copy(self) -> Path:
        return self.folder / "backup"

    def _with_postgres_stopped(self, postgres: PostgresServer, work: Callable[[Path, Path], object]) -> None:
        postgres.stop()
        try:
            work(postgres.data, self._copy)
        finally:
            postgres.start()

    def heal(self) -> None:
        """Everything runs as at the start: to be called before each scenario."""
        if self.way_to_database is not None:
            self.way_to_database.pass_on()
        for name, (_, pid) in self.redis.processes().items():
            if pid is None:
                self.redis.restart(name)
            else:
                self.redis.resume(name)
        self.redis.wait_until_ready()
        for node in self.nodes:
            node.way.pass_on()
            if node.process is not None and not node.process.alive:
                raise StartFailed(f"{node.name} ended by itself:\n{node.process.tail()}")
        self.start_nodes()

    def _note(self, name: str, line: str) -> None:
        self._log.write(f"{name}: {line}\n")

    def _stop_nodes(self) -> None:
        running = [node.process for node in self.nodes if node.process is not None]
        for process in running:
            process.terminate()
        for process in running:
            process.stop(STOP_SECONDS)

    # --- Commands and people -----------------------------------------------------------------------------

    def manage(self, *arguments: str, **environment: str) -> str:
        """A management command, past the proxy; what it said."""
        return self._run("app.manage", *arguments, **environment)

    def stage(self, **what: Any) -> Any:
        """Something done through the application's own services: see `stage.py`."""
        return json.loads(self._run("tests.failure.checker.stage", json.dumps(what)).splitlines()[-1])

    def _run(self, module: str, *arguments: str, **environment: str) -> str:
        lines: list[str] = []
        command = [sys.executable, "-m", module, *arguments]
        told = self.environment() | environment
        process = Process(
            module,
            command,
            self._guardian,
            environment=told,
            cwd=PROJECT_FOLDER,
            on_line=lambda _, line: lines.append(line),
        )
        code = process.wait(COMMAND_SECONDS)
        process.kill()
        if code != 0:
            raise StartFailed(f"{module} {' '.join(arguments)} ended with {code}:\n" + "\n".join(lines[-30:]))
        return "\n".join(lines)

    def bring_people(self, count: int) -> list[Person]:
        """That many guests; those of earlier scenarios come again."""
        while len(self.people) < count:
            number = len(self.people) + 1
            node = self.nodes[number % len(self.nodes)]
            visitor = Visitor(Door(f"http://{HOST}:{node.way.port}", node.address))
            visitor.enter_as_guest(f"guest-{number}")
            with visitor.connect(origin=visitor.door.origin, cookie=True) as connection:
                hello = json.loads(connection.recv(30))
            self.people.append(Person(hello["data"]["user"]["id"], f"guest-{number}", visitor.cookie))
        return self.people[:count]


def _replace(data: Path, copy: Path) -> None:
    """As `cp -a`: PostgreSQL insists on its owner."""
    owner = data.stat()
    shutil.rmtree(data)
    shutil.copytree(copy, data)
    for path in (data, *data.rglob("*")):
        os.chown(path, owner.st_uid, owner.st_gid)
