"""One release of the chart, as `helm` and people see it: never by anything but what the chart promises."""

import json
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.cluster.cluster import CommandFailed, Namespace, eventually
from tests.visitor import Door

CHART: Final = str(Path(__file__).parents[2] / "helm" / "carillon")
READY_SECONDS: Final = 300.0

Values = Mapping[str, Any]


@dataclass(frozen=True)
class Image:
    """An image that the cluster can pull."""

    repository: str
    tag: str

    @classmethod
    def named(cls, reference: str) -> "Image":
        repository, colon, tag = reference.rpartition(":")
        return cls(repository, tag) if colon and "/" not in tag else cls(reference, "latest")

    @property
    def reference(self) -> str:
        return f"{self.repository}:{self.tag}"

    @property
    def values(self) -> Values:
        """`Always`: the tags of tests are built anew, and a machine may have an older one."""
        return {"image": {"repository": self.repository, "tag": self.tag, "pullPolicy": "Always"}}


def merged(*layers: Values) -> dict[str, Any]:
    """Later values win, key by key, as helm merges them."""
    result: dict[str, Any] = {}
    for layer in layers:
        for key, value in layer.items():
            both = isinstance(value, Mapping) and isinstance(result.get(key), Mapping)
            result[key] = merged(result[key], value) if both else value
    return result


class Release:
    """`name` in `namespace`; what each command is given is `values` and what the call adds."""

    def __init__(self, namespace: Namespace, name: str, values: Values, chart: str = CHART) -> None:
        self.namespace = namespace
        self.name = name
        self.values = values
        self.chart = chart

    # What helm does --------------------------------------------------------------------------------------

    def install(self, *options: str, more: Values | None = None, seconds: float = READY_SECONDS) -> None:
        self._apply("install", options, more, seconds)

    def upgrade(self, *options: str, more: Values | None = None, seconds: float = READY_SECONDS) -> None:
        self._apply("upgrade", options, more, seconds)

    def rollback(self, revision: int, seconds: float = READY_SECONDS) -> None:
        words = ("rollback", self.name, str(revision), "--wait", f"--timeout={seconds:.0f}s")
        self.namespace.helm(*words, seconds=seconds + 30)

    def uninstall(self) -> None:
        words = ("uninstall", self.name, "--wait", f"--timeout={READY_SECONDS:.0f}s")
        self.namespace.helm(*words, seconds=READY_SECONDS + 30)

    def test(self, seconds: float = READY_SECONDS) -> str:
        """What `helm test` and its pods said. Raises `CommandFailed` when it failed."""
        words = ("test", self.name, "--logs", f"--timeout={seconds:.0f}s")
        return self.namespace.helm(*words, seconds=seconds + 30)

    def load_test(self, seconds: float = READY_SECONDS) -> tuple[int, str]:
        """The exit code of the load test, and what it said; `helm test` has to say the same."""
        name = f"{self.name}-load-test"
        words = ("test", self.name, f"--filter=name={name}", f"--timeout={seconds:.0f}s")
        passed = True
        try:
            self.namespace.helm(*words, seconds=seconds + 30)
        except CommandFailed:
            passed = False
        [pod] = self.namespace.objects("pods", instance=self.name, component="load-test")
        [container] = pod["status"]["containerStatuses"]
        code = int(container["state"]["terminated"]["exitCode"])
        assert passed == (code == 0)
        return code, self.namespace.kubectl("logs", f"job/{name}")

    @property
    def notes(self) -> str:
        return str(self._status()["info"]["notes"])

    @property
    def state(self) -> str:
        """`deployed`, `failed` and the like."""
        return str(self._status()["info"]["status"])

    @property
    def revision(self) -> int:
        return int(self._status()["version"])

    def objects(self, part: str) -> list[dict[str, Any]]:
        """What the release consists of: its `manifest`, or its `hooks`."""
        text = self.namespace.helm("get", part, self.name)
        printed = self.namespace.kubectl(
            "create", "--dry-run=client", "--output=json", "--filename=-", stdin=text
        )
        found, decoder, at = [], json.JSONDecoder(), 0
        while at < len(printed.rstrip()):
            one, at = decoder.raw_decode(printed, at)
            found.append(one)
            at += len(printed[at:]) - len(printed[at:].lstrip())
        return found

    def _status(self) -> dict[str, Any]:
        status: dict[str, Any] = json.loads(self.namespace.helm("status", self.name, "--output=json"))
        return status

    def _apply(self, verb: str, options: tuple[str, ...], more: Values | None, seconds: float) -> None:
        """Without an option of its own it waits until everything is ready."""
        words = [verb, self.name, self.chart, "--values=-", f"--timeout={seconds:.0f}s"]
        words += options or ("--wait", "--wait-for-jobs")
        values = json.dumps(merged(self.values, more or {}))
        self.namespace.helm(*words, stdin=values, seconds=seconds + 60)

    # What is there then ----------------------------------------------------------------------------------

    def pods(self, component: str) -> list[dict[str, Any]]:
        """The pods of a component that run and are not leaving."""
        found = self.namespace.objects("pods", instance=self.name, component=component)
        return [
            pod
            for pod in found
            if "deletionTimestamp" not in pod["metadata"] and pod["status"]["phase"] == "Running"
        ]

    def nodes(self) -> list[str]:
        """The names of the node pods that are ready."""
        return sorted(pod["metadata"]["name"] for pod in self.pods("node") if is_ready(pod))

    def settled(self, nodes: int) -> list[str]:
        """Wait until so many nodes are ready and no other is there; their names."""

        def ready() -> list[str]:
            found = self.namespace.objects("pods", instance=self.name, component="node")
            names = self.nodes()
            return names if len(found) == len(names) == nodes else []

        return eventually(ready, f"{nodes} nodes, all ready", READY_SECONDS)

    def execute(self, pod: str, code: str) -> str:
        """What Python code says inside of a pod."""
        return self.namespace.kubectl("exec", pod, "--", "python", "-c", code)

    def query(self, sql: str) -> str:
        """What the database answers to the nodes, one row a line."""
        code = (
            "from django.db import connection as c\n"
            f"with c.cursor() as r: r.execute({sql!r}); print(*r.fetchall(), sep='\\n')"
        )
        words = ("exec", self.nodes()[0], "--", "python", "-m", "app.manage", "shell", "--command", code)
        return self.namespace.kubectl(*words)

    @contextmanager
    def forward(self, target: str, port: int, origin: str = "http://localhost:{port}") -> Iterator[Door]:
        """A port of this machine that leads to `pod/x` or `service/x`; people come from `origin`."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            own = probe.getsockname()[1]
        words = ["kubectl", "--context", self.namespace.cluster.context, "--namespace", self.namespace.name]
        process = subprocess.Popen(
            [*words, "port-forward", target, f"{own}:{port}"], stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert "Forwarding" in line, f"no port-forward to {target}: {line!r}"
            yield Door(origin.format(port=own), ("127.0.0.1", own))
        finally:
            process.terminate()
            process.communicate()


def share_no_bus(namespace: Namespace) -> None:
    """Let each node of `carillon` give its channels names of its own; the chart itself refuses to."""
    namespace.kubectl("set", "env", "deployment/carillon-node", "REDIS_PREFIX=$(NODE_NAME):")
    namespace.wait_for_rollout("deployment/carillon-node", seconds=READY_SECONDS)


def is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", [])
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
