"""Runs Helm and its friends on the chart."""

import functools
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "helm" / "carillon"
# One file for each shape that a release can take, and for each way in that people are shown.
VALUE_SETS = [*sorted(CHART.glob("ci/*-values.yaml")), *sorted(CHART.glob("examples/*.yaml"))]
for_every_value_set = pytest.mark.parametrize("values", VALUE_SETS, ids=lambda path: path.name)
# A release whose name is not the chart's, so that a mix-up of the two shows.
RELEASE, NAMESPACE = "chat", "rooms"
HOW_TO_INSTALL = {
    "helm": "helm.sh/docs/intro/install has packages; it was tried with 3.22",
    "helm unittest": "helm plugin install https://github.com/helm-unittest/helm-unittest",
    "helm-docs": "go install github.com/norwoodj/helm-docs/cmd/helm-docs@v1.14.2",
    "skaffold": "skaffold.dev/docs/install has binaries; 2.19 or newer",
    "kubeconform": "go install github.com/yannh/kubeconform/cmd/kubeconform@v0.8.0",
}

Manifest = dict[str, Any]


class ToolError(AssertionError):
    """A tool has said no; the message is what it said."""


def run(tool: str, *arguments: str | Path, stdin: str | None = None) -> str:
    """What the tool prints; ToolError when it fails."""
    ended = subprocess.run(
        [tool, *map(str, arguments)], input=stdin, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if ended.returncode:
        raise ToolError(f"{tool} {' '.join(map(str, arguments))}\n{ended.stdout}{ended.stderr}")
    return ended.stdout


@functools.cache
def rendered(values: Path, *arguments: str) -> str:
    """All objects of a release with these values, hooks and tests among them, as text."""
    return run("helm", "template", RELEASE, CHART, "--namespace", NAMESPACE, "--values", values, *arguments)


@functools.cache
def rendered_manifests(values: Path, *arguments: str) -> list[Manifest]:
    """The same, parsed; shared by all tests, so none may change it."""
    text = rendered(values, *arguments)
    return [manifest for manifest in yaml.load_all(text, yaml.CSafeLoader) if manifest]


def refusal(*arguments: str) -> str:
    """What Helm says to values that the chart must not take."""
    try:
        run("helm", "template", RELEASE, CHART, "--set", "image.repository=carillon", *arguments)
    except ToolError as error:
        return str(error)
    raise AssertionError(f"taken: {' '.join(arguments)}")


def pods(manifests: Iterable[Manifest]) -> Iterator[tuple[Manifest, Manifest]]:
    """Each object that makes pods, with the pod's metadata and specification."""
    for manifest in manifests:
        if manifest["kind"] == "Pod":
            yield manifest, manifest
        elif manifest["kind"] == "CronJob":
            yield manifest, manifest["spec"]["jobTemplate"]["spec"]["template"]
        elif "template" in manifest.get("spec", {}):
            yield manifest, manifest["spec"]["template"]


def containers(manifests: Iterable[Manifest], *, component: str = "") -> Iterator[Manifest]:
    """The containers of all pods (or of one component's), those that run first among them."""
    for _, pod in pods(manifests):
        labels = pod["metadata"].get("labels", {})
        if not component or labels.get("app.kubernetes.io/component") == component:
            yield from [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]
