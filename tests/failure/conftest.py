"""Servers to break, and a table of what was measured at the end of the run."""

from asyncio import AbstractEventLoop
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest
import uvloop

from deploy.local.redis_servers import RedisServers


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServers]:
    """A primary, a replica and three Sentinels of this test's own."""
    with RedisServers(tmp_path / "redis") as servers:
        yield servers


def pytest_asyncio_loop_factories() -> Mapping[str, Callable[[], AbstractEventLoop]]:
    """The loop that nodes run on."""
    return {"uvloop": uvloop.new_event_loop}


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    measured = [
        (report.nodeid.rpartition("::")[2], name, value)
        for report in terminalreporter.getreports("passed")
        for name, value in report.user_properties
    ]
    if measured:
        terminalreporter.section("measured")
    for test, name, value in measured:
        terminalreporter.write_line(f"{value:>10}  {name}  ({test})")
