"""The embedded stores of profile demo: one primary whatever restarts, nothing lost that a replica has."""

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import pytest

from tests.cluster.cluster import Cluster, CommandFailed, Namespace, eventually
from tests.cluster.images import Images
from tests.cluster.release import READY_SECONDS, Release, merged
from tests.cluster.test_life import SMALL

VALKEYS: Final = ("carillon-valkey-0", "carillon-valkey-1")
SENTINELS: Final = ("carillon-sentinel-0", "carillon-sentinel-1", "carillon-sentinel-2")
ASK_VALKEY: Final = 'REDISCLI_AUTH=$REDIS_PASSWORD timeout 10 valkey-cli -e "$@"'
ASK_SENTINEL: Final = 'REDISCLI_AUTH=$REDIS_SENTINEL_PASSWORD timeout 10 valkey-cli -e -p 26379 "$@"'
# As a client of the task queue: asks one Sentinel, writes and publishes, goes on whatever happens.
WRITER: Final = """
ask="sentinel get-master-addr-by-name carillon"
while :; do
  primary=$(REDISCLI_AUTH=$REDIS_SENTINEL_PASSWORD timeout 5 valkey-cli -p 26379 $ask | head -n 1)
  printf 'SET written yes\\nPUBLISH channel word\\n' |
    REDISCLI_AUTH=$REDIS_PASSWORD timeout 5 valkey-cli -h "$primary" 2>&1 | head -n 1
  sleep 0.2
done
"""


@dataclass
class Stores:
    """What runs in the release's namespace, asked from inside of its pods."""

    release: Release

    def inside(self, pod: str, script: str, *words: str) -> str:
        return self.release.namespace.kubectl("exec", pod, "--", "sh", "-c", script, "sh", *words)

    def ask(self, valkey: str, *command: str) -> list[str]:
        return self.inside(valkey, ASK_VALKEY, *command).splitlines()

    def ask_sentinel(self, sentinel: str, *command: str) -> list[str]:
        return self.inside(sentinel, ASK_SENTINEL, *command).splitlines()

    def agreed_primary(self) -> str:
        """The pod that is the primary by its own word, its replica's and every Sentinel's; else nothing."""
        roles = {pod: self.ask(pod, "role") for pod in VALKEYS}
        primaries = [pod for pod, role in roles.items() if role[0] == "master"]
        if len(primaries) != 1:
            return ""
        host = f"{primaries[0]}.carillon-valkey"
        replicas = [role for role in roles.values() if role[:2] == ["slave", host] and role[3] == "connected"]
        for sentinel in SENTINELS:
            named = self.ask_sentinel(sentinel, "sentinel", "get-master-addr-by-name", "carillon")
            if named != [host, "6379"]:
                return ""
            said = self.ask_sentinel(sentinel, "sentinel", "master", "carillon")
            described = dict(zip(said[::2], said[1::2], strict=True))
            known = (described["flags"], described["num-slaves"], described["num-other-sentinels"])
            if known != ("master", "1", "2"):
                return ""
            said = self.ask_sentinel(sentinel, "sentinel", "replicas", "carillon")
            # A replica that the Sentinel does not rely on yet could not take over.
            if said[said.index("flags") + 1] != "slave":
                return ""
        return primaries[0] if len(replicas) == 1 else ""

    def settled(self) -> str:
        return eventually(
            self.agreed_primary, "one primary that everybody knows, and a replica", READY_SECONDS
        )

    def delete(self, *pods: str) -> None:
        self.release.namespace.kubectl("delete", "pod", *pods, seconds=READY_SECONDS)

    def fail_over(self) -> str:
        """Make the other one the primary, as `SENTINEL FAILOVER` does."""
        old = self.settled()
        self.ask_sentinel(SENTINELS[0], "sentinel", "failover", "carillon")
        return eventually(
            lambda: self.agreed_primary() if self.agreed_primary() != old else "", "the other one"
        )


@pytest.fixture(scope="module")
def stores(cluster: Cluster, images: Images) -> Iterator[Stores]:
    one = {"node": {"replicas": 1}, "worker": {"replicas": 0}}
    with Namespace.made(cluster, "stores") as namespace:
        release = Release(namespace, "carillon", merged(SMALL, images.tested().values, one))
        release.install()
        yield Stores(release)


@pytest.fixture
def primary(stores: Stores) -> str:
    """The pod that is the primary before a test begins, with something that only Valkey knows."""
    primary = stores.settled()
    stores.ask(primary, "set", "task", "waits")
    assert stores.ask(primary, "wait", "1", "10000") == ["1"]
    return primary


def replica_of(primary: str) -> str:
    [other] = set(VALKEYS) - {primary}
    return other


def test_who_restarts_everything_gets_one_primary(stores: Stores, primary: str) -> None:
    stores.delete(*VALKEYS, *SENTINELS)
    after = stores.settled()
    assert stores.ask(after, "set", "task", "again") == ["OK"]
    assert stores.ask(replica_of(after), "role")[0] == "slave"


def test_a_primary_that_stops_hands_over_first(stores: Stores, primary: str) -> None:
    stores.delete(primary)
    assert stores.settled() == replica_of(primary)
    assert stores.ask(replica_of(primary), "get", "task") == ["waits"]
    # When it came back that was done: it did not have to see to it.
    assert "waits: the Sentinels agree on carillon" not in stores.release.namespace.kubectl("logs", primary)


def test_a_primary_that_crashes_comes_back_as_replica_and_empties_nobody(
    stores: Stores, primary: str
) -> None:
    def restarts() -> int:
        [pod] = [pod for pod in stores.release.pods("valkey") if pod["metadata"]["name"] == primary]
        return int(pod["status"]["containerStatuses"][0]["restartCount"])

    before = restarts()
    with suppress(CommandFailed):  # as a rule nobody is left to answer
        stores.ask(primary, "shutdown", "nosave", "now", "force")
    eventually(lambda: restarts() > before, "its container runs again")
    assert stores.settled() == replica_of(primary)
    assert stores.ask(primary, "get", "task") == ["waits"]


def test_sentinels_that_forgot_everything_find_the_primary_of_the_moment(
    stores: Stores, primary: str
) -> None:
    if primary == VALKEYS[0]:  # the one that they would take if they went by the number
        primary = stores.fail_over()
    stores.delete(*SENTINELS)
    assert stores.settled() == primary
    for sentinel in SENTINELS:  # from the start, not after a failover that mended a mistake
        assert f"starts to watch {primary}." in stores.release.namespace.kubectl("logs", sentinel)
    assert stores.ask(primary, "get", "task") == ["waits"]


@contextmanager
def writing(stores: Stores) -> Iterator[Counter[str]]:
    """Somebody writes all the time. Afterwards: how often which answer came."""
    namespace = stores.release.namespace
    words = ["kubectl", "--context", namespace.cluster.context, "--namespace", namespace.name]
    process = subprocess.Popen(
        [*words, "exec", SENTINELS[0], "--", "sh", "-c", WRITER], stdout=subprocess.PIPE, text=True
    )
    answers: Counter[str] = Counter()
    try:
        yield answers
    finally:
        process.terminate()
        answers.update((process.communicate()[0] or "").splitlines())


def test_a_changed_setting_reaches_one_pod_after_the_other_and_loses_nothing(
    stores: Stores, primary: str
) -> None:
    before = {pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in stores.release.pods("sentinel")}
    with writing(stores) as answers:
        stores.release.upgrade(more={"valkey": {"config": {"tcp-keepalive": 61}}})
        after = stores.settled()
        assert stores.ask(after, "del", "written") == ["1"]
        eventually(lambda: stores.ask(after, "get", "written") == ["yes"], "the writer goes on")
    for pod in VALKEYS:
        assert stores.ask(pod, "config", "get", "tcp-keepalive") == ["tcp-keepalive", "61"]
        assert stores.ask(pod, "get", "task") == ["waits"]
    assert {
        pod["metadata"]["name"]: pod["metadata"]["uid"] for pod in stores.release.pods("sentinel")
    } == before
    assert answers["OK"] > sum(answers.values()) / 2, answers


def test_who_has_no_password_or_a_wrong_one_is_refused(stores: Stores) -> None:
    primary = stores.settled()
    for port, pod in (("6379", primary), ("26379", SENTINELS[0])):
        assert "NOAUTH" in stores.inside(pod, f"valkey-cli -p {port} ping 2>&1")
        assert "WRONGPASS" in stores.inside(pod, f"REDISCLI_AUTH=wrong valkey-cli -p {port} ping 2>&1")
    for host in ("127.0.0.1", "carillon-postgresql-0"):
        said = stores.inside(
            "carillon-postgresql-0",
            f"PGPASSWORD=wrong psql -h {host} -U carillon -c 'select 1' 2>&1 || true",
        )
        assert "password authentication failed" in said


def test_no_password_shows_in_arguments_or_logs(stores: Stores) -> None:
    namespace = stores.release.namespace
    passwords = namespace.kubectl(
        "get",
        "secret",
        "carillon-generated",
        "--output=go-template={{range .data}}{{. | base64decode}}\n{{end}}",
    ).split()
    assert len(passwords) == 4
    for pod in (*VALKEYS, *SENTINELS, "carillon-postgresql-0"):
        shown = stores.inside(pod, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '") + namespace.kubectl("logs", pod)
        assert not [password for password in passwords if password in shown], pod


def test_the_stores_reach_each_other_and_nobody_else(stores: Stores) -> None:
    namespace = stores.release.namespace
    node = stores.release.pods("node")[0]["status"]["podIP"]
    for pod in (VALKEYS[0], SENTINELS[0]):
        # 124: no answer at all; a door that is open says at once that it is none of Valkey's.
        assert (
            stores.inside(pod, f"timeout 5 valkey-cli -h {node} -p 8000 ping >/dev/null 2>&1; echo $?")
            == "124\n"
        )
    policies = {policy["metadata"]["name"]: policy["spec"] for policy in namespace.objects("networkpolicy")}
    assert policies["carillon-postgresql"]["policyTypes"] == ["Ingress", "Egress"]
    assert "egress" not in policies["carillon-postgresql"]


def test_postgresql_stops_in_order_and_comes_back_with_everything(stores: Stores) -> None:
    pod = "carillon-postgresql-0"
    sql = "create table proof as select 42 as answer"
    stores.inside(pod, f"psql -U carillon -d carillon -c '{sql}'")
    stores.delete(pod)
    stores.release.namespace.wait_for_rollout("statefulset/carillon-postgresql", seconds=READY_SECONDS)
    assert stores.inside(pod, "psql -U carillon -d carillon -Atc 'select answer from proof'") == "42\n"
    # After a crash it would have repeated its log first.
    assert "was not properly shut down" not in stores.release.namespace.kubectl("logs", pod)
    assert json.loads(stores.inside(pod, "psql -U carillon -Atc 'show max_connections'")) == 100
