"""The chart as a whole: Helm has nothing to criticise, its unit tests pass, its page is up to date."""

import re
import shutil
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import yaml

from .tools import CHART, RELEASE, ROOT, VALUE_SETS, refusal, run


def chart_file() -> dict[str, Any]:
    read: dict[str, Any] = yaml.safe_load((CHART / "Chart.yaml").read_text())
    return read


def test_helm_finds_nothing_to_criticise() -> None:
    for values in VALUE_SETS:
        run("helm", "lint", "--strict", "--quiet", CHART, "--values", values)


def test_the_unit_tests_of_the_chart_pass() -> None:
    run("helm", "unittest", "--strict", CHART)


def test_the_page_of_the_chart_is_what_its_values_say(tmp_path: Path) -> None:
    copy = shutil.copytree(CHART, tmp_path / "carillon")
    run("helm-docs", "--chart-search-root", copy, "--sort-values-order", "file", "--log-level", "warning")
    assert (copy / "README.md").read_text() == (CHART / "README.md").read_text(), "run `make chart-docs`"


def test_every_value_is_explained() -> None:
    values = re.findall(r"^\| (\S+) \|.*\|(.*)\|$", (CHART / "README.md").read_text(), re.M)
    assert len(values) > 100
    assert [name for name, meaning in values if not meaning.strip()] == []


def test_chart_application_and_project_have_one_version() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    chart = chart_file()
    assert (chart["version"], chart["appVersion"]) == (version, version)


def test_the_chart_names_the_images_that_it_brings() -> None:
    annotated = yaml.safe_load(chart_file()["annotations"]["artifacthub.io/images"])
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    brought = {
        name: f"{value['image']['repository']}:{value['image']['tag']}"
        for name, value in values.items()
        if isinstance(value, dict) and value.get("image", {}).get("repository")
    }
    assert {item["name"]: item["image"] for item in annotated} == brought
    assert yaml.safe_load(chart_file()["annotations"]["artifacthub.io/changes"])


def test_the_package_holds_what_an_install_needs_and_no_tests(tmp_path: Path) -> None:
    run("helm", "package", CHART, "--destination", tmp_path)
    (package,) = tmp_path.glob("carillon-*.tgz")
    with tarfile.open(package) as archive:
        names = {name.removeprefix("carillon/") for name in archive.getnames()}
    needed = {"Chart.yaml", "README.md", "values.schema.json", "templates/NOTES.txt"}
    assert needed | {"templates/tests/broadcast.yaml", "files/valkey/start-valkey.sh"} <= names
    assert not [name for name in names if name.startswith(("ci/", "tests/", "."))]
    run("helm", "template", RELEASE, package, "--set", "image.repository=carillon")


def test_a_chart_above_this_one_can_bring_it_along(tmp_path: Path) -> None:
    (tmp_path / "Chart.yaml").write_text("{apiVersion: v2, name: house, version: 1.0.0}")
    (tmp_path / "values.yaml").write_text(
        "{global: {domain: example.org}, carillon: {host: chat.example.org}}"
    )
    shutil.copytree(CHART, tmp_path / "charts" / "carillon")
    text = run("helm", "template", RELEASE, tmp_path, "--set", "carillon.image.repository=carillon")
    assert f"name: {RELEASE}-carillon-node" in text


def test_a_kubernetes_that_is_too_old_is_refused() -> None:
    assert "chart requires kubeVersion: >=1.30.0-0" in refusal("--kube-version", "1.29.0")


def test_every_value_set_is_read_by_a_unit_test() -> None:
    suites = "".join(suite.read_text() for suite in CHART.glob("tests/*_test.yaml"))
    assert [path.name for path in VALUE_SETS if f"{path.parent.name}/{path.name}" not in suites] == []


def test_every_template_has_a_unit_test() -> None:
    suites = "".join(suite.read_text() for suite in CHART.glob("tests/*_test.yaml"))
    templates = {
        str(path.relative_to(CHART / "templates"))
        for path in CHART.glob("templates/**/*")
        if path.is_file() and not path.name.startswith("_")
    }
    assert [name for name in sorted(templates) if name not in suites] == []


def test_every_refusal_has_a_unit_test() -> None:
    suite = (CHART / "tests" / "refusals_test.yaml").read_text()
    refusals = re.findall(
        r"^((?:[a-z]|\{\{ \$).+: .+)$", (CHART / "templates" / "_refusals.tpl").read_text(), re.M
    )
    assert len(refusals) > 10
    for message in refusals:
        fixed = [text.strip() for text in re.split(r"\{\{.*?\}\}", message) if " " in text.strip()]
        assert fixed[0][:30] in suite, message
