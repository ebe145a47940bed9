"""Three nodes in use, and a Prometheus that looks at them: for all tests of this folder."""

import json
import shutil
from collections.abc import Iterator, Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import urlencode

import pytest

from deploy.local.guardian import Guardian
from deploy.local.ports import HOST, free_ports
from deploy.local.processes import Process, wait_until
from tests.failure.checker.place import Place
from tests.monitoring.traffic import Traffic

ROOT: Final = Path(__file__).parents[2]
FILES: Final = ROOT / "helm" / "carillon" / "files" / "monitoring"
HOW_TO_INSTALL: Final = "is not there: apt-get install prometheus, or prometheus.io/download (2.42 or newer)"
PATIENCE: Final = 120.0


class Series(NamedTuple):
    """One line of an answer."""

    labels: Mapping[str, str]
    value: float


class Prometheus:
    """What it knows."""

    def __init__(self, port: int) -> None:
        self._port = port

    def ask(self, path: str, **query: str) -> Any:
        http = HTTPConnection(HOST, self._port, timeout=30)
        try:
            http.request("GET", f"/api/v1/{path}?{urlencode(query)}")
            answer = json.loads(http.getresponse().read())
        finally:
            http.close()
        assert answer["status"] == "success", answer.get("error")
        return answer["data"]

    def query(self, expression: str) -> list[Series]:
        """What `expression` is now."""
        found = self.ask("query", query=expression)["result"]
        return [Series(one["metric"], float(one["value"][1])) for one in found]

    def is_ready(self) -> bool:
        try:
            return bool(self.query("vector(1)"))
        except (OSError, ValueError, AssertionError):
            return False


def tool(name: str) -> str:
    """Where this program is."""
    path = shutil.which(name)
    assert path, f"{name} {HOW_TO_INSTALL}"
    return path


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("LOG_LEVEL", "INFO")
        environment.setenv("UNSENT_LIMIT_BYTES", str(2**18))
        with Place(tmp_path_factory.mktemp("place"), "postgresql") as place:
            yield place


@pytest.fixture(scope="session")
def traffic(place: Place) -> Iterator[Traffic]:
    with Traffic(place) as traffic:
        yield traffic


@pytest.fixture(scope="session")
def prometheus(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """It looks once a second, with our rules."""
    folder = tmp_path_factory.mktemp("prometheus")
    targets = [f"{HOST}:{node.internal_port}" for node in place.nodes]
    configuration = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": [str(FILES / "rules.yaml")],
        "scrape_configs": [{"job_name": "carillon", "static_configs": [{"targets": targets}]}],
    }
    (folder / "prometheus.yml").write_text(json.dumps(configuration))  # which is YAML, too
    guardian = Guardian()
    try:
        [port] = free_ports(1)
        command = [
            tool("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address={HOST}:{port}",
        ]
        process = Process("prometheus", command, guardian)
        prometheus = Prometheus(port)
        assert wait_until(prometheus.is_ready, PATIENCE), process.tail()
        yield prometheus
        process.stop(15)
    finally:
        guardian.close()
