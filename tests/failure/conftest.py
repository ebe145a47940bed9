"""Servers to break, and a table of what was measured at the end of the run."""

import os
from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import uvloop
from xdist.scheduler import LoadScopeScheduling

from deploy.local.redis_servers import RedisServers
from tests.failure.checker.table import FIGURE, FOUND, SEED, brief, save, table
from tests.failure.plan import EVERYTHING, PLANTED

RESULTS = Path(__file__).parents[2] / "docs" / "results"


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServers]:
    """A primary, a replica and three Sentinels of this test's own."""
    with RedisServers(tmp_path / "redis") as servers:
        yield servers


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Each planted fault costs half a minute, and the control proves nothing: not for every day."""
    played_when = {"test_planted.py": EVERYTHING or PLANTED, "test_control.py": EVERYTHING}
    return None if played_when.get(collection_path.name, True) else True


class ByServers(LoadScopeScheduling):  # type: ignore[misc]
    """What stands behind a colon in a test's name are servers that it shares: one worker plays all of it."""

    def _split_scope(self, nodeid: str) -> str:
        module, _, name = nodeid.partition("::")
        return module + name.partition(":")[2] if ":" in name else nodeid


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServers:
    return ByServers(config, log)


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], AbstractEventLoop]]:
    """The loop that nodes run on."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [*terminalreporter.getreports("passed"), *terminalreporter.getreports("failed")]
    found = [
        (report.nodeid.rpartition("::")[2], name, value)
        for report in reports
        for name, value in report.user_properties
    ]
    if found:
        terminalreporter.section("measured")
    measures = [(test, name, value) for test, name, value in found if name not in (FIGURE, FOUND, SEED)]
    for test, name, value in measures:
        terminalreporter.write_line(f"{value:>10}  {name}  ({test})")
    for _, name, value in found:
        if name == FOUND:
            terminalreporter.write_line(value)
    figures = [value for _, name, value in found if name == FIGURE]
    seeds = {value for _, name, value in found if name == SEED}
    if figures:
        terminalreporter.write_line(brief(figures, seeds))
        if os.environ.get("SAVE"):
            page = table(figures, measures, seeds, datetime.now(UTC))
            terminalreporter.write_line(f"saved to {save(page, RESULTS, datetime.now(UTC))}")
