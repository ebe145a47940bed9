"""Profile production: PostgreSQL behind PgBouncer in transaction mode, Valkey by Sentinels, TLS."""

import json
import time
from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster, Namespace, eventually
from tests.cluster.conftest import Visitors
from tests.cluster.failing_migration import check_failing_migration
from tests.cluster.figures import Figures
from tests.cluster.images import Images
from tests.cluster.place import Place
from tests.cluster.release import Release, merged
from tests.cluster.stores import SECRET, Stores
from tests.cluster.test_life import NODES, SMALL, serves
from tests.visitor import Door, Visitor

OLD_KEY = "the-key-of-yesterday-" + "o" * 32
NEW_KEY = "the-key-of-tomorrow-" + "n" * 32


@pytest.fixture(scope="module")
def stores(cluster: Cluster, images: Images) -> Iterator[Stores]:
    pgbouncer = images.beside("pgbouncer")
    with Namespace.made(cluster, "stores") as namespace:
        stores = Stores(namespace)
        stores.start(pgbouncer)
        yield stores


@pytest.fixture(scope="module")
def release(
    cluster: Cluster, images: Images, place: Place, stores: Stores, figures: Figures
) -> Iterator[Release]:
    image = images.tested()
    with Namespace.made(cluster, "production") as namespace:
        namespace.secret(SECRET, **stores.secret(OLD_KEY))
        host = place.host(f"{namespace.name}.test", tls=True)
        ways_in = {"host": host, "tls": {"enabled": True}}
        release = Release(namespace, "carillon", merged(SMALL, image.values, stores.values(), ways_in))
        began = time.monotonic()
        release.install()
        eventually(lambda: serves(place.door(host, tls=True)), "the page is there")
        figures.note("from `helm install` to the page, profile production", time.monotonic() - began)
        yield release


@pytest.fixture
def door(release: Release, place: Place) -> Door:
    return place.door(release.values["host"], tls=True)


def test_two_people_on_two_nodes_talk_by_https(release: Release, visitors: Visitors) -> None:
    ada = visitors.open("Ada", release)
    bob = visitors.open("Bob", release, elsewhere_than=ada)
    ada.say("by way of your own stores")
    bob.sees("by way of your own stores", node=ada.node)
    assert "Succeeded" in release.test()


def test_the_migration_hook_uses_nothing_of_the_release(release: Release) -> None:
    [hook] = [one for one in release.objects("hooks") if one["kind"] == "Job"]
    own = {(one["kind"], one["metadata"]["name"]) for one in release.objects("manifest")}
    assert ("ServiceAccount", "carillon") in own
    pod = hook["spec"]["template"]["spec"]
    used = {("ServiceAccount", pod.get("serviceAccountName", "default"))}
    for container in pod["containers"] + pod.get("initContainers", []):
        references = (entry.get("valueFrom", {}).get("secretKeyRef") for entry in container["env"])
        used |= {("Secret", reference["name"]) for reference in references if reference}
        assert not container.get("envFrom")
    assert ("Secret", SECRET) in used
    assert not used & own


def test_a_new_signing_key_logs_nobody_out(release: Release, stores: Stores, door: Door) -> None:
    ada = Visitor(door)
    ada.sign_up("Ada of the old key")
    old = release.settled(NODES)
    release.namespace.secret(SECRET, **stores.secret(f"{NEW_KEY},{OLD_KEY}"))
    release.upgrade()
    assert not set(release.settled(NODES)) & set(old), "the nodes read their keys anew"
    with ada.connect(origin=door.origin, cookie=True) as by_cookie:
        assert json.loads(by_cookie.recv())["data"]["user"]["name"] == "Ada of the old key"
    with ada.connect(origin=None, ticket=ada.ticket()) as by_ticket:
        assert json.loads(by_ticket.recv())["data"]["user"]["name"] == "Ada of the old key"


@pytest.mark.parametrize("option", ["--wait", "--atomic"])
def test_a_failing_migration_leaves_everybody_where_they_are(
    release: Release, images: Images, door: Door, option: str
) -> None:
    check_failing_migration(release, images.version("failing"), door, option)
    assert release.settled(NODES)
