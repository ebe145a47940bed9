"""`skaffold dev`, `run`, `verify` and `delete`, as docs/skaffold.md says them."""

import shutil
import time
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.cluster.cluster import Cluster, CommandFailed, Namespace, eventually
from tests.cluster.conftest import Visitors
from tests.cluster.figures import Figures
from tests.cluster.place import Place
from tests.cluster.release import Release, share_no_bus
from tests.cluster.skaffold import Skaffold

NODES = 2
REMAINS = {"persistentvolumeclaim/data-carillon-postgresql-0", "secret/carillon-generated"}
"""What the notes announce: the volume, and the Secret that opens it."""


class Edit(NamedTuple):
    """What is edited, and under which address it shows."""

    what: str
    file: str
    old: str
    new: str
    path: str


EDITS = (
    Edit("a template", "app/chat/templates/chat/index.html", "Rooms", "Our rooms", "/"),
    Edit("a script", "app/chat/static/chat/times.js", "/**", "/** Edited.", "/static/chat/times.js"),
    Edit("Python", "app/chat/forms.py", "Name of the room", "Name of our room", "/"),
)


@pytest.fixture(scope="module")
def skaffold(cluster: Cluster, place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Skaffold]:
    if shutil.which("skaffold") is None:
        pytest.fail("the tests of skaffold.yaml need skaffold 2.19 or newer, and it is not on the PATH")
    with Namespace.made(cluster, "skaffold") as namespace:
        skaffold = Skaffold(place, namespace, tmp_path_factory.mktemp("skaffold"))
        # A name of this run's own: another one on the same cluster may have the one in the file.
        host = place.host(f"{namespace.name}.test")
        skaffold.edit("deploy/values/local.yaml", "host: carillon.localhost", f"host: {host}")
        yield skaffold


@pytest.fixture(scope="module")
def release(skaffold: Skaffold, place: Place) -> Release:
    return Release(skaffold.namespace, "carillon", {"host": place.host(f"{skaffold.namespace.name}.test")})


def page(release: Release, node: str, path: str) -> str:
    """What this one node answers."""
    request = f"Request('http://127.0.0.1:8000{path}', headers={{'Host': {release.values['host']!r}}})"
    code = (
        f"from urllib.request import Request, urlopen; print(urlopen({request}, timeout=5).read().decode())"
    )
    return release.execute(node, code)


def everybody_shows(release: Release, text: str, path: str = "/") -> None:
    nodes = [pod["metadata"]["name"] for pod in release.pods("node")]
    assert len(nodes) == NODES
    eventually(
        lambda: all(text in page(release, node, path) for node in nodes), f"all nodes show {text!r}", 300
    )


def test_an_edit_reaches_both_nodes_and_an_open_page_comes_back_by_itself(
    skaffold: Skaffold, release: Release, visitors: Visitors, figures: Figures
) -> None:
    with skaffold.dev():
        nodes = release.settled(NODES)
        ada = visitors.open("Ada", release)
        bob = visitors.open("Bob", release, elsewhere_than=ada)
        for person in (ada, bob):
            person.network_may_fail = True
            person.page.evaluate("window.neverReloaded = true")

        for edit in EDITS:
            began = time.monotonic()
            skaffold.edit(edit.file, edit.old, edit.new)
            everybody_shows(release, edit.new, edit.path)
            figures.note(f"`skaffold dev`: {edit.what} edited, both nodes have it", time.monotonic() - began)

        # The edit of Python made both nodes anew, and with them both connections.
        for person in (ada, bob):
            person.wait_until_joined()
        ada.say("And there we are again.")
        bob.sees("And there we are again.")
        figures.note("`skaffold dev`: Python edited, two open pages talk again", time.monotonic() - began)
        for person in (ada, bob):
            assert person.page.evaluate("window.neverReloaded")
        assert release.settled(NODES) == nodes, "pods were replaced, not edited"
    eventually(lambda: skaffold.namespace.everything() <= REMAINS, "nothing runs any more", 180)


def test_verify_passes_on_nodes_that_share_a_bus_and_fails_on_nodes_that_do_not(
    skaffold: Skaffold, release: Release
) -> None:
    skaffold.run()
    skaffold.build()
    heard = skaffold.verify()
    assert all(node in heard for node in release.settled(NODES))
    assert "PASSED" in heard
    assert "PASSED" in skaffold.execute("load-test", SCENARIO="room_chat", USERS="40", STEADY="10")

    share_no_bus(skaffold.namespace)
    release.settled(NODES)
    with pytest.raises(CommandFailed, match="did not hear"):
        skaffold.verify()


def test_delete_leaves_what_the_notes_announce(skaffold: Skaffold, release: Release) -> None:
    skaffold.delete()
    eventually(lambda: skaffold.namespace.everything() <= REMAINS, "nothing runs any more", 180)
    assert skaffold.namespace.everything() == REMAINS
