"""`make bench` in small: it measures, and leaves nothing running, however it ends."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.local.processes import wait_until

ROOT = Path(__file__).parents[2]
SMALL = ["--rounds", "1", "--connections", "10", "--idle", "20", "--seconds", "0.3"]
SECONDS = 90.0
DURABLE_SECONDS = 300.0
"""Four databases are made, with accounts and rooms."""

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def folder() -> Iterator[Path]:
    """One that everybody may enter: as root, PostgreSQL runs as nobody. pytest's own is closed."""
    with tempfile.TemporaryDirectory(prefix="bench-test-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def start(folder: Path) -> Start:
    """A run whose processes can be told by their environment: its folders lie in this test's."""

    def popen(*figures: str) -> "subprocess.Popen[str]":
        only = [word for figure in figures for word in ("--only", figure)]
        return subprocess.Popen(
            [sys.executable, "-m", "loadtest.bench", *SMALL, *only],
            cwd=ROOT,
            env=os.environ | {"TMPDIR": str(folder)},
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


def test_figures_are_measured_and_nothing_is_left(start: Start, folder: Path) -> None:
    run = start("fanout", "scraping")
    said, _ = run.communicate(timeout=SECONDS)
    assert run.returncode == 0, said
    ratios = ("Carillon ÷ bare send()", "Carillon ÷ stock core", "Carillon ÷ stock pub/sub")
    for row in (*ratios, "ONLY=scraping"):
        assert row in said
    assert "not the sizes that the bars are about" in said
    assert wait_until(lambda: not left_behind(folder), SECONDS), left_behind(folder)
    assert not list(folder.glob("carillon-bench-*"))


def test_figures_of_durable_posts_are_measured_on_a_database_that_waits_for_its_disk(
    start: Start, folder: Path
) -> None:
    run = start("posts", "crossing", "resumes", "writers")
    said, _ = run.communicate(timeout=DURABLE_SECONDS)
    assert run.returncode == 0, said
    for row in (
        "Carillon ÷ bare batches",
        "Carillon ÷ stock consumer and ORM",
        "received from the other node",
        "20 clients resume at once",
        "deadlocks",
        "synchronous_commit on",
    ):
        assert row in said
    assert wait_until(lambda: not left_behind(folder), SECONDS), left_behind(folder)
    assert not list(folder.glob("carillon-*"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_leaves_nothing(start: Start, folder: Path, number: signal.Signals) -> None:
    run = start("burst")

    def servers_run() -> bool:
        assert run.poll() is None
        return any("gunicorn" in line for line in left_behind(folder))

    assert wait_until(servers_run, SECONDS)
    run.send_signal(number)
    run.communicate(timeout=SECONDS)
    assert run.returncode != 0
    assert wait_until(lambda: not left_behind(folder), SECONDS), left_behind(folder)
    if number != signal.SIGKILL:
        assert not list(folder.glob("carillon-bench-*"))
