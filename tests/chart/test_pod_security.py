"""Every pod of every value set is fit for a namespace that enforces `restricted`, and for more than that."""

from collections.abc import Iterator
from pathlib import Path

from .tools import Manifest, for_every_value_set, pods, rendered_manifests

pytestmark = for_every_value_set
RESTRICTED_VOLUMES = {
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
}


def pods_of(values: Path) -> Iterator[tuple[str, Manifest]]:
    found = False
    for manifest, pod in pods(rendered_manifests(values)):
        found = True
        yield f"{manifest['kind']} {manifest['metadata']['name']}", pod["spec"]
    assert found


def containers_of(values: Path) -> Iterator[tuple[str, Manifest, Manifest]]:
    """Where, the pod's security context, the container."""
    for owner, pod in pods_of(values):
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            yield f"{owner}, {container['name']}", pod.get("securityContext", {}), container


def test_no_pod_runs_as_root_or_without_a_seccomp_profile(values: Path) -> None:
    for where, pod, container in containers_of(values):
        own = pod | container.get("securityContext", {})
        assert own.get("runAsNonRoot") is True, where
        assert own.get("runAsUser", 0) > 0, (
            f"{where}: a name instead of a number can't be proved to be another than root"
        )
        assert own.get("seccompProfile", {}).get("type") in {"RuntimeDefault", "Localhost"}, where


def test_no_container_can_gain_rights_or_write_to_its_image(values: Path) -> None:
    for where, _, container in containers_of(values):
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False, where
        assert own["capabilities"] == {"drop": ["ALL"]}, where
        assert own["readOnlyRootFilesystem"] is True, where
        assert not own.get("privileged"), where


def test_no_pod_shares_anything_of_its_machine(values: Path) -> None:
    for where, pod in pods_of(values):
        assert not {"hostNetwork", "hostPID", "hostIPC"} & {name for name, value in pod.items() if value}, (
            where
        )
        for volume in pod.get("volumes", []):
            assert set(volume) - {"name"} <= RESTRICTED_VOLUMES, f"{where}: volume {volume['name']}"
        for container in [*pod.get("initContainers", []), *pod["containers"]]:
            assert not [port for port in container.get("ports", []) if port.get("hostPort")], where


def test_no_pod_gets_a_token_or_the_addresses_of_other_services(values: Path) -> None:
    for where, pod in pods_of(values):
        assert pod["automountServiceAccountToken"] is False, where
        assert pod["enableServiceLinks"] is False, where


def test_every_container_says_what_it_needs(values: Path) -> None:
    for where, _, container in containers_of(values):
        assert {"cpu", "memory"} <= container["resources"]["requests"].keys(), where
        assert "memory" in container["resources"]["limits"], where


def test_every_image_is_one_that_stays_the_same(values: Path) -> None:
    for where, _, container in containers_of(values):
        name, _, tag = container["image"].rpartition(":")
        assert name and tag, f"{where}: {container['image']}"
        assert "/" not in tag and tag != "latest", f"{where}: {container['image']}"
        assert "@sha256" not in name or len(tag) == 64, f"{where}: {container['image']}"
