"""A release from its first install to its last trace; each test takes it as the one before left it.

This is the part that CI runs. The namespace enforces the Pod Security standard `restricted`.
"""

import shlex
import time
from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster, Namespace, eventually, run
from tests.cluster.conftest import Visitors
from tests.cluster.conversation import Conversation
from tests.cluster.figures import Figures
from tests.cluster.images import Images
from tests.cluster.place import Place
from tests.cluster.release import Release, merged
from tests.visitor import Door, Visitor

NODES = 2
GUESTS = 4
LITTLE = {"requests": {"cpu": "20m", "memory": "128Mi"}}
SMALL = {"node": {"replicas": NODES, "resources": LITTLE}, "worker": {"resources": LITTLE}}


@pytest.fixture(scope="module")
def release(cluster: Cluster, images: Images, place: Place, figures: Figures) -> Iterator[Release]:
    image = images.tested()
    with Namespace.made(cluster, "life") as namespace:
        host = place.host(f"{namespace.name}.test")
        release = Release(namespace, "carillon", merged(SMALL, image.values, {"host": host}))
        began = time.monotonic()
        release.install()
        figures.note("from `helm install` until everything is ready, profile demo", time.monotonic() - began)
        eventually(lambda: serves(place.door(host)), "the page is there")
        figures.note("from `helm install` until the page comes through the ingress", time.monotonic() - began)
        yield release


@pytest.fixture
def door(release: Release, place: Place) -> Door:
    return place.door(release.values["host"])


def serves(door: Door) -> bool:
    return Visitor(door).get("/").status == 200


def title(door: Door) -> str:
    return Visitor(door).get("/").text.partition("<title>")[2].partition("</title>")[0]


def command_for_remains(release: Release) -> list[str]:
    """The command of the notes that removes what an uninstall leaves."""
    lines = [line.strip() for line in release.notes.splitlines()]
    [line] = [line for line in lines if line.startswith("kubectl ") and " delete " in line]
    words = shlex.split(line)
    assert words[1:3] == ["-n", release.namespace.name], f"not this namespace's: {line}"
    return ["kubectl", "--context", release.namespace.cluster.context, *words[1:]]


def test_two_people_on_two_nodes_talk_through_the_ingress(release: Release, visitors: Visitors) -> None:
    ada = visitors.open("Ada", release)
    bob = visitors.open("Bob", release, elsewhere_than=ada)
    ada.say("Good morning! Can you hear me over there?")
    bob.sees("Good morning! Can you hear me over there?", node=ada.node)
    bob.say("Loud and clear.")
    ada.sees("Loud and clear.", node=bob.node)
    assert {ada.node, bob.node} == set(release.nodes())


def test_helm_test_passes(release: Release, figures: Figures) -> None:
    began = time.monotonic()
    assert "Succeeded" in release.test()
    figures.note("`helm test`", time.monotonic() - began)


def test_the_page_works_through_the_http_route_alone(
    release: Release, place: Place, door: Door, visitors: Visitors
) -> None:
    route = {"ingress": {"enabled": False}, "httpRoute": {"enabled": True, "parentRefs": [place.parent_ref]}}
    before = release.nodes()
    release.upgrade(more=route)
    assert not release.namespace.objects("ingress")
    eventually(lambda: serves(door), "the page is there by the route")
    visitors.open("Ada", release).say("by the gateway")
    release.upgrade()
    eventually(lambda: serves(door), "the page is there by the ingress")
    assert release.nodes() == before, "another way in is no reason to replace a node"


def test_clients_of_a_killed_pod_are_on_another_node_and_hear_each_other(
    release: Release, door: Door, figures: Figures
) -> None:
    with Conversation.of(GUESTS, door) as conversation:
        [victim, *_] = sorted(conversation.nodes())
        release.namespace.kubectl("delete", "pod", victim, "--grace-period=0", "--force")
        conversation.all_hear_all(elsewhere=[victim])
        release.settled(NODES)
    conversation.check()
    figures.note("that a client of a deleted pod was away, at most", max(conversation.away()))


def test_clients_of_a_killed_process_come_back_and_hear_each_other(
    release: Release, door: Door, figures: Figures
) -> None:
    with Conversation.of(GUESTS, door) as conversation:
        [victim, *_] = sorted(conversation.nodes())
        release.execute(victim, KILL_NODE)
        eventually(conversation.away, "somebody was cut off")
        conversation.all_hear_all()
    conversation.check()
    figures.note("that a client of a killed process was away, at most", max(conversation.away()))
    release.settled(NODES)


KILL_NODE = """
import os, pathlib, signal
for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
    if stat.read_text().rpartition(")")[2].split()[1] == "1":  # a child of PID 1, which its own cannot kill
        os.kill(int(stat.parent.name), signal.SIGKILL)
"""


def test_an_upgrade_costs_clients_one_reconnect_and_nobody_a_message(
    release: Release, images: Images, door: Door, figures: Figures
) -> None:
    newer = images.version("next")
    old = release.settled(NODES)
    with Conversation.of(GUESTS, door) as conversation:
        began = time.monotonic()
        release.upgrade(more=newer.values)
        figures.note("`helm upgrade` to another version, with a migration", time.monotonic() - began)
        conversation.all_hear_all(elsewhere=old)
        assert not set(release.settled(NODES)) & set(old)
    said = conversation.check()
    assert conversation.codes() == {1012}, "every node said goodbye"
    figures.note("that a client was away during an upgrade, at most", max(conversation.away()))
    figures.note("said during the upgrade, each heard by all who were there", said, "messages")
    assert "(next)" in title(door)
    assert release.query("SELECT count(topic) FROM chat_room") != ""


def test_a_rollback_serves_the_old_version_on_the_newer_schema(
    release: Release, door: Door, figures: Figures
) -> None:
    newer = release.settled(NODES)
    with Conversation.of(GUESTS, door) as conversation:
        release.rollback(1)
        conversation.all_hear_all(elsewhere=newer)
    conversation.check()
    assert conversation.codes() == {1012}
    assert "(next)" not in title(door)
    visitor = Visitor(door)
    visitor.sign_up("Grace")
    assert visitor.post("/", slug="written-by-the-old", title="Written by the old").status == 302
    assert "written-by-the-old" in release.query("SELECT slug FROM chat_room WHERE topic = ''")


def test_an_uninstall_leaves_what_the_notes_announce_an_install_reads_it_again_and_their_command_ends_it(
    release: Release, door: Door
) -> None:
    Visitor(door).sign_up("Ada of old")
    command = command_for_remains(release)
    release.uninstall()

    def announced() -> set[str]:
        return set(run([*command, "--dry-run=client", "--output=name"]).split())

    eventually(lambda: release.namespace.everything() == announced(), "what is left is what was announced")
    assert any(left.startswith("persistentvolumeclaim/") for left in announced())
    release.install()
    eventually(lambda: serves(door), "the page is there again")
    Visitor(door).log_in("Ada of old")
    release.uninstall()
    run(command, seconds=120)
    eventually(lambda: not release.namespace.everything(), "nothing is left at all")
