"""The objects of a release fit together: what one names is there, what one selects is what it means."""

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .tools import RELEASE, Manifest, containers, for_every_value_set, pods, rendered_manifests

pytestmark = for_every_value_set
NEVER_IN_A_SELECTOR = {"app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart"}


def title(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"


def of_kind(manifests: list[Manifest], *kinds: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] in kinds]


def hooks(manifest: Manifest) -> str:
    return str(manifest["metadata"].get("annotations", {}).get("helm.sh/hook", ""))


def selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    """Whether a label selector, in either of its forms, finds these labels."""
    plain = selector.get("matchLabels", {} if "matchExpressions" in selector else selector)
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions)
    return plain.items() <= labels.items() and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )


def selected(selector: dict[str, Any], manifests: list[Manifest]) -> list[tuple[Manifest, Manifest]]:
    """The pods, each after what makes it."""
    return [
        (owner, pod) for owner, pod in pods(manifests) if selects(selector, pod["metadata"].get("labels", {}))
    ]


def ports_of(pod: Manifest) -> dict[str, int]:
    listed = pod["spec"].get("initContainers", []) + pod["spec"]["containers"]
    return {port["name"]: port["containerPort"] for item in listed for port in item.get("ports", [])}


def references(pod: Manifest) -> Iterator[tuple[str, str]]:
    """Kind and name of everything that a pod cannot start without."""
    spec = pod["spec"]
    if "serviceAccountName" in spec:
        yield "ServiceAccount", spec["serviceAccountName"]
    for volume in spec.get("volumes", []):
        if "secret" in volume:
            yield "Secret", volume["secret"]["secretName"]
        if "configMap" in volume:
            yield "ConfigMap", volume["configMap"]["name"]
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
    for container in spec.get("initContainers", []) + spec["containers"]:
        for variable in container.get("env", []):
            source = variable.get("valueFrom", {})
            if "secretKeyRef" in source:
                yield "Secret", source["secretKeyRef"]["name"]
            if "configMapKeyRef" in source:
                yield "ConfigMap", source["configMapKeyRef"]["name"]


def test_no_two_objects_have_one_name(values: Path) -> None:
    counted = Counter(title(manifest) for manifest in rendered_manifests(values))
    assert [name for name, times in counted.items() if times > 1] == []


def test_what_cannot_be_changed_later_carries_no_version(values: Path) -> None:
    for manifest in of_kind(rendered_manifests(values), "Deployment", "StatefulSet"):
        spec = manifest["spec"]
        fixed = [spec["selector"]["matchLabels"]]
        fixed += [claim["metadata"].get("labels", {}) for claim in spec.get("volumeClaimTemplates", [])]
        for labels in fixed:
            assert not NEVER_IN_A_SELECTOR & labels.keys(), title(manifest)
        assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


def test_no_workload_takes_another_ones_pods_for_its_own(values: Path) -> None:
    manifests = rendered_manifests(values)
    for manifest in of_kind(manifests, "Deployment", "StatefulSet"):
        assert [owner for owner, _ in selected(manifest["spec"]["selector"], manifests)] == [manifest]


def test_every_service_leads_to_one_workload_and_to_ports_that_it_has(values: Path) -> None:
    manifests = rendered_manifests(values)
    for service in of_kind(manifests, "Service"):
        found = selected(service["spec"]["selector"], manifests)
        assert len(found) == 1, f"{title(service)} leads to {[title(owner) for owner, _ in found]}"
        for port in service["spec"]["ports"]:
            target = port.get("targetPort", port["port"])
            ports = ports_of(found[0][1])
            assert target in ports or target in ports.values(), f"{title(service)}: {port}"


def test_every_budget_and_policy_is_about_pods_that_there_are(values: Path) -> None:
    manifests = rendered_manifests(values)
    for budget in of_kind(manifests, "PodDisruptionBudget"):
        assert len(selected(budget["spec"]["selector"], manifests)) == 1, title(budget)
    for policy in of_kind(manifests, "NetworkPolicy"):
        found = selected(policy["spec"]["podSelector"], manifests)
        assert found, title(policy)
        named = {
            port["port"]
            for rule in policy["spec"].get("ingress", [])
            for port in rule.get("ports", [])
            if isinstance(port["port"], str)
        }
        assert named <= {port for _, pod in found for port in ports_of(pod)}, title(policy)


def test_no_pod_is_scraped_twice(values: Path) -> None:
    """A monitor finds Services by labels and a port's name: that pair leads to each pod once."""
    offers = Counter(
        (port["name"], title(owner))
        for service in of_kind(rendered_manifests(values), "Service")
        for port in service["spec"]["ports"]
        for owner, _ in selected(service["spec"]["selector"], rendered_manifests(values))
        if port["name"] == "internal"
    )
    assert offers
    assert set(offers.values()) == {1}, offers


def test_what_a_pod_needs_of_the_release_is_in_the_release(values: Path) -> None:
    manifests = rendered_manifests(values)
    there = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests}
    ours = f"{RELEASE}-carillon"
    for owner, pod in pods(manifests):
        missing = {found for found in references(pod) if found[1].startswith(ours)} - there
        assert not missing, f"{title(owner)} needs {missing}"


def test_every_key_that_a_pod_reads_is_in_the_generated_secret(values: Path) -> None:
    manifests = rendered_manifests(values)
    secrets = {one["metadata"]["name"]: one["data"] for one in of_kind(manifests, "Secret")}
    for container in containers(manifests):
        for variable in container.get("env", []):
            wanted = variable.get("valueFrom", {}).get("secretKeyRef", {})
            assert wanted.get("key") in secrets.get(wanted.get("name"), [wanted.get("key")]), variable["name"]


def test_a_hook_uses_nothing_of_the_release_that_is_not_there_yet(values: Path) -> None:
    manifests = rendered_manifests(values)
    later = {
        (item["kind"], item["metadata"]["name"]) for item in manifests if "pre-install" not in hooks(item)
    }
    for owner, pod in pods(manifests):
        if "pre-install" in hooks(owner):
            assert not set(references(pod)) & later, title(owner)


def test_every_way_in_leads_to_a_port_of_the_public_service(values: Path) -> None:
    manifests = rendered_manifests(values)
    ports = {
        (service["metadata"]["name"], port[field])
        for service in of_kind(manifests, "Service")
        for port in service["spec"]["ports"]
        for field in ("name", "port")
    }
    for ingress in of_kind(manifests, "Ingress"):
        for rule in ingress["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                service = path["backend"]["service"]
                assert {(service["name"], port) for port in service["port"].values()} <= ports
    for route in of_kind(manifests, "HTTPRoute"):
        for rule in route["spec"]["rules"]:
            assert {(backend["name"], backend["port"]) for backend in rule["backendRefs"]} <= ports


def test_no_way_in_leads_to_the_internal_port(values: Path) -> None:
    manifests = rendered_manifests(values)
    for service in of_kind(manifests, "Service"):
        is_headless = service["spec"].get("clusterIP") == "None"
        is_offered = any(port["name"] == "internal" for port in service["spec"]["ports"])
        assert is_headless or not is_offered, title(service)


def test_the_nodes_of_a_demo_look_for_its_stores_where_they_are(values: Path) -> None:
    manifests = rendered_manifests(values)
    node = next(containers(manifests, component="node"))
    environment = {variable["name"]: variable.get("value", "") for variable in node["env"]}
    if "DATABASE_URL" in environment and not environment["DATABASE_URL"]:
        return  # production: they are somewhere else
    places = environment["REDIS_SENTINELS"].split(",") + re.findall(r"@(.+)/", environment["DATABASE_URL"])
    assert len(places) == 4
    for host, port in (place.split(":") for place in places):
        *pod_name, service_name = host.split(".")
        (service,) = (
            item for item in of_kind(manifests, "Service") if item["metadata"]["name"] == service_name
        )
        assert int(port) in [item["port"] for item in service["spec"]["ports"]], host
        if pod_name:
            ((owner, _),) = selected(service["spec"]["selector"], manifests)
            names = [f"{owner['metadata']['name']}-{ordinal}" for ordinal in range(owner["spec"]["replicas"])]
            assert owner["spec"]["serviceName"] == service_name
            assert pod_name[0] in names


def test_every_variable_is_set_once_and_before_it_is_used(values: Path) -> None:
    for container in containers(rendered_manifests(values)):
        known: list[str] = []
        for variable in container.get("env", []):
            used = set(re.findall(r"\$\(([A-Z_]+)\)", variable.get("value", "")))
            assert used <= set(known), (
                f"{container['name']}: {variable['name']} would have {used} in it as text"
            )
            known.append(variable["name"])
        assert len(known) == len(set(known)), f"{container['name']}: {Counter(known).most_common(1)}"


def test_every_probe_asks_a_port_that_its_container_has(values: Path) -> None:
    for container in containers(rendered_manifests(values)):
        ports = {port["name"] for port in container.get("ports", [])}
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            asked = container.get(probe, {}).get("httpGet", {}).get("port")
            assert asked is None or asked in ports, f"{container['name']}: {probe}"


def test_every_mounted_volume_is_a_volume_of_the_pod_and_is_mounted(values: Path) -> None:
    for owner, pod in pods(rendered_manifests(values)):
        listed = pod["spec"].get("initContainers", []) + pod["spec"]["containers"]
        mounted = {mount["name"] for item in listed for mount in item.get("volumeMounts", [])}
        there = {volume["name"] for volume in pod["spec"].get("volumes", [])}
        claimed = {claim["metadata"]["name"] for claim in owner["spec"].get("volumeClaimTemplates", [])}
        assert mounted == there | claimed, title(owner)
