"""What deploy/ and skaffold.yaml hand to the chart, the chart takes; and whatever they name is there."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from .test_kubernetes import CUSTOM, NEWEST, OLDEST, complaints
from .tools import CHART, NAMESPACE, RELEASE, ROOT, Manifest, containers, run

DEPLOY = ROOT / "deploy"
VALUES = DEPLOY / "values"
EXAMPLES = CHART / "examples"
# Values of a place, as its head says: which files, in which order.
LOCAL = VALUES / "local.yaml"
PLACES = {
    "local": [LOCAL],
    "dev": [LOCAL, VALUES / "dev.yaml"],
    "gateway": [LOCAL, VALUES / "gateway.yaml"],
    "external-stores": [LOCAL, VALUES / "external-stores.yaml"],
    "production": [VALUES / "production.yaml"],
    "aws": [EXAMPLES / "aws-alb.yaml", VALUES / "aws.yaml"],
    "gke": [EXAMPLES / "gke-gateway.yaml", VALUES / "gke.yaml"],
}
CONFIGS = [ROOT / "skaffold.yaml", DEPLOY / "stores" / "skaffold.yaml"]


def config(path: Path) -> Any:
    return yaml.safe_load(path.read_text())


def test_every_file_of_values_belongs_to_a_place() -> None:
    assert {path.stem for path in VALUES.glob("*.yaml")} == PLACES.keys()


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("place", PLACES)
def test_the_chart_and_kubernetes_take_the_values_of_every_place(place: str, version: str) -> None:
    files = [word for path in PLACES[place] for word in ("--values", str(path))]
    image = () if "image" in config(PLACES[place][-1]) else ("--set", "image.repository=carillon")
    text = run("helm", "template", RELEASE, CHART, *files, *image, "--kube-version", version)
    manifests = [manifest for manifest in yaml.safe_load_all(text) if manifest]
    assert {"Deployment", "Service"} <= {manifest["kind"] for manifest in manifests}
    assert [said for one in manifests if one["kind"] not in CUSTOM for said in complaints(version, one)] == []


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
def test_kubernetes_takes_the_stores(version: str) -> None:
    manifests = [
        manifest
        for name in config(DEPLOY / "stores" / "kustomization.yaml")["resources"]
        for manifest in yaml.safe_load_all((DEPLOY / "stores" / name).read_text())
    ]
    kinds = [manifest["kind"] for manifest in manifests]
    assert kinds.count("StatefulSet") == 3
    assert [said for manifest in manifests for said in complaints(version, manifest)] == []


@pytest.mark.parametrize("version", [OLDEST, NEWEST])
@pytest.mark.parametrize("job", ["verify-job.yaml", "load-test-job.yaml"])
def test_kubernetes_takes_the_jobs_of_skaffold(job: str, version: str) -> None:
    assert complaints(version, config(DEPLOY / "skaffold" / job)) == []


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_skaffold_takes_its_configuration_with_every_profile(path: Path) -> None:
    """Skaffold itself is the judge: it knows its schema, and whether the patches of a profile fit."""
    profiles = [profile["name"] for profile in config(path)["profiles"]]
    for profile in ([], *([f"--profile={name}"] for name in profiles)):
        run("skaffold", "diagnose", "--yaml-only", f"--filename={path}", *profile)


def test_skaffold_renders_production_without_a_cluster(tmp_path: Path) -> None:
    image = f"registry.example.org/you/carillon:1.2.3@sha256:{'d' * 64}"
    built = tmp_path / "build.json"
    built.write_text(json.dumps({"builds": [{"imageName": "carillon", "tag": image}]}))
    words = ["--offline", "--digest-source=none", "--default-repo=registry.example.org/you"]
    words += [f"--build-artifacts={built}", f"--namespace={NAMESPACE}", f"--output={tmp_path / 'objects'}"]
    run("skaffold", "render", "--profile=production", *words)
    manifests = list(yaml.safe_load_all((tmp_path / "objects").read_text()))
    assert {manifest["metadata"]["namespace"] for manifest in manifests} == {NAMESPACE}
    assert {one["image"] for one in containers(manifests)} == {image}


def test_every_file_that_skaffold_names_is_there() -> None:
    text = CONFIGS[0].read_text()
    named = set(re.findall(r"(?<![\w/])(?:deploy|docker|helm)/[a-zA-Z0-9/_.-]+", text))
    assert len(named) > 8
    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_skaffold_copies_every_kind_of_source_that_there_is() -> None:
    [dev] = [profile for profile in config(CONFIGS[0])["profiles"] if profile["name"] == "dev"]
    [sync] = [patch["value"]["manual"] for patch in dev["patches"] if patch["path"].endswith("/sync")]
    copied = {Path(rule["src"]).suffix for rule in sync}
    sources = [
        path for path in (ROOT / "app").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    ]
    assert {path.suffix for path in sources} == copied


def made_by_the_chart(*values: str) -> dict[tuple[str, str], Manifest]:
    """The objects of the release that Skaffold installs."""
    text = run("helm", "template", "carillon", CHART, "--values", LOCAL, "--set", ",".join(values))
    return {(one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(text) if one}


def test_what_skaffold_verify_finds_is_what_the_chart_makes() -> None:
    """The Job is no part of the chart: its names and labels have to follow those of the chart's own test."""
    made = made_by_the_chart("image.repository=carillon")
    verify, _ = config(CONFIGS[0])["verify"]
    template = config(DEPLOY / "skaffold" / "verify-job.yaml")["spec"]["template"]
    tested = made["Pod", "carillon-test"]
    assert template["metadata"]["labels"].items() <= tested["metadata"]["labels"].items()
    own, theirs = (pod["spec"]["containers"][0] for pod in (template, tested))
    assert verify["container"]["command"] == [*theirs["command"], *theirs["args"]]
    [database] = [entry["value"] for entry in theirs["env"] if entry["name"] == "DATABASE_URL"]
    assert verify["container"]["env"] == [
        {"name": "DATABASE_URL", "value": database},
        {"name": "PGPASSWORD", "value": "$(POSTGRESQL_PASSWORD)"},
    ]
    assert ("Secret", own["envFrom"][0]["secretRef"]["name"]) in made


def test_the_load_test_of_skaffold_is_the_one_of_the_chart() -> None:
    made = made_by_the_chart("image.repository=carillon", "loadTest.enabled=true", "host=localhost")
    theirs = made["Job", "carillon-load-test"]["spec"]["template"]
    _, verify = config(CONFIGS[0])["verify"]
    [action] = config(CONFIGS[0])["customActions"]
    [acted] = action["containers"]
    [tested] = theirs["spec"]["containers"]
    template = config(DEPLOY / "skaffold" / "load-test-job.yaml")["spec"]["template"]
    assert template["metadata"]["labels"].items() <= theirs["metadata"]["labels"].items()
    assert [one["name"] for one in template["spec"]["containers"]] == [acted["name"]]
    for container in (verify["container"], acted):
        args = "\n".join(container["args"])
        for variable in container.get("env", []):
            args = args.replace(f"$({variable['name']})", variable["value"])
        assert (container["command"], args.split("\n")) == (tested["command"], tested["args"])
