"""`make bench` in small: it measures, and leaves nothing running, however it ends."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.local.processes import wait_until

ROOT = Path(__file__).parents[2]
SMALL = ["--rounds", "1", "--connections", "10", "--idle", "20"]
SECONDS = 90.0

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """A run whose processes can be told by their environment: its folders lie in this test's."""

    def popen(*figures: str) -> "subprocess.Popen[str]":
        only = [word for figure in figures for word in ("--only", figure)]
        return subprocess.Popen(
            [sys.executable, "-m", "loadtest.bench", *SMALL, *only],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return popen


def left_behind(folder: Path) -> list[str]:
    """Command lines of a run's processes, told by environment or (Redis overwrites it) by folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            traces = (process / "environ").read_bytes() + os.readlink(process / "cwd").encode()
            if str(folder).encode() in traces:
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:  # it has ended, or is somebody else's
            continue
    return found


def test_a_figure_is_measured_and_nothing_is_left(start: Start, tmp_path: Path) -> None:
    run = start("fanout")
    said, _ = run.communicate(timeout=SECONDS)
    assert run.returncode == 0, said
    for row in ("Carillon ÷ bare send()", "Carillon ÷ stock core", "Carillon ÷ stock pub/sub"):
        assert row in said
    assert "not the sizes that the bars are about" in said
    assert wait_until(lambda: not left_behind(tmp_path), SECONDS), left_behind(tmp_path)
    assert not list(tmp_path.glob("carillon-bench-*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_nothing(start: Start, tmp_path: Path, number: signal.Signals) -> None:
    run = start("burst")

    def servers_run() -> bool:
        assert run.poll() is None
        return any("gunicorn" in line for line in left_behind(tmp_path))

    assert wait_until(servers_run, SECONDS)
    run.send_signal(number)
    run.communicate(timeout=SECONDS)
    assert run.returncode != 0
    assert wait_until(lambda: not left_behind(tmp_path), SECONDS), left_behind(tmp_path)
    if number != signal.SIGKILL:
        assert not list(tmp_path.glob("carillon-bench-*"))
