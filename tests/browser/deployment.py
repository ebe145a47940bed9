"""What `make run` starts, on free ports: three nodes, Redis, Sentinels."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from random import randrange
from types import TracebackType
from typing import Final, Self

from deploy.local.control import ask
from deploy.local.plan import PROJECT_FOLDER, Plan
from deploy.local.ports import HOST, is_free
from deploy.local.processes import wait_until

START_SECONDS: Final = 180.0
END_SECONDS: Final = 60.0


class Deployment:
    """One run, until the end of the `with` block."""

    def __init__(self, folder: Path, log: Path, nodes: int = 3) -> None:
        self._log = log
        self.plan = _free_plan(folder / "data", nodes)
        settings = {
            "NODES": str(nodes),
            "PORT": str(self.plan.port),
            "DATA_FOLDER": str(self.plan.data_folder),
        }
        with log.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "deploy.local", "run"],
                cwd=PROJECT_FOLDER,
                env={**os.environ, **settings},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def __enter__(self) -> Self:
        started = wait_until(lambda: self._process.poll() is not None or self._says("Ctrl-C"), START_SECONDS)
        if not started or self._process.poll() is not None:
            self.stop()
            raise AssertionError(f"`make run` did not come up:\n{self._log.read_text()}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """As Ctrl-C does."""
        if self._process.poll() is None:
            self._process.terminate()
        self._process.wait(END_SECONDS)

    def port(self, node: int) -> int:
        """Where this node alone answers."""
        return self.plan.node_port(node)

    def order(self, command: str, argument: str = "") -> str:
        """What `make kill-node N=1` and the like ask for; the answer."""
        answer = ask(self.plan.control_socket, command, argument)
        assert answer.done, answer.text
        return answer.text

    def kill_redis(self) -> None:
        """Kill the primary and the replica at once; the starter brings them back after some seconds."""
        rows = ask(self.plan.control_socket, "status").rows
        for name, _, pid, *_ in rows:
            if name.startswith("redis-") and pid.isdecimal():
                os.kill(int(pid), signal.SIGKILL)

    def _says(self, words: str) -> bool:
        return words in self._log.read_text()


def _free_plan(data_folder: Path, nodes: int) -> Plan:
    # Below the range that the system takes outgoing connections' ports from: what is free stays free.
    while True:
        plan = Plan(nodes, randrange(11_000, 31_000), HOST, data_folder)
        if all(is_free(port) for port, _ in plan.uses()):
            return plan
