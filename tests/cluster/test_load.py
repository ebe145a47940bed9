"""The load test of the chart: passes where nodes hear each other, else says which rule is broken."""

import re
from collections.abc import Iterator

import pytest

from loadtest.proof.verdict import BROKEN, HELD
from tests.cluster.cluster import Cluster, Namespace
from tests.cluster.images import Images
from tests.cluster.release import Release, merged, share_no_bus
from tests.cluster.test_life import SMALL

NODES = 3
LOAD = {
    "node": {"replicas": NODES},
    "settings": {"MARKERS_ALLOWED": True},
    "networkPolicy": {"enabled": True},
    "loadTest": {"enabled": True, "users": 100, "steadySeconds": 20},
}


@pytest.fixture(scope="module")
def release(cluster: Cluster, images: Images) -> Iterator[Release]:
    images.load_test()
    with Namespace.made(cluster, "load") as namespace:
        release = Release(namespace, "carillon", merged(SMALL, images.tested().values, LOAD))
        release.install()
        yield release


def broken(said: str) -> set[str]:
    """The rules that the table calls broken."""
    return set(re.findall(r"^BROKEN +(\w+) ", said, re.M))


def test_nodes_of_a_release_hear_each_other_under_load(release: Release) -> None:
    nodes = release.settled(NODES)
    code, said = release.load_test()
    assert (code, broken(said)) == (HELD, set()), said
    assert all(node in said for node in nodes)


def test_nodes_that_share_no_bus_fail_it_by_the_rules_name(release: Release) -> None:
    share_no_bus(release.namespace)
    release.settled(NODES)
    code, said = release.load_test()
    assert code == BROKEN, said
    assert {"markers_lost", "sweeps_found"} <= broken(said), said
    assert "messages_lost" not in broken(said), said
