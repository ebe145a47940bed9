"""A running deployment and real browsers; every person's browser must have had nothing to complain of."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Playwright, sync_playwright

from tests.browser.deployment import Deployment
from tests.browser.person import Person
from tests.browser.wire import Wire

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")
PICTURES: Final = Path(".cache/browser")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The system's Chromium. Its absence is a failure, never a skip."""
    path = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.exit(
            f"the browser tests need Chromium, and none of {', '.join(NAMES)} is installed: "
            "`apt-get install chromium`, or say where it is with CHROMIUM=/path/to/it",
            returncode=1,
        )
    return path


@pytest.fixture(scope="session")
def pictures() -> Path:
    """Where screenshots and the output of the run are kept."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    return PICTURES


@pytest.fixture(scope="session")
def deployment(
    chromium: str, pictures: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    with Deployment(tmp_path_factory.mktemp("run"), pictures / "output.txt") as running:
        yield running


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


Open = Callable[..., Person]


@pytest.fixture
def room(request: pytest.FixtureRequest) -> str:
    """A room of this test's own: whoever was in another test's is nobody's business here."""
    name: str = request.node.name
    return name.removeprefix("test_").replace("_", "-")[:40].strip("-")


@pytest.fixture
def open_browser(playwright: Playwright, chromium: str, room: str) -> Iterator[Open]:
    """`open_browser(name, port, **context)`: a person with a browser, and a profile, of their own."""
    browsers, people = [], []

    def start(name: str, port: int, **context: Any) -> Person:
        browser = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-background-networking"]
        )
        browsers.append(browser)
        person = Person(browser.new_context(**context), name, port, room)
        people.append(person)
        return person

    yield start
    problems = {person.name: person.problems() for person in people}
    for browser in browsers:
        browser.close()
    assert not any(problems.values()), problems


@pytest.fixture
def wire(deployment: Deployment) -> Iterator[Wire]:
    """A cable to node-3, to be cut."""
    with Wire(deployment.port(3)) as cable:
        yield cable


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.getreports("passed"):
        for name, value in report.user_properties:
            terminalreporter.write_line(f"{value:>10}  {name}")
