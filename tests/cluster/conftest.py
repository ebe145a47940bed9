"""The cluster that the run was told, an image, browsers. Whatever a test makes, it takes away."""

import os
import shutil
import signal
from collections.abc import Iterator
from types import FrameType
from typing import Final

import pytest
from playwright.sync_api import Playwright

from tests.browsers import Browsers, chromium, playwright, room
from tests.cluster.cluster import Cluster, CommandFailed
from tests.cluster.figures import Figures, Outcome
from tests.cluster.images import Images
from tests.cluster.place import NoPlace, Place
from tests.cluster.release import Release
from tests.person import Person

__all__ = ["chromium", "playwright", "room"]

FIGURES: Final = pytest.StashKey[Figures]()
CLUSTER: Final = pytest.StashKey[Cluster]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FIGURES] = Figures()

    def terminated(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt  # the way on which pytest still tears everything down

    signal.signal(signal.SIGTERM, terminated)


@pytest.fixture(scope="session")
def place() -> Place:
    try:
        place = Place.from_environment()
    except NoPlace as lack:
        pytest.exit(f"carillon: {lack}", returncode=1)
    for tool in ("kubectl", "helm"):
        if shutil.which(tool) is None:
            pytest.exit(f"carillon: the cluster tests need {tool}, and it is not on the PATH", returncode=1)
    return place


@pytest.fixture(scope="session")
def cluster(place: Place, pytestconfig: pytest.Config) -> Cluster:
    cluster = pytestconfig.stash[CLUSTER] = Cluster(place.context)
    try:
        cluster.kubectl("get", "--raw", "/readyz")
    except CommandFailed as error:
        pytest.exit(f"carillon: no cluster answers in context {place.context!r}: {error}", returncode=1)
    return cluster


@pytest.fixture(scope="session")
def images(place: Place) -> Images:
    return Images(place)


@pytest.fixture(scope="session")
def figures(pytestconfig: pytest.Config) -> Figures:
    return pytestconfig.stash[FIGURES]


class Visitors:
    """Opens browsers on a release, by the name that people know it by."""

    def __init__(self, browsers: Browsers, room: str) -> None:
        self._browsers = browsers
        self._room = room

    def open(self, name: str, release: Release, *, elsewhere_than: Person | None = None) -> Person:
        """Somebody in this test's room, on another node than somebody else."""
        scheme = "https" if release.values.get("tls", {}).get("enabled") else "http"
        origin = f"{scheme}://{release.values['host']}"
        person = self._browsers.open(name, origin, self._room, ignore_https_errors=True)
        if elsewhere_than is not None:
            for attempt in range(20):  # the proxy decides
                if person.node != elsewhere_than.node:
                    break
                if attempt % 2:
                    # Proxies take turns: an even number of requests for each load never changes the node.
                    person.page.evaluate("fetch('/', { cache: 'no-store' }).then(() => null)")
                person.page.reload()
                person.wait_until_joined()
            assert person.node != elsewhere_than.node, "twenty connections led to one and the same node"
        return person


@pytest.fixture
def visitors(playwright: Playwright, chromium: str, place: Place, room: str) -> Iterator[Visitors]:
    # Names under .test lead nowhere by themselves: here they lead to the ingress.
    names = f"--host-resolver-rules=MAP *.test {place.address()[0]}"
    with Browsers.opened(playwright, chromium, names) as browsers:
        yield Visitors(browsers, room)


def pytest_exception_interact(node: pytest.Item | pytest.Collector, call: pytest.CallInfo[object]) -> None:
    """What was in the namespaces at a failure is kept before they are gone."""
    cluster = node.config.stash.get(CLUSTER, None)
    if cluster is None or call.excinfo is None:
        return
    say = node.config.get_terminal_writer().line
    say(f"\n{node.name}: {call.excinfo.exconly()}")
    for namespace in cluster.namespaces:
        say(f"kept: {namespace.keep_evidence()}")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    figures = config.stash[FIGURES]
    if figures.rows:
        terminalreporter.section("measured")
    for what, value in figures.rows:
        terminalreporter.write_line(f"{value:>10}  {what}")
    cluster = config.stash.get(CLUSTER, None)
    if cluster is not None and os.environ.get("SAVE"):
        terminalreporter.write_line(f"saved: {figures.save(outcomes(terminalreporter), cluster)}")


def outcomes(terminalreporter: pytest.TerminalReporter) -> list[Outcome]:
    """Every test, with what its fixtures took: an install is part of the test that needed it first."""
    seconds: dict[str, float] = {}
    failed: set[str] = set()
    for outcome in ("passed", "failed", "error", ""):
        for report in terminalreporter.getreports(outcome):
            if not isinstance(report, pytest.TestReport):
                continue
            seconds[report.nodeid] = seconds.get(report.nodeid, 0.0) + report.duration
            if report.failed:
                failed.add(report.nodeid)
    return [Outcome(name.rpartition("/")[2], name not in failed, took) for name, took in seconds.items()]
