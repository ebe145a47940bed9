"""The system's Chromium, for tests that see the page as people do. A conftest takes these fixtures over."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Playwright, sync_playwright

from tests.person import Person

NAMES: Final = ("chromium", "chromium-browser", "google-chrome", "chrome")


class Browsers:
    """One browser, and so one profile, for each person; each must have had nothing to complain of."""

    def __init__(self, playwright: Playwright, chromium: str, *arguments: str) -> None:
        self._playwright = playwright
        self._chromium = chromium
        self._arguments = ["--no-sandbox", "--disable-background-networking", *arguments]
        self.people: list[Person] = []

    def open(self, name: str, origin: str, room: str, **context: Any) -> Person:
        browser = self._playwright.chromium.launch(executable_path=self._chromium, args=self._arguments)
        try:
            person = Person(browser.new_context(**context), name, origin, room)
        except BaseException:
            browser.close()
            raise
        self.people.append(person)
        return person

    @classmethod
    @contextmanager
    def opened(cls, playwright: Playwright, chromium: str, *arguments: str) -> Iterator["Browsers"]:
        browsers = cls(playwright, chromium, *arguments)
        try:
            yield browsers
            problems = {person.name: person.problems() for person in browsers.people}
        finally:
            for person in browsers.people:
                if person.context.browser is not None:
                    person.context.browser.close()
        assert not any(problems.values()), problems


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
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture
def room(request: pytest.FixtureRequest) -> str:
    """A room of this test's own: whoever was in another test's is nobody's business here."""
    name: str = request.node.name
    return name.removeprefix("test_").replace("_", "-")[:40].strip("-")


def kept(folder: str) -> Path:
    """Where screenshots and the output of the run are kept."""
    path = Path(".cache") / folder
    path.mkdir(parents=True, exist_ok=True)
    return path
