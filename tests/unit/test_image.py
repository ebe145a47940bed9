"""What docker/ promises, as far as it shows without a build; tests/cluster/test_image.py builds it."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.serving import gunicorn_conf

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
LOAD = ROOT / "docker" / "load.Dockerfile"
DOCKERFILES = (DOCKERFILE, LOAD)
IGNORED = ROOT / ".dockerignore"
COMPOSE = ROOT / "docker" / "compose.yaml"
PROXY = ROOT / "docker" / "compose" / "proxy.yaml"

OURS = {"node-1", "node-2", "node-3", "worker", "migrate"}


def instructions(dockerfile: Path) -> list[tuple[str, str]]:
    """A Dockerfile's instructions in order: the word, and the rest on one line."""
    text = re.sub(r"^\s*#.*\n", "", dockerfile.read_text(), flags=re.M)
    lines = re.sub(r"\\\n\s*", " ", text).splitlines()
    return [(line.split(maxsplit=1)[0], line.split(maxsplit=1)[1]) for line in lines if line]


def stages(dockerfile: Path) -> dict[str, list[tuple[str, str]]]:
    """Name of each stage, in order, to its own instructions, the FROM first."""
    found: dict[str, list[tuple[str, str]]] = {}
    name = ""
    for word, rest in instructions(dockerfile):
        if word == "FROM":
            name = rest.rpartition(" AS ")[2]
            found[name] = []
        if name:
            found[name].append((word, rest))
    return found


def compose() -> dict[str, Any]:
    return yaml.safe_load(COMPOSE.read_text())  # type: ignore[no-any-return]


def services() -> dict[str, dict[str, Any]]:
    return compose()["services"]  # type: ignore[no-any-return]


def pinned(image: str) -> bool:
    """Whether it names a host and a version, so that two builds mean the same image."""
    return bool(
        re.fullmatch(r"[a-z0-9.-]+\.[a-z]+/[a-z0-9._/-]+:[a-z-]*\d[\w.-]*(@sha256:[0-9a-f]{64})?", image)
    )


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_every_image_that_is_built_upon_is_pinned_to_a_version(dockerfile: Path) -> None:
    defaults = dict(rest.split("=", 1) for word, rest in instructions(dockerfile) if word == "ARG")
    bases = [
        re.sub(r"\$\{(\w+)\}", lambda found: defaults[found[1]], rest.partition(" AS ")[0])
        for word, rest in instructions(dockerfile)
        if word == "FROM"
    ]
    from_outside = [base for base in bases if base not in stages(dockerfile)]
    assert from_outside
    assert [image for image in from_outside if not pinned(image)] == []


def test_every_image_of_others_that_is_run_is_pinned_to_a_version() -> None:
    images = [service["image"] for name, service in services().items() if name not in OURS]
    assert images
    assert [image for image in images if not pinned(image)] == []


def test_a_build_sees_what_the_images_need_and_nothing_else() -> None:
    everything, *rules = [line for line in IGNORED.read_text().splitlines() if line and line[0] != "#"]
    assert everything == "*"
    let_in = {rule[1:] for rule in rules if rule.startswith("!")}
    copied = {
        source
        for dockerfile in DOCKERFILES
        for word, rest in instructions(dockerfile)
        if word == "COPY" and "--from=" not in rest
        for source in rest.split()[:-1]
        if not source.startswith("--")
    }
    assert let_in == copied
    assert all((ROOT / path).exists() for path in let_in)
    assert "**/__pycache__" in rules[len(let_in) :], "byte code of this machine would come along"


def test_the_default_image_is_the_one_for_production() -> None:
    assert [list(stages(dockerfile))[-1] for dockerfile in DOCKERFILES] == ["runtime", "runtime"]


@pytest.mark.parametrize("target", ["runtime", "dev"])
def test_the_image_is_run_by_a_numbered_user_and_a_command_without_a_shell(target: str) -> None:
    own = dict(stages(DOCKERFILE)[target])
    assert own["USER"] == "10001:10001"
    assert own["CMD"].startswith("[") and dict(stages(DOCKERFILE)["base"])["ENTRYPOINT"] == "[]"


def test_the_image_of_load_tests_is_run_by_the_same_user_without_a_shell() -> None:
    own = dict(stages(LOAD)["runtime"])
    assert own["USER"] == "10001:10001"
    assert own["ENTRYPOINT"] == "[]" and own["CMD"].startswith("[")


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda path: path.name)
def test_what_is_installed_is_locked_and_never_compiled(dockerfile: Path) -> None:
    installs = [rest for word, rest in instructions(dockerfile) if word == "RUN" and " install " in rest]
    assert installs
    for command in installs:
        assert "--require-hashes" in command and "--only-binary :all:" in command


def test_no_secret_has_a_value_in_an_image_or_in_the_compose_file() -> None:
    secret = re.compile(r"(SECRET|PASSWORD|AUTH|KEYS|URL)\w*[=:]", re.I)
    for dockerfile in DOCKERFILES:
        declared = [rest for word, rest in instructions(dockerfile) if word in {"ENV", "ARG"}]
        assert [rest for rest in declared if secret.search(rest)] == []
    for name, service in services().items():
        for variable, value in (service.get("environment") or {}).items():
            if re.search(r"SECRET_KEYS|PASSWORD|AUTH|DATABASE_URL", variable):
                given = re.findall(r"\$\{(\w+)([^}]*)\}", value)
                assert given and all(rest.startswith(":?") for _, rest in given), f"{name}: {variable}"


def test_the_compose_file_sets_only_settings_that_there_are() -> None:
    documented = set(re.findall(r"^\| `([A-Z_]+)` \|", (ROOT / "docs" / "settings.md").read_text(), re.M))
    for name in OURS:
        assert set(services()[name]["environment"]) <= documented


def test_every_service_that_stays_says_how_it_is() -> None:
    for name, service in services().items():
        if service["restart"] != "no":
            assert service["healthcheck"]["test"], name


def test_every_container_of_ours_is_as_locked_up_as_a_pod() -> None:
    for name in OURS:
        service = services()[name]
        assert service["read_only"] and service["tmpfs"] == ["/tmp"], name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name


def test_a_node_is_given_more_time_to_leave_than_gunicorn_gives_it() -> None:
    grace = int(services()["node-1"]["stop_grace_period"].removesuffix("s"))
    assert grace > gunicorn_conf.graceful_timeout


def test_the_proxy_leads_to_every_node_and_asks_each_whether_it_is_ready() -> None:
    balancer = yaml.safe_load(PROXY.read_text())["http"]["services"]["nodes"]["loadBalancer"]
    assert {server["url"] for server in balancer["servers"]} == {
        f"http://{name}:8000" for name in services() if name.startswith("node-")
    }
    assert (balancer["healthCheck"]["port"], balancer["healthCheck"]["path"]) == (9000, "/readyz")


def test_every_service_has_an_address_of_its_own() -> None:
    addresses = [service["networks"]["carillon"]["ipv4_address"] for service in services().values()]
    assert len(addresses) == len(set(addresses)) == len(services())


def make_env(folder: Path) -> str:
    script = folder / "docker" / "compose" / "make-env.sh"
    script.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(COMPOSE.parent / "compose" / "make-env.sh", script)
    subprocess.run(["sh", str(script)], cwd=folder, check=True, capture_output=True)
    return (folder / "docker" / ".env").read_text()


def test_the_env_file_has_every_secret_anew_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    first, second = make_env(tmp_path / "one"), make_env(tmp_path / "two")
    values = dict(line.split("=") for line in first.splitlines())
    assert set(values) == set(re.findall(r"\$\{(\w+):\?", COMPOSE.read_text()))
    assert all(re.fullmatch(r"[0-9a-f]{48}", value) for value in values.values())
    assert len(set(values.values()) | {line.split("=")[1] for line in second.splitlines()}) == 6
    assert (tmp_path / "one" / "docker" / ".env").stat().st_mode & 0o077 == 0


def test_an_env_file_that_is_there_is_never_overwritten(tmp_path: Path) -> None:
    assert make_env(tmp_path) == make_env(tmp_path)
