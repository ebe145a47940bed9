"""What is to run: how many nodes, on which ports, with data in which folder. Checks, and starts nothing."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from environs import Env, EnvError, validate

from deploy.local.ports import HOST, is_free
from deploy.local.processes import wait_until

PROJECT_FOLDER: Final = Path(__file__).resolve().parents[2]
INTERNAL_OFFSET: Final = 500
"""From a node's own port to its internal one: out of the way of PORT=9000 beside PORT=8000."""

ANY_HOST: Final = ("0.0.0.0", "::", "")  # noqa: S104  # compared with, not bound to

FREED_SECONDS: Final = 3.0
"""How long a port may still be taken: what a killed start leaves behind is gone sooner."""


class PlanError(Exception):
    """It cannot run like this. One line for each reason: what is wrong and what to do."""


@dataclass(frozen=True)
class Plan:
    """Nodes are numbered from 1; all share `port`, and each has two more for itself."""

    nodes: int
    port: int
    host: str
    data_folder: Path

    @property
    def control_socket(self) -> Path:
        """Where other commands reach the starter."""
        return self.data_folder / "control.sock"

    def node_port(self, number: int) -> int:
        """Where that node alone answers."""
        return self.port + number

    def internal_port(self, number: int) -> int:
        """Where that node alone answers probes and scrapers."""
        return self.port + INTERNAL_OFFSET + number

    @property
    def worker_port(self) -> int:
        """Where the task worker answers probes and scrapers."""
        return self.port + INTERNAL_OFFSET

    def url(self, port: int) -> str:
        """As a browser on this machine would open it."""
        return f"http://{HOST if self.host in ANY_HOST else self.host}:{port}/"

    def uses(self) -> Iterator[tuple[int, str]]:
        """Every port with its use."""
        yield self.port, "public"
        yield self.worker_port, "worker, internal"
        for number in range(1, self.nodes + 1):
            yield self.node_port(number), f"node-{number}"
            yield self.internal_port(number), f"node-{number}, internal"


def plan_from_environment() -> Plan:
    """Read NODES, PORT, PUBLIC_HOST and DATA_FOLDER. Raises `PlanError`."""
    env = Env()
    try:
        return Plan(
            nodes=env.int("NODES", 3, validate=validate.Range(1, 32)),
            port=env.int("PORT", 8000, validate=validate.Range(1, 65000)),
            host=env.str("PUBLIC_HOST", HOST),
            data_folder=env.path("DATA_FOLDER", PROJECT_FOLDER / ".data").absolute(),
        )
    except EnvError as error:
        raise PlanError(str(error)) from error


def check_ports(plan: Plan) -> None:
    """Raises `PlanError` that names each port which cannot be had, and a PORT with which all could."""
    problems: list[str] = []

    def all_free() -> bool:
        problems[:] = _problems(plan)
        return not problems

    if not wait_until(all_free, FREED_SECONDS):
        raise PlanError(
            f"{', '.join(problems)}: choose other ports, for example PORT={_other(plan)} make run"
        )


def _problems(plan: Plan) -> Iterator[str]:
    for port, use in plan.uses():
        try:
            if not is_free(port, plan.host):
                yield f"port {port} ({use}) is taken"
        except OSError as error:
            yield f"port {port} ({use}) cannot be had on PUBLIC_HOST={plan.host} ({error.strerror})"


def _other(plan: Plan) -> int:
    others = (replace(plan, port=port) for port in range(9000, 64000, 1000) if port != plan.port)
    return next((other.port for other in others if not any(_problems(other))), 20000)
