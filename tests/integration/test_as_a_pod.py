"""A node as a container has it: little is allowed, every address counts, and its end is orderly."""

import asyncio
import os
import re
import resource
import socket
from pathlib import Path

import pytest

from deploy.local.processes import wait_until
from tests.integration.serving.client import PATIENCE, Client, upgrade_request
from tests.integration.serving.servers import Server, server
from tests.postgres_server import PostgresServer

POD_NAME = "carillon-node-" + "x" * 33 + "-7d9c8b5f6-2xk4q"


def worker_of(node: Server) -> int:
    """The pid of gunicorn's one worker."""
    pid = node.process.pid
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


async def test_readiness_ends_with_the_signal_and_the_node_with_code_0() -> None:
    assert len(POD_NAME) == 63
    with server(NODE_NAME=POD_NAME, SHUTDOWN_SECONDS="2") as node:
        async with await Client.connect(node.port, "/realtime/") as client:
            assert (await client.hello())["node"] == POD_NAME
            assert node.status(node.internal_port, "/readyz") == 200
            node.process.terminate()
            # This client does not answer the close: the node waits for it, and is not ready meanwhile.
            assert await client.closed() == 1012
            assert node.status(node.internal_port, "/readyz") == 503
            assert node.status(node.internal_port, "/livez") == 200
        assert await asyncio.to_thread(node.process.wait, PATIENCE) == 0


def test_a_soft_limit_of_descriptors_is_raised_to_the_hard_one() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    try:
        with server() as node:
            limits = Path(f"/proc/{worker_of(node)}/limits").read_text()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    found = re.search(r"Max open files +(\d+) +(\d+)", limits)
    assert found is not None and found[1] == found[2] == str(hard)


@pytest.mark.parametrize("host", ["::", "[::]"])
def test_on_every_address_means_ipv4_and_ipv6(host: str) -> None:
    with server(PUBLIC_HOST=host, INTERNAL_HOST=host) as node:
        for port in (node.port, node.internal_port):
            for address in ("127.0.0.1", "::1"):
                socket.create_connection((address, port), PATIENCE).close()


def test_on_every_address_of_ipv4() -> None:
    with server(PUBLIC_HOST="0.0.0.0", INTERNAL_HOST="0.0.0.0") as node:
        for port in (node.port, node.internal_port):
            socket.create_connection(("127.0.0.1", port), PATIENCE).close()


async def test_nothing_is_written_to_disk(tmp_path: Path) -> None:
    temporary, home, data = (tmp_path / name for name in ("temporary", "home", "data"))
    for folder in (temporary, home, data):
        folder.mkdir()
    before = stamps()
    folders = {"TMPDIR": str(temporary), "HOME": str(home), "DATA_FOLDER": str(data)}
    # The journal opens its database when the node starts, and SQLite's is a file.
    with PostgresServer() as postgres, server(**folders, **surroundings(postgres)) as node:
        async with await Client.connect(node.port, "/realtime/") as client:
            await client.hello()
            await client.command("join", group="room")
        async with await Client.open(node.port) as client:
            client.write(upgrade_request("/nowhere/"))
            await client.response()
        assert node.get(node.internal_port, "/metrics")[0] == 200
        assert written_by(node.process.pid) == written_by(worker_of(node)) == []
    assert wait_until(lambda: not any(tmp_path.glob("*/*")), PATIENCE)
    assert stamps() == before


def surroundings(postgres: PostgresServer) -> dict[str, str]:
    return {"DATABASE_URL": postgres.url(), "PYTHONDONTWRITEBYTECODE": "1"}


def stamps() -> dict[str, int]:
    """When each folder of the application was last written to."""
    folders = [Path("app"), *(path for path in Path("app").rglob("*") if path.is_dir())]
    return {str(path): path.stat().st_mtime_ns for path in folders if path.name != "__pycache__"}


def written_by(pid: int) -> list[str]:
    """The files that a process has open for writing, but for those without a name."""
    found = []
    for number in os.listdir(f"/proc/{pid}/fd"):
        target = os.readlink(f"/proc/{pid}/fd/{number}")
        flags = re.search(r"^flags:\s*(\d+)", Path(f"/proc/{pid}/fdinfo/{number}").read_text(), re.M)
        assert flags is not None
        writes = int(flags[1], 8) & os.O_ACCMODE != os.O_RDONLY
        if writes and target.startswith("/") and not target.endswith(" (deleted)") and target != os.devnull:
            found.append(target)
    return found
