"""The machine of a run: which core is whose, how many files may be open, and what stands in the report."""

import os
import platform
import resource
import subprocess
import sys
from pathlib import Path
from typing import Final

_ALLOWED: Final = sorted(os.sched_getaffinity(0))
SERVER_CORE: Final = _ALLOWED[0]
CLIENT_CORE: Final = _ALLOWED[1 % len(_ALLOWED)]
ONE_CORE: Final = SERVER_CORE == CLIENT_CORE
REPOSITORY: Final = Path(__file__).resolve().parents[2]


def prepare(core: int) -> None:
    """Keep this process, and what it starts, on `core`; let it open as many files as it may."""
    os.sched_setaffinity(0, {core})
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def files_limit() -> int:
    """How many files one process may open."""
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def commit() -> str:
    """The short hash of what is checked out, marked if the work tree differs from it."""
    try:
        return subprocess.run(
            ["git", "describe", "--always", "--dirty", "--exclude=*"],  # noqa: S607  # whichever git is in use
            cwd=REPOSITORY,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def description() -> list[str]:
    """What a reader must know to compare a run with another."""
    pinned = (
        f"servers on core {SERVER_CORE}, client and Redis on core {CLIENT_CORE}"
        if not ONE_CORE
        else "one core only, which servers and client take from each other: compare with no other run"
    )
    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    return [
        f"{os.cpu_count()} cores, {_model()}; {pinned}",
        f"Python {platform.python_version()}, {platform.system()} {platform.release()}; "
        f"load before the run {load}",
    ]


def _model() -> str:
    if sys.platform == "linux":
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
