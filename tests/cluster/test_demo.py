"""Profile demo, without a host and from a registry of charts: what it promises beside what CI looks at."""

import json
from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster, CommandFailed, Namespace, eventually, run
from tests.cluster.failing_migration import check_failing_migration
from tests.cluster.images import ROOT, Images
from tests.cluster.release import Release, merged, share_no_bus
from tests.cluster.test_life import NODES, SMALL
from tests.visitor import Door, Visitor


@pytest.fixture(scope="module")
def chart(cluster: Cluster, images: Images, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Packaged, pushed beside the image under test by the project's own command, and pulled."""
    registry = images.tested().repository.rpartition("/")[0]
    plain = registry.startswith(("localhost", "127.0.0.1"))
    words = ["make", "--directory", str(ROOT), "push-chart", f"REGISTRY={registry}"]
    run([*words, f"PLAIN_HTTP={'1' if plain else ''}"])
    folder = tmp_path_factory.mktemp("chart")
    options = [f"--destination={folder}"] + (["--plain-http"] if plain else [])
    cluster.helm("pull", f"oci://{registry}/charts/carillon", *options)
    [pulled] = folder.glob("carillon-*.tgz")
    return str(pulled)


@pytest.fixture(scope="module")
def release(cluster: Cluster, images: Images, chart: str) -> Iterator[Release]:
    values = merged(SMALL, images.tested().values)
    with Namespace.made(cluster, "demo") as namespace:
        release = Release(namespace, "carillon", values, chart)
        release.install()
        yield release


@pytest.fixture
def door(release: Release) -> Iterator[Door]:
    """All that leads in: a port-forward to localhost."""
    with release.forward("service/carillon", 80) as door:
        yield door


def test_without_a_host_people_log_in_by_a_port_forward(release: Release, door: Door) -> None:
    assert not release.namespace.objects("ingress")
    ada = Visitor(door)
    ada.sign_up("Ada")
    again = Visitor(door)
    again.log_in("Ada")
    with again.connect(origin=door.origin, cookie=True) as connection:
        hello = json.loads(connection.recv())["data"]
    assert hello["user"]["name"] == "Ada"
    assert hello["bus_connected"]


def test_nobody_but_the_application_reaches_the_embedded_stores(release: Release) -> None:
    targets = {"carillon 80", "carillon-postgresql 5432", "carillon-valkey 6379", "carillon-sentinel 26379"}
    script = "; ".join(
        f"nc -w 3 {target} </dev/null 2>/dev/null && echo open: {target}" for target in sorted(targets)
    )
    release.namespace.apply(stranger(f"{script}; true"))
    eventually(
        lambda: phase(release.namespace, "stranger") == "Succeeded", "the stranger has tried every door", 90
    )
    assert release.namespace.kubectl("logs", "stranger").splitlines() == ["open: carillon 80"]
    release.namespace.kubectl("delete", "pod", "stranger", "--now")


def phase(namespace: Namespace, pod: str) -> str:
    return namespace.kubectl("get", "pod", pod, "--output=jsonpath={.status.phase}")


def stranger(script: str) -> dict[str, object]:
    """A pod that has nothing to do with the release."""
    security = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stranger"},
        "spec": {
            "restartPolicy": "Never",
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": 10001,
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [
                {
                    "name": "stranger",
                    "image": "docker.io/library/busybox:1",
                    "command": ["sh", "-c", script],
                    "securityContext": security,
                }
            ],
        },
    }


@pytest.mark.parametrize("option", ["--wait", "--atomic"])
def test_a_failing_migration_leaves_everybody_where_they_are(
    release: Release, images: Images, door: Door, option: str
) -> None:
    good = release.revision
    old = release.settled(NODES)
    try:
        check_failing_migration(release, images.version("failing"), door, option)
    finally:
        if release.state == "failed":
            release.rollback(good)
    assert release.settled(NODES) == old


def test_from_demo_to_production_is_refused_and_the_page_about_it_named(release: Release) -> None:
    before = release.revision
    production = {
        "profile": "production",
        "host": "chat.example.test",
        "tls": {"enabled": True},
        "secrets": {"existingSecret": "carillon-generated"},
        "database": {"existingSecret": "carillon-generated"},
        "redis": {"address": "redis:6379"},
    }
    with pytest.raises(CommandFailed, match=r"docs/kubernetes\.md#from-demo-to-production"):
        release.upgrade(more=production)
    assert release.revision == before


def test_helm_test_fails_when_nodes_share_no_bus(release: Release) -> None:
    share_no_bus(release.namespace)
    release.settled(NODES)
    with pytest.raises(CommandFailed, match="did not hear"):
        release.test()


def test_one_node_does_not_block_the_drain_of_a_machine(release: Release) -> None:
    release.upgrade(more={"node": {"replicas": 1}})
    [only] = release.settled(1)
    assert release.namespace.objects("poddisruptionbudget", component="node")
    # What `kubectl drain` asks for each pod; it is refused when the budget does not allow it.
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": only}}
    path = f"/api/v1/namespaces/{release.namespace.name}/pods/{only}/eviction"
    release.namespace.cluster.kubectl("create", "--raw", path, "--filename=-", stdin=json.dumps(eviction))
    assert release.settled(1) != [only]


def test_only_trusted_proxies_say_how_people_come(release: Release) -> None:
    def entered(name: str) -> int:
        with release.forward("service/carillon", 80) as door:
            return Visitor(door).post("/accounts/guest/", {"X-Forwarded-Proto": "https"}, name=name).status

    assert entered("Ada by herself") == 302
    # A port-forward comes from the pod itself. Who is trusted is believed: a form from a page that came by
    # plain http is then refused, because the page that asks came by https.
    release.upgrade(more={"node": {"replicas": 1}, "trustedProxies": ["127.0.0.1"]})
    release.settled(1)
    assert entered("Ada by a proxy") == 403
