"""Kubernetes takes every object: the oldest and the newest supported version, and a cluster at hand."""

import functools
import json
import os
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from .tools import CHART, Manifest, for_every_value_set, rendered, rendered_manifests, run

SCHEMAS = files("kubernetes_validate") / "kubernetes-json-schema"
VERSIONS = sorted(
    (
        entry.name.removeprefix("v").removesuffix("-local-strict")
        for entry in SCHEMAS.iterdir()
        if entry.name.endswith("-local-strict")
    ),
    key=lambda version: [int(part) for part in version.split(".")],
)
OLDEST = re.findall(r"^kubeVersion: \">=(.*)-0\"$", (CHART / "Chart.yaml").read_text(), re.M)[0]
NEWEST = VERSIONS[-1]
# Where schemas of custom resources lie for people who have none of their own.
PUBLISHED = [
    "default",
    "https://raw.githubusercontent.com/datreeio/CRDs-catalog/main/{{.Group}}/{{.ResourceKind}}_{{.ResourceAPIVersion}}.json",
]
NOWHERE_PUBLISHED = {"BackendConfig", "GCPBackendPolicy", "HealthCheckPolicy"}
CUSTOM = {"HTTPRoute", *NOWHERE_PUBLISHED}


def schema(version: str, name: str) -> Any:
    return json.loads((SCHEMAS / f"v{version}-local-strict" / name).read_text())


@functools.cache
def definitions(version: str) -> Registry[Any]:
    contents = schema(version, "_definitions.json")
    return Resource.from_contents(contents, default_specification=DRAFT202012) @ Registry()


@functools.cache
def validator(version: str, api_version: str, kind: str) -> jsonschema.Draft202012Validator:
    """Knows a kind as this version of Kubernetes does; it takes no name that Kubernetes would drop."""
    name = f"{kind}-{re.sub(r'([.][^/]*)?/', '-', api_version)}.json".lower()
    contents = schema(version, name)
    return jsonschema.Draft202012Validator(contents, registry=definitions(version))


def complaints(version: str, manifest: Manifest) -> list[str]:
    errors = validator(version, manifest["apiVersion"], manifest["kind"]).iter_errors(manifest)
    return [
        f"{manifest['kind']} {manifest['metadata']['name']}: {error.json_path}: {error.message}"
        for error in errors
    ]


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@for_every_value_set
def test_the_oldest_and_the_newest_kubernetes_take_every_object(values: Path, version: str) -> None:
    objects = rendered_manifests(values, "--kube-version", version)
    assert [
        said
        for manifest in objects
        if manifest["kind"] not in CUSTOM
        for said in complaints(version, manifest)
    ] == []


@for_every_value_set
def test_kubeconform_takes_every_object(values: Path) -> None:
    places = [os.environ["KUBECONFORM_SCHEMAS"]] if "KUBECONFORM_SCHEMAS" in os.environ else PUBLISHED
    locations = [argument for place in places for argument in ("-schema-location", place)]
    run(
        "kubeconform",
        "-strict",
        "-skip",
        ",".join(sorted(NOWHERE_PUBLISHED)),
        *locations,
        stdin=rendered(values),
    )


def test_a_name_that_kubernetes_does_not_know_is_seen() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "x"}, "spec": {"port": 80}}
    for version in (OLDEST, NEWEST):
        assert complaints(version, service) == [
            "Service x: $.spec: Additional properties are not allowed ('port' was unexpected)"
        ]
