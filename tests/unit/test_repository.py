"""The house rules that no other tool checks."""

import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prometheus_client.metrics import MetricWrapperBase

from app import VERSION
from app.observability import metrics
from app.observability.weighted_histogram import WeightedHistogram

ROOT = Path(__file__).parents[2]
THIS_FILE = Path(__file__).relative_to(ROOT)
CONTAINERS = (
    "deploy/skaffold/",
    "deploy/stores/",
    "docker/",
    "docs/image.md",
    "helm/",
    "skaffold.yaml",
    "tests/chart/",
    "tests/cluster/",
    "tests/unit/test_image.py",
)
"""Files that speak of what is inside containers."""


def tracked() -> Iterator[tuple[str, str]]:
    """Every text file of the repository that could be committed: its path and its text."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if name == str(THIS_FILE) or not path.is_file():
            continue
        try:
            yield name, path.read_text()
        except UnicodeDecodeError:
            continue


def lines_with(pattern: str, *, outside: tuple[str, ...] = ()) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()}"
        for name, text in tracked()
        if not name.startswith(outside)
        for number, line in enumerate(text.splitlines(), 1)
        if re.search(pattern, line)
    ]


def project() -> dict[str, Any]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)["project"]  # type: ignore[no-any-return]


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def asked_for(lines: list[str]) -> set[str]:
    names = (re.match(r"[A-Za-z0-9._-]+", line) for line in lines)
    return {normal(name.group()) for name in names if name}


def locked(name: str) -> dict[str, str]:
    """Package to version."""
    found = re.findall(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", (ROOT / "requirements" / name).read_text(), re.M)
    return {normal(package): version for package, version in found}


def test_nothing_is_left_for_later() -> None:
    assert not lines_with(r"\b(TODO|FIXME|XXX)\b")


def test_no_path_of_a_machine_is_written_down() -> None:
    assert not lines_with(r"(?<![\w.~$}])/(home|Users|root|work)(/|\b)", outside=(".ci/run",))
    # In a container it is the one writable folder, whatever the machine.
    assert not lines_with(r"(?<![\w.~$}])/tmp(/|\b)", outside=(".ci/run", *CONTAINERS))


def test_only_the_ci_script_may_look_beside_the_repository() -> None:
    assert not lines_with(r"\.\./shared", outside=(".ci/run",))


def test_no_package_registry_is_named_by_its_address() -> None:
    assert not lines_with(r"(pypi\.org|pythonhosted|registry\.npmjs|proxy\.golang|deb\.debian\.org)")


def test_only_the_settings_read_the_environment() -> None:
    reads = [
        line
        for line in lines_with(r"\b(environ|getenv)\b")
        if line.startswith("app/") and not re.search(r'environ\.setdefault\("DJANGO_SETTINGS_MODULE"', line)
    ]
    # WSGI calls its request `environ` too.
    assert [line for line in reads if re.search(r"os\.(environ|getenv)|from os", line)] == []


def test_every_make_target_is_explained_and_is_no_file() -> None:
    text = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([a-z][a-z-]*):", text, re.M))
    explained = set(re.findall(r"^([a-z][a-z-]*):.*## \S", text, re.M))
    phony = set(re.findall(r"^\.PHONY: (.*)$", text, re.M)[0].split())
    assert targets == explained
    assert targets == phony


def test_the_locked_requirements_are_in_step_with_what_is_asked_for() -> None:
    app = asked_for(project()["dependencies"])
    traces = app | asked_for(project()["optional-dependencies"]["traces"])
    run = app | asked_for((ROOT / "requirements" / "run.in").read_text().splitlines())
    dev = run | traces | asked_for((ROOT / "requirements" / "dev.in").read_text().splitlines())
    for name, asked in (("app.txt", app), ("traces.txt", traces), ("run.txt", run), ("dev.txt", dev)):
        assert not asked - locked(name).keys(), f"run `make lock`: {name} lacks {asked - locked(name).keys()}"
    assert locked("app.txt").items() <= locked("run.txt").items() <= locked("dev.txt").items()
    assert locked("app.txt").items() <= locked("traces.txt").items() <= locked("dev.txt").items()
    reload = asked_for((ROOT / "requirements" / "reload.in").read_text().splitlines())
    assert not reload - locked("reload.txt").keys(), "run `make lock`"
    load = asked_for((ROOT / "requirements" / "load.in").read_text().splitlines())
    assert not load - locked("load.txt").keys(), "run `make lock`"
    assert "gevent" not in locked("dev.txt"), "gevent and the tests' event loops do not go together"
    for name in locked("reload.txt").keys() & locked("traces.txt").keys():  # they share a virtual environment
        assert locked("reload.txt")[name] == locked("traces.txt")[name], f"run `make lock`: {name}"


def test_every_locked_requirement_has_its_hashes() -> None:
    for name in ("app.txt", "reload.txt", "traces.txt", "run.txt", "dev.txt", "load.txt"):
        text = (ROOT / "requirements" / name).read_text()
        for requirement in re.split(r"\n(?=\S)", text):
            assert "--hash=sha256:" in requirement or not requirement.strip(), f"{name}: {requirement[:60]}"


def test_every_metric_is_moved_by_something() -> None:
    code = "".join(text for name, text in tracked() if name.startswith("app/") and name.endswith(".py"))
    kinds = (MetricWrapperBase, WeightedHistogram)
    declared = [name for name, value in vars(metrics).items() if isinstance(value, kinds)]
    assert declared
    moves = "inc|dec|set|set_function|observe|labels"
    still = [name for name in declared if not re.search(rf"\b{name}\.({moves})\(", code)]
    assert not still


def test_every_setting_is_read_by_something() -> None:
    code = {name: text for name, text in tracked() if re.match(r"app/.*\.(py|html)$", name)}
    settings = "".join(text for name, text in code.items() if name.startswith("app/settings/"))
    others = "".join(text for name, text in code.items() if not name.startswith("app/settings/"))
    declared = set(re.findall(r"^([A-Z][A-Z_]+)\b[^=\n]*= (?:\w+\()?env\.", settings, re.M))
    assert declared
    unread = {
        name
        for name in declared
        if not re.search(rf"\b{name}\b", others) and len(re.findall(rf"\b{name}\b", settings)) < 3
    }
    assert not unread


def test_the_release_that_a_node_names_is_that_of_the_project() -> None:
    assert project()["version"] == VERSION
