"""The nodes of a run: each a process group of its own, started, watched and killed by number."""

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from deploy.local.guardian import Guardian
from deploy.local.plan import PROJECT_FOLDER, Plan
from deploy.local.ports import HOST
from deploy.local.processes import OnLine, Process, stop_all, wait_until_ready

NODE_COMMAND: Final = (
    *(sys.executable, "-m", "gunicorn"),
    *("-k", "app.serving.worker.CarillonWorker"),
    *("-c", "python:app.serving.gunicorn_conf"),
    "app.asgi:application",
)
STOP_SECONDS: Final = 45.0
"""Longer than a node takes to leave (DRAIN_SECONDS, SHUTDOWN_SECONDS and what gunicorn adds)."""

OTHER_REDIS: Final = frozenset(
    f"REDIS_{name}"
    for kind in ("", "SENTINEL_")
    for name in (f"{kind}USERNAME", f"{kind}PASSWORD", "ADDRESS", "TLS", "TLS_CA_FILE")
)
"""Settings that belong to some other Redis: with them a node could not talk to the one started here."""


class NodeError(Exception):
    """What was asked of a node cannot be done; the text says why."""


class Nodes:
    """Nodes 1 to `plan.nodes`; those that run and those that do not."""

    def __init__(
        self,
        plan: Plan,
        guardian: Guardian,
        *,
        sentinels: Iterable[tuple[str, int]],
        primary_name: str,
        command: Sequence[str] = NODE_COMMAND,
        on_line: OnLine | None = None,
    ) -> None:
        self.plan = plan
        self._guardian = guardian
        self._command = command
        self._on_line = on_line
        self._shared = {
            "DATA_FOLDER": str(plan.data_folder),
            "PUBLIC_HOST": plan.host,
            "PUBLIC_PORT": str(plan.port),
            "REDIS_SENTINELS": ",".join(f"{host}:{port}" for host, port in sentinels),
            "REDIS_PRIMARY_NAME": primary_name,
            "INTERNAL_HOST": HOST,
            "PYTHONUNBUFFERED": "1",
        }
        self._processes: dict[int, Process] = {}

    def environment(self) -> dict[str, str]:
        """What every process of the application is told in this run."""
        return {name: value for name, value in os.environ.items() if name not in OTHER_REDIS} | self._shared

    def start(self, number: int) -> Process:
        """Start a node that does not run; it is not ready yet. Raises `NodeError`."""
        self._check(number)
        if number in self._processes:
            raise NodeError(f"node-{number} runs already (pid {self._processes[number].pid})")
        environment = {
            **self.environment(),
            "NODE_NAME": f"node-{number}",
            "NODE_PORT": str(self.plan.node_port(number)),
            "INTERNAL_PORT": str(self.plan.internal_port(number)),
        }
        process = self._processes[number] = Process(
            f"node-{number}",
            self._command,
            self._guardian,
            environment=environment,
            cwd=PROJECT_FOLDER,
            on_line=self._on_line,
        )
        return process

    def wait_until_ready(self, numbers: Iterable[int]) -> None:
        """Wait until each of these says that it is ready. Raises `StartFailed` as soon as one has ended."""
        for number in numbers:
            wait_until_ready(self._processes[number], self.plan.internal_port(number))

    def kill(self, number: int) -> int:
        """SIGKILL to the node's whole group, so that nothing of it says good-bye. Returns the pid it had."""
        process = self._taken(number)
        process.kill()
        return process.pid

    def drain(self, number: int) -> None:
        """SIGTERM, as a pod's end begins; returns when the node has ended."""
        self._taken(number).stop(STOP_SECONDS)

    def ended(self) -> list[tuple[int, int]]:
        """Numbers and exit codes of nodes that ended by themselves since this was last asked."""
        found = [
            (number, code)
            for number, process in self._processes.items()
            if (code := process.exit_code) is not None
        ]
        for number, _ in found:
            self._processes.pop(number).bury()
        return found

    def pid(self, number: int) -> int | None:
        """None: it does not run."""
        process = self._processes.get(number)
        return process.pid if process else None

    def stop(self) -> None:
        """Ask all to end together; kill what is left."""
        stop_all(list(self._processes.values()), STOP_SECONDS)
        self._processes.clear()

    def signal(self, signal_number: int) -> None:
        """Send a signal to all of them."""
        for process in self._processes.values():
            process.signal(signal_number)

    def _taken(self, number: int) -> Process:
        self._check(number)
        process = self._processes.pop(number, None)
        if process is None:
            raise NodeError(f"node-{number} does not run: start it with `make start-node N={number}`")
        return process

    def _check(self, number: int) -> None:
        if not 1 <= number <= self.plan.nodes:
            raise NodeError(f"there is no node-{number}: expected N from 1 to {self.plan.nodes}")
