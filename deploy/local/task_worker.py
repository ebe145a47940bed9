"""The task worker of a run: one process, started and ended with the nodes. Knows no task."""

from collections.abc import Mapping, Sequence

from deploy.local.guardian import Guardian
from deploy.local.nodes import STOP_SECONDS
from deploy.local.plan import PROJECT_FOLDER, Plan
from deploy.local.processes import OnLine, Process, wait_until_ready

NAME = "worker"


class TaskWorker:
    """With an empty `command` there is none, and nothing here does anything."""

    def __init__(self, plan: Plan, guardian: Guardian, command: Sequence[str], on_line: OnLine) -> None:
        self._plan = plan
        self._guardian = guardian
        self._command = command
        self._on_line = on_line
        self._process: Process | None = None

    @property
    def wanted(self) -> bool:
        """Whether this run has one."""
        return bool(self._command)

    @property
    def pid(self) -> int | None:
        """None: it does not run."""
        return self._process.pid if self._process is not None and self._process.alive else None

    def start(self, environment: Mapping[str, str]) -> None:
        """Start it, after its end also again. It is not ready yet."""
        if not self.wanted:
            return
        self.stop()
        self._process = Process(
            NAME,
            self._command,
            self._guardian,
            environment={**environment, "NODE_NAME": NAME, "INTERNAL_PORT": str(self._plan.worker_port)},
            cwd=PROJECT_FOLDER,
            on_line=self._on_line,
        )

    def wait_until_ready(self) -> None:
        """Raises `StartFailed`."""
        if self._process is not None:
            wait_until_ready(self._process, self._plan.worker_port)

    def stop(self) -> None:
        """Let it finish what it does; kill it when that takes too long."""
        if self._process is not None:
            self._process.stop(STOP_SECONDS)
            self._process = None
