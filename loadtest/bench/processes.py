"""Starts the servers of a run, each on its core and a free port, and leaves none of them behind."""

import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from deploy.local.guardian import Guardian
from deploy.local.ports import HOST, free_ports
from deploy.local.processes import Process, StartFailed, wait_until
from deploy.local.redis_binary import redis_server
from loadtest.bench import machine, wire
from loadtest.bench.client import Crowd
from loadtest.bench.control import Control
from loadtest.bench.database import Database

START_SECONDS: Final = 30.0
PEOPLE: Final = 2_000
"""Accounts; connections take their turns with them."""
ROOMS: Final = [f"bench-{number}" for number in range(200)]
"""Of durable posts."""

_PYTHON: Final = sys.executable
_SERVERS: Final = "loadtest.bench.servers"
_UVICORN: Final = (
    "-m uvicorn --no-access-log --log-level warning --ws-ping-interval 3600 --ws-ping-timeout 3600"
)


@dataclass(frozen=True, eq=False)
class Kind:
    """How one of the servers is started and spoken to. `{port}` stands for its port, `{shared}` for one that
    it has together with others."""

    name: str
    command: str
    environment: dict[str, str]
    control_path: str = "/control"
    member_path: str = "/"
    idle_path: str = "/"
    signed_in_path: str = "/"


CARILLON: Final = Kind(
    "Carillon",
    "-m gunicorn -k app.serving.worker.CarillonWorker -c python:app.serving.gunicorn_conf "
    f"{_SERVERS}.carillon:application",
    {},
    control_path="/realtime/bench/control/",
    member_path="/realtime/bench/member/",
    idle_path="/realtime/",
    signed_in_path="/realtime/",
)
BARE: Final = Kind("bare send() loop", f"-m {_SERVERS}.bare {{port}}", {})
UPGRADE_ONLY: Final = Kind("bare uvloop upgrade", f"-m {_SERVERS}.upgrade_only {{port}}", {})
STOCK_CORE, STOCK_PUBSUB = (
    Kind(
        f"stock {name}",
        f"{_UVICORN} --port {{port}} {_SERVERS}.stock:application",
        {"CHANNEL_LAYER": layer},
        signed_in_path="/signed-in/",
    )
    for name, layer in (("core", "channels_redis"), ("pub/sub", "channels_redis_pubsub"))
)
NAIVE: Final = Kind(
    "stock consumer and ORM",
    f"{_UVICORN} --port {{port}} {_SERVERS}.naive:application",
    {"CHANNEL_LAYER": "channels_redis"},
)
STOCK: Final = (STOCK_CORE, STOCK_PUBSUB)
NAIVE_WORKER: Final = Kind(
    "stock consumer on uvicorn's worker",
    "-m gunicorn -k uvicorn_worker.UvicornWorker --reuse-port -b 127.0.0.1:{port} -b 127.0.0.1:{shared} "
    f"--log-level warning {_SERVERS}.naive:application",
    {"CHANNEL_LAYER": "channels_redis"},
)
"""The same as it is deployed: several of them behind one port, each with a gunicorn to end it politely."""


@dataclass(frozen=True)
class Home:
    """Where servers keep what they keep, and who is known there: ticket and session of each."""

    settings: dict[str, str]
    people: list[dict[str, str]]


class Server:
    """One that runs."""

    def __init__(
        self, kind: Kind, process: Process, ports: tuple[int, int], people: Sequence[dict[str, str]]
    ) -> None:
        self.kind = kind
        self.port, self.internal_port = ports
        self.process = process
        self.control: Control | None = None
        self.pid = process.pid
        self.people = people

    def connect_control(self) -> None:
        """Wait until it answers. Raises `StartFailed`."""
        # Not by ticket: those last for ten minutes, and a run may be longer.
        request = wire.request(self.kind.control_path, self.port, session=self.people[0]["session"])

        def answers() -> bool:
            with suppress(OSError):
                self.control = Control(self.port, request)
            return self.control is not None or not self.process.alive

        wait_until(answers, START_SECONDS)
        if self.control is None:
            raise StartFailed(f"{self.kind.name} does not answer:\n{self.process.tail()}")
        if self.kind is not UPGRADE_ONLY:
            self.pid = self.control.ask("bench.about")["pid"]

    def requests(self, path: str, count: int, *, by: str = "ticket") -> list[bytes]:
        """Upgrade requests of `count` people, by "ticket" or by "session"."""
        people = itertools.islice(itertools.cycle(self.people), count)
        return [wire.request(path, self.port, **{by: person[by]}) for person in people]

    @contextmanager
    def crowd(self, count: int) -> Iterator[Crowd]:
        """`count` connections that are in the group."""
        with Crowd() as crowd:
            crowd.open(self.port, self.requests(self.kind.member_path, count))
            yield crowd

    def cpu_seconds(self) -> float:
        """Of all threads of the process that serves, user and system, to the nanosecond."""
        return time.clock_gettime((~self.pid << 3) | 2)  # what clock_getcpuclockid(3) answers for a process

    def settle(self) -> None:
        """Wait until it has nothing left to do: what one round left over must not be paid for by the next."""
        before = self.cpu_seconds()
        for _ in range(100):
            time.sleep(0.05)
            now = self.cpu_seconds()
            if now - before < 0.004:
                return
            before = now

    def resident_kib(self) -> int:
        """Its resident memory after a collection of garbage."""
        assert self.control is not None
        self.control.ask("bench.about")
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1])
        raise RuntimeError(f"process {self.pid} has no resident memory")

    def metrics(self) -> str:
        """What a scraper reads."""
        http = HTTPConnection(HOST, self.internal_port, timeout=30)
        try:
            http.request("GET", "/metrics")
            return http.getresponse().read().decode()
        finally:
            http.close()

    def leave(self) -> None:
        """Ask it to end politely. Returns at once."""
        if self.control is not None:
            self.control.close()
        self.process.terminate()

    def stop(self) -> None:
        """End it at once: there is nothing in it that anybody would miss."""
        if self.control is not None:
            self.control.close()
        self.process.kill()


class Stage:
    """What all figures of a run share: the guardian, Redis, the people who connect, and (from when the first
    of them asks on) the database of durable posts."""

    def __init__(self) -> None:
        self._guardian = Guardian()
        self._exits = ExitStack()
        self.notes: list[str] = []
        """What a reader of the report must know of what the figures started."""
        self.folder = Path()
        """On the disk that PostgreSQL writes to."""
        self._home = Home({}, [])
        self._durable: tuple[Database, Home] | None = None
        self._environment: dict[str, str] = {}

    def __enter__(self) -> Self:
        with ExitStack() as exits:
            exits.callback(self._guardian.close)
            folder = Path(exits.enter_context(tempfile.TemporaryDirectory(prefix="carillon-bench-")))
            [redis_port] = free_ports(1)
            options = f"--bind {HOST} --port {redis_port} --save  --appendonly no --dir {folder}"
            redis = Process("redis", [redis_server(), *options.split(" ")], self._guardian)
            exits.callback(redis.kill)
            self._environment = os.environ | {
                "CHANNEL_CAPACITY": "100000",
                "COMMANDS_BURST": "1000",
                "DATA_FOLDER": str(folder),
                "LOG_LEVEL": "WARNING",
                "PING_SECONDS": "3600",
                "PYTHONPATH": str(machine.REPOSITORY),
                "REDIS_ADDRESS": f"{HOST}:{redis_port}",
                # Nothing fails over here: who is late on a busy machine is waited for.
                "REDIS_CONNECT_SECONDS": "30",
                "TICKET_SECONDS": "600",
            }
            for name in ("DATABASE_URL", "ENVIRONMENT", "REDIS_SENTINELS", "SECRET_KEYS"):
                self._environment.pop(name, None)
            self.folder = folder
            self._home = self._make_home({})
            self._exits = exits.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exits.close()

    @contextmanager
    def running(self, *kinds: Kind, home: Home | None = None) -> Iterator[list[Server]]:
        """These servers, answering; ended afterwards. Without a `home` they are at the stage's, on SQLite."""
        home = home or self._home
        with ExitStack() as exits:
            servers = []
            for number, kind in enumerate(kinds, 1):
                server = self.start(kind, number, home)
                exits.callback(server.stop)
                servers.append(server)
            for server in servers:
                server.settle()
            yield servers

    def start(self, kind: Kind, number: int, home: Home, shared_port: int = 0) -> Server:
        """One that answers, for the caller to stop. It has a port of its own, and may share one with others.

        Raises `StartFailed`.
        """
        port, internal_port = free_ports(2)
        command = [_PYTHON, *kind.command.format(port=port, shared=shared_port).split()]
        own = {"NODE_NAME": f"bench-{number}", "INTERNAL_PORT": str(internal_port)}
        own |= (
            {"PUBLIC_PORT": str(shared_port), "NODE_PORT": str(port)}
            if shared_port
            else {"PUBLIC_PORT": str(port)}
        )
        environment = self._environment | home.settings | own | kind.environment
        process = self._pinned(kind.name, command, environment, machine.SERVER_CORE)
        server = Server(kind, process, (port, internal_port), home.people)
        try:
            server.connect_control()
        except BaseException:
            server.stop()
            raise
        return server

    def durable(self) -> tuple[Database, Home]:
        """A home on PostgreSQL, with ROOMS in it. Raises `StartFailed`."""
        if self._durable is None:
            database = self._exits.enter_context(Database().running())
            self._durable = database, self._make_home({"DATABASE_URL": database.url})
            self._do("rooms", self._durable[1].settings, f"{_SERVERS}.rooms", *ROOMS)
            self.notes.append(f"durable posts: {database.description()}")
        return self._durable

    def _make_home(self, settings: dict[str, str]) -> Home:
        """With PEOPLE in it. Raises `StartFailed`."""
        file = self.folder / "people.json"
        self._do("people", settings, f"{_SERVERS}.people", str(PEOPLE), str(file))
        return Home(settings, json.loads(file.read_text()))

    def _pinned(self, name: str, command: Sequence[str], environment: dict[str, str], core: int) -> Process:
        launcher = [_PYTHON, "-m", "loadtest.bench.pinned", str(core), *command]
        return Process(name, launcher, self._guardian, environment=environment, cwd=machine.REPOSITORY)

    def answer_of(self, module: str, *arguments: str) -> dict[str, float]:
        """What a program of the bench found out on the servers' core, as it wrote it in one line of JSON."""
        process = self._do(module, {}, f"{_SERVERS}.{module}", *arguments, core=machine.SERVER_CORE)
        answer: dict[str, float] = json.loads(process.tail())
        return answer

    def _do(
        self, name: str, settings: dict[str, str], *module: str, core: int = machine.CLIENT_CORE
    ) -> Process:
        """A program that ends by itself. Raises `StartFailed` if it does not, or fails."""
        process = self._pinned(name, [_PYTHON, "-m", *module], self._environment | settings, core)
        if not wait_until(lambda: not process.alive, START_SECONDS) or process.exit_code:
            raise StartFailed(f"{name} failed:\n{process.tail()}")
        process.bury()
        return process
