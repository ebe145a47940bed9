"""Three nodes to run load tests against; the bus of the first one can be cut."""

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from deploy.local.ports import HOST
from deploy.local.processes import wait_until
from deploy.local.redis_servers import RedisServers
from tests.failure.deaf_proxy import DeafProxy
from tests.integration.serving.servers import PROJECT, Server, prepare_database, server
from tests.load.frame_proxy import FrameProxy, Tamper

RUN_SECONDS = 120.0
LOCUST = (PROJECT / ".venv-load" / "bin" / "python", "-m", "locust")


class Run:
    """A load test that is under way."""

    def __init__(self, command: Sequence[str]) -> None:
        self._process = subprocess.Popen(
            command, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        self.log = ""

    def wait_for(self, line: str) -> None:
        """Until Locust has said that."""
        assert self._process.stdout is not None
        for said in self._process.stdout:
            self.log += said
            if line in said:
                return
        raise AssertionError(f"ended without {line!r}:\n{self.log}")

    @property
    def workers(self) -> list[int]:
        """Pids of its Locust workers."""
        pid = self._process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def end(self) -> int:
        """Its exit code; `broken` and `log` say the rest."""
        rest, _ = self._process.communicate(timeout=RUN_SECONDS)
        self.log += rest
        return self._process.returncode

    def kill(self) -> None:
        """If it still runs: its test has failed."""
        with self._process:
            self._process.kill()

    @property
    def broken(self) -> set[str]:
        """Rules that its table names."""
        rows = (line.split() for line in self.log.splitlines() if line.startswith("BROKEN "))
        return {row[1] for row in rows}


class Place:
    """Three nodes on one database and one bus."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        redis = stack.enter_context(RedisServers(folder / "redis"))
        primary = redis.primary_address()
        self.bus = stack.enter_context(DeafProxy(primary))
        database = {"DATABASE_URL": f"sqlite:///{folder}/carillon.sqlite3", "DATA_FOLDER": str(folder)}
        prepare_database(folder)
        self.nodes: list[Server] = []
        self.runs: list[Run] = []
        for number in (1, 2, 3):
            bus = self.bus.address if number == 1 else f"{primary[0]}:{primary[1]}"
            settings = {**database, "NODE_NAME": f"node-{number}", "REDIS_ADDRESS": bus}
            self.nodes.append(stack.enter_context(server("carillon", **settings)))

    def all_hear_all(self) -> bool:
        return all(node.metric("carillon_bus_healthy") == 1 for node in self.nodes)

    def run(self, url: str, *options: str, scenario: str = "cross_node", web: bool = False) -> Run:
        metrics = ",".join(f"{HOST}:{node.internal_port}" for node in self.nodes)
        command = [*map(str, LOCUST), "-f", f"loadtest/scenarios/{scenario}.py", "--host", url]
        command += [] if web else ["--headless"]
        command += ["--users", "40", "--spawn-rate", "40", "--steady", "8", "--join", "10", "--late", "3"]
        command += ["--metrics", metrics, "--thresholds", str(Path(__file__).with_name("small.toml"))]
        run = Run([*command, "--only-summary", *options])
        self.runs.append(run)
        return run

    def through(self, tamper: Tamper, *nodes: Server) -> FrameProxy:
        """A door to all nodes, or to these."""
        return FrameProxy([node.port for node in nodes or self.nodes], tamper)


@pytest.fixture(scope="package")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with ExitStack() as stack:
        yield Place(stack, tmp_path_factory.mktemp("load"))


@pytest.fixture
def place(running: Place) -> Iterator[Place]:
    """All well, whatever the test before did."""
    running.bus.heal()
    assert wait_until(running.all_hear_all, 60)
    yield running
    while running.runs:
        running.runs.pop().kill()
