"""One cluster by kubectl and helm, and namespaces in it. Never writes outside of a namespace that it made."""

import json
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, Self, TypeVar

from tests.browsers import kept

LABEL: Final = "carillon.example/made-by"
MADE_BY: Final = "cluster-tests"
ASK_SECONDS: Final = 60.0
REMOVE_SECONDS: Final = 180.0
POLL_SECONDS: Final = 0.5


Answer = TypeVar("Answer")


class CommandFailed(Exception):
    """A command's exit code was not 0; its words, both what it said and what it complained of."""


def run(
    command: Sequence[str],
    *,
    stdin: str | None = None,
    seconds: float = ASK_SECONDS,
    folder: Path | None = None,
) -> str:
    """What the command said. Raises `CommandFailed`."""
    shown = " ".join(command)
    try:
        done = subprocess.run(
            command,
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            cwd=folder,
        )
    except subprocess.TimeoutExpired:
        raise CommandFailed(f"not done after {seconds:.0f} s: {shown}") from None
    if done.returncode:
        raise CommandFailed(f"{shown}\n{done.stdout}{done.stderr}")
    return done.stdout


def eventually(ask: Callable[[], Answer], what: str, seconds: float = ASK_SECONDS) -> Answer:
    """The first answer that is true. A command that fails meanwhile is asked again."""
    deadline = time.monotonic() + seconds
    while True:
        trouble = ""
        try:
            if answer := ask():
                return answer
        except (CommandFailed, OSError) as error:
            trouble = f": {error}"
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds:.0f} s: {what}{trouble}")
        time.sleep(POLL_SECONDS)


class Cluster:
    """The cluster behind one context of the kubeconfig."""

    def __init__(self, context: str) -> None:
        self.context = context
        self.namespaces: list[Namespace] = []

    def kubectl(self, *words: str, stdin: str | None = None, seconds: float = ASK_SECONDS) -> str:
        return run(["kubectl", "--context", self.context, *words], stdin=stdin, seconds=seconds)

    def helm(self, *words: str, stdin: str | None = None, seconds: float = ASK_SECONDS) -> str:
        return run(["helm", "--kube-context", self.context, *words], stdin=stdin, seconds=seconds)

    def kinds(self) -> list[str]:
        """Every kind that a namespace holds and that lasts, as `kind.group`."""
        listed = self.kubectl("api-resources", "--namespaced", "--verbs=list,delete", "--output=name").split()
        return [kind for kind in listed if kind.partition(".")[0] != "events"]


class Namespace:
    """A namespace of this run's own: `made` is the only way to one, and takes it away again."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.cluster = cluster
        self.name = name

    @classmethod
    @contextmanager
    def made(cls, cluster: Cluster, purpose: str, *, security: str = "restricted") -> Iterator[Self]:
        """Until the end of the block, however it ends."""
        namespace = cls(cluster, f"carillon-test-{purpose}-{secrets.token_hex(3)}")
        labels = {LABEL: MADE_BY, "pod-security.kubernetes.io/enforce": security}
        manifest = {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {"name": namespace.name, "labels": labels},
        }
        cluster.namespaces.append(namespace)
        try:
            # `create`, not `apply`: a namespace that is there already belongs to somebody.
            cluster.kubectl("create", "--filename=-", stdin=json.dumps(manifest))
            yield namespace
        finally:
            cluster.namespaces.remove(namespace)
            namespace.remove()

    def kubectl(self, *words: str, stdin: str | None = None, seconds: float = ASK_SECONDS) -> str:
        return self.cluster.kubectl("--namespace", self.name, *words, stdin=stdin, seconds=seconds)

    def helm(self, *words: str, stdin: str | None = None, seconds: float = ASK_SECONDS) -> str:
        return self.cluster.helm("--namespace", self.name, *words, stdin=stdin, seconds=seconds)

    def apply(self, *manifests: Mapping[str, Any] | str) -> None:
        """Objects, or the text of a file of them."""
        for manifest in manifests:
            text = manifest if isinstance(manifest, str) else json.dumps(manifest)
            self.kubectl("apply", "--filename=-", stdin=text)

    def secret(self, name: str, **values: str) -> None:
        """Make or replace a Secret."""
        metadata = {"name": name}
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": values})

    def objects(self, kind: str, **labels: str) -> list[dict[str, Any]]:
        """All objects of a kind (or of several, with commas)."""
        selector = ",".join(f"app.kubernetes.io/{name}={value}" for name, value in labels.items())
        answer = self.kubectl("get", kind, "--selector", selector, "--output=json")
        items: list[dict[str, Any]] = json.loads(answer)["items"]
        return items

    def everything(self) -> set[str]:
        """`kind/name` of all that somebody put here."""
        return (
            set(self.kubectl("get", ",".join(self.cluster.kinds()), "--output=name").split())
            - OF_EVERY_NAMESPACE
        )

    def wait_for_rollout(self, *workloads: str, seconds: float) -> None:
        """`deployment/x` and the like are as their objects say."""
        for workload in workloads:
            self.kubectl("rollout", "status", workload, f"--timeout={seconds:.0f}s", seconds=seconds + 10)

    def remove(self) -> None:
        """Ask for its end first: the cluster goes on with it even if nobody waits any more."""
        with suppress(CommandFailed):
            found = json.loads(self.cluster.kubectl("get", "namespace", self.name, "--output=json"))
            assert found["metadata"]["labels"].get(LABEL) == MADE_BY, f"{self.name} was not made here"
            self.cluster.kubectl("delete", "namespace", self.name, "--wait=false")
            # Nobody is there any more to whom a pod would have to say goodbye.
            self.kubectl("delete", "pods", "--all", "--grace-period=0", "--force", "--wait=false")
            gone = ("wait", "--for=delete", f"namespace/{self.name}", f"--timeout={REMOVE_SECONDS:.0f}s")
            self.cluster.kubectl(*gone, seconds=REMOVE_SECONDS + 10)

    def keep_evidence(self) -> Path:
        """Pods, events and logs, before they are gone."""
        folder = kept("cluster") / self.name
        folder.mkdir(parents=True, exist_ok=True)
        for file, words in EVIDENCE.items():
            with suppress(CommandFailed):
                (folder / file).write_text(self.kubectl(*words))
        with suppress(CommandFailed):
            for pod in self.objects("pods"):
                name = pod["metadata"]["name"]
                for file, more in ((f"{name}.log", ()), (f"{name}.previous.log", ("--previous",))):
                    with suppress(CommandFailed):
                        log = self.kubectl("logs", name, "--all-containers", "--prefix", *more)
                        (folder / file).write_text(log)
        return folder


OF_EVERY_NAMESPACE: Final = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
EVIDENCE: Final = {
    "objects.txt": ("get", "all,ingress,pvc,secret,networkpolicy,pdb", "--output=wide"),
    "events.txt": ("get", "events", "--sort-by=.lastTimestamp"),
    "pods.txt": ("describe", "pods"),
}
