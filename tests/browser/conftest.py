"""A running deployment and real browsers; every person's browser must have had nothing to complain of."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Playwright

from deploy.local.ports import HOST
from tests.browser.deployment import Deployment
from tests.browser.wire import Wire
from tests.browsers import Browsers, chromium, kept, playwright, room
from tests.person import Person

__all__ = ["chromium", "playwright", "room"]


@pytest.fixture(scope="session")
def pictures() -> Path:
    return kept("browser")


@pytest.fixture(scope="session")
def deployment(
    chromium: str, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("run"), pictures / "output.txt") as running:
        yield running


Open = Callable[..., Person]


@pytest.fixture
def open_browser(playwright: Playwright, chromium: str, room: str) -> Iterator[Open]:
    """`open_browser(name, port, **context)`: a person with a browser, and a profile, of their own."""
    with Browsers.opened(playwright, chromium) as browsers:

        def start(name: str, port: int, **context: Any) -> Person:
            return browsers.open(name, f"http://{HOST}:{port}", room, **context)

        yield start


@pytest.fixture
def wire(deployment: Deployment) -> Iterator[Wire]:
    """A cable to node-3, to be cut."""
    with Wire(deployment.port(3)) as cable:
        yield cable


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{value:>10}  {name}")
