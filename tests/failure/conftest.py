"""Servers to break, and a table of what was measured at the end of the run."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.local.redis_servers import RedisServers


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[RedisServers]:
    """A primary, a replica and three Sentinels of this test's own."""
    with RedisServers(tmp_path / "redis") as servers:
        yield servers


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
