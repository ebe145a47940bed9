"""The images as they are built and run: needs docker or podman (CONTAINER_TOOL says which), no cluster."""

import os
import re
import secrets
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path

import pytest

from deploy.local.ports import HOST, free_ports
from deploy.local.processes import wait_until

ROOT = Path(__file__).parents[2]
TOOL = os.environ.get("CONTAINER_TOOL") or shutil.which("docker") or shutil.which("podman") or "docker"
IMAGE = "carillon-test"
PATIENCE = 90.0
STOP_SECONDS = 15
"""What docker/compose.yaml gives a node; a pod has more."""

RESTRICTED = ("--read-only", "--tmpfs=/tmp", "--cap-drop=ALL", "--security-opt=no-new-privileges")


def tool(*arguments: str, expect: int | None = 0) -> str:
    """What it printed, both streams. Fails with it when the exit code is another."""
    ended = subprocess.run(
        [TOOL, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    said = f"{' '.join(arguments)} -> {ended.returncode}\n{ended.stdout}"
    assert expect is None or ended.returncode == expect, said
    return ended.stdout


def build(tag: str, *words: str) -> str:
    """The image's name. Built by the command that people use."""
    command = ["make", *words, f"IMAGE={IMAGE}", f"TAG={tag}", f"CONTAINER_TOOL={TOOL}"]
    subprocess.run(command, cwd=ROOT, check=True)
    return f"{IMAGE}:{tag}"


@pytest.fixture(scope="module")
def runtime() -> str:
    return build("runtime", "image", "TARGET=runtime")


@pytest.fixture(scope="module")
def dev() -> str:
    return build("dev", "image", "TARGET=dev")


@pytest.fixture(scope="module")
def load() -> str:
    return build("load", "load-image").replace(":", "-load:")


@pytest.fixture(params=["runtime", "load"])
def shipped(request: pytest.FixtureRequest) -> str:
    return str(request.getfixturevalue(request.param))


class Container:
    """A node in a container, on ports of this machine."""

    def __init__(self, image: str, *arguments: str) -> None:
        self.port, self.internal_port = free_ports(2)
        self.name = f"carillon-test-{secrets.token_hex(4)}"
        environment = {
            "SECRET_KEYS": secrets.token_hex(32),
            "ALLOWED_HOSTS": "localhost",
            "PUBLIC_HOST": HOST,
            "PUBLIC_PORT": str(self.port),
            "INTERNAL_HOST": HOST,
            "INTERNAL_PORT": str(self.internal_port),
            "DATABASE_URL": "sqlite:////tmp/carillon.sqlite3",
        }
        variables = [f"--env={name}={value}" for name, value in environment.items()]
        tool("run", "--detach", f"--name={self.name}", "--network=host", *variables, *arguments, image)

    def execute(self, *command: str, expect: int | None = 0) -> str:
        return tool("exec", self.name, *command, expect=expect)

    def get(self, path: str, *, internal: bool = False) -> tuple[int, str]:
        """Status and body; 0 when nobody answers."""
        port = self.internal_port if internal else self.port
        http = HTTPConnection(HOST, port, timeout=10)
        try:
            http.request("GET", path, headers={"Host": "localhost"})
            response = http.getresponse()
            return response.status, response.read().decode()
        except (OSError, HTTPException):
            return 0, ""
        finally:
            http.close()

    def wait_until_ready(self) -> None:
        ready = wait_until(lambda: self.get("/readyz", internal=True)[0] == 200, PATIENCE)
        assert ready, tool("logs", self.name)


@contextmanager
def container(image: str, *arguments: str) -> Iterator[Container]:
    """Ready, with an empty database."""
    one = Container(image, *arguments)
    try:
        one.wait_until_ready()
        one.execute("python", "-m", "app.manage", "migrate", "--check", expect=1)
        one.execute("python", "-m", "app.manage", "migrate")
        one.execute("python", "-m", "app.manage", "migrate", "--check")
        yield one
    finally:
        tool("rm", "--force", one.name)


@pytest.mark.parametrize("user", ["10001:10001", "12345:0"])
def test_a_node_serves_without_any_right_and_ends_when_it_is_told_to(runtime: str, user: str) -> None:
    with container(runtime, *RESTRICTED, f"--user={user}") as node:
        assert "/gunicorn\0" in node.execute("cat", "/proc/1/cmdline")
        assert node.get("/livez", internal=True) == (200, "live\n")
        status, page = node.get("/")
        assert status == 200
        hashed = re.findall(r'"(/static/chat/base\.[0-9a-f]{12}\.css)"', page)
        assert hashed and node.get(hashed[0])[0] == 200
        tool("stop", f"--time={STOP_SECONDS}", node.name)
        assert tool("inspect", "--format={{.State.ExitCode}}", node.name).strip() == "0", tool(
            "logs", node.name
        )


def test_without_secrets_it_ends_with_one_line_that_names_what_is_missing(runtime: str) -> None:
    name = f"carillon-test-{secrets.token_hex(4)}"
    # Its exit code is asked for afterwards: with --rm, Podman behind a docker client forgets it.
    said = tool("run", f"--name={name}", runtime, expect=None)
    code = tool("inspect", "--format={{.State.ExitCode}}", name).strip()
    tool("rm", "--force", name)
    assert code == "1"
    assert re.fullmatch(r'carillon: Environment variable "SECRET_KEYS" invalid: .*\n', said), said


def test_no_image_can_install_or_compile_anything(shipped: str) -> None:
    found = tool("run", "--rm", shipped, "sh", "-c", "command -v pip pip3 uv gcc cc ld make", expect=None)
    assert found == ""
    code = (
        "import importlib.util as u; print([n for n in ('pip', 'ensurepip', 'setuptools') if u.find_spec(n)])"
    )
    for python in ("python", "/usr/local/bin/python3"):
        assert tool("run", "--rm", shipped, python, "-c", code) == "[]\n"


def test_nothing_of_an_image_can_be_changed_by_the_one_who_runs_it(shipped: str) -> None:
    script = "find / -xdev -writable ! -type l ! -path '/proc/*' ! -path '/sys/*' ! -path '/dev/*'"
    writable = tool("run", "--rm", "--cap-drop=ALL", shipped, "sh", "-c", f"{script} 2>&1 || true").split(
        "\n"
    )
    allowed = re.compile(r"(/tmp|/var/tmp|/run/lock|/var/lock)\b|find: .*Permission denied|$")
    assert [path for path in writable if not allowed.match(path)] == []


def test_all_code_is_byte_compiled_and_its_source_is_never_asked(shipped: str) -> None:
    code = """if True:
        from importlib.util import cache_from_source
        from pathlib import Path
        sources = {*Path("/app").rglob("*.py"), *Path("/opt/venv/lib").rglob("site-packages/[dgl]*/**/*.py")}
        assert len(sources) > 100
        for source in sources:
            compiled = Path(cache_from_source(str(source)))
            flags = compiled.read_bytes()[4] if compiled.exists() else None
            if flags != 1 and "-tpl" not in source.name and "conf/" not in str(source):
                print(source, flags)
    """
    assert tool("run", "--rm", shipped, "python", "-c", code) == ""


@pytest.mark.parametrize("user", ["10001:10001", "12345:0"])
def test_a_load_test_runs_without_any_right_and_ends_with_its_verdict(load: str, user: str) -> None:
    (port,) = free_ports(1)
    words = ["python", "-m", "locust", "--headless", "--locustfile=loadtest/scenarios/cross_node.py"]
    words += [f"--host=http://{HOST}:{port}", "--processes=2", "--html=/tmp/report.html"]
    name = f"carillon-test-{secrets.token_hex(4)}"
    said = tool(
        "run", f"--name={name}", "--network=host", *RESTRICTED, f"--user={user}", load, *words, expect=None
    )
    code = tool("inspect", "--format={{.State.ExitCode}}", name).strip()
    tool("rm", "--force", name)
    assert (code, "NO DATA: POST /accounts/guest/" in said) == ("3", True), said


def test_the_images_hold_what_they_are_for(runtime: str, load: str) -> None:
    assert tool("run", "--rm", runtime, "ls", "-A", "/app").split() == ["app", "static"]
    assert tool("run", "--rm", load, "ls", "-A", "/app").split() == ["loadtest"]
    assert "bench" not in tool("run", "--rm", load, "ls", "/app/loadtest").split()


def test_an_image_says_which_it_is(shipped: str) -> None:
    labels = '{{index .Config.Labels "org.opencontainers.image.%s"}}'
    with (ROOT / "pyproject.toml").open("rb") as file:
        version = tomllib.load(file)["project"]["version"]
    assert tool("inspect", f"--format={labels % 'version'}", shipped).strip() == version
    assert re.match(r"[0-9a-f]{40}", tool("inspect", f"--format={labels % 'revision'}", shipped))


def test_an_edit_shows_without_a_new_image_and_a_broken_one_does_no_harm(dev: str) -> None:
    with container(dev, "--cap-drop=ALL") as node:

        def edit(file: str, old: str, new: str) -> None:
            node.execute("sed", "-i", f"s/{old}/{new}/", f"/app/app/{file}")

        def shows(path: str, text: str, *, internal: bool = False) -> bool:
            return wait_until(lambda: text in node.get(path, internal=internal)[1], PATIENCE)

        edit("chat/static/chat/base.css", ":root", ":root.edited")
        assert shows("/static/chat/base.css", ":root.edited")
        edit("chat/templates/base.html", "<main", "<main data-edited")
        assert shows("/", "<main data-edited")
        edit("observability/health.py", '"live"', '"edited"')
        assert shows("/livez", "edited", internal=True)
        edit("settings/__init__.py", "^import sys$", "import sys (")
        assert wait_until(lambda: node.get("/livez", internal=True)[0] == 0, PATIENCE)
        edit("settings/__init__.py", "^import sys ($", "import sys")
        assert shows("/livez", "edited", internal=True)
        assert node.execute("sh", "-c", "command -v tar && id -u").split()[-1] == "10001"
