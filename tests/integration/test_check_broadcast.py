"""`check_broadcast` against real nodes in production: what it finds and says, and that nothing is left."""

import os
import re
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from deploy.local.plan import PROJECT_FOLDER
from deploy.local.ports import HOST, free_ports
from deploy.local.processes import wait_until
from deploy.local.redis_servers import RedisServers
from tests.integration.serving.servers import Server, server
from tests.integration.test_behind_an_ingress import production

PATIENCE = 60.0


class Deployment:
    """Nodes that share a database; whether they share a bus is each one's own setting."""

    def __init__(self, servers: RedisServers, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.stack = stack
        self.environment = production(
            folder,
            ALLOWED_HOSTS="chat.example",
            GUESTS_ALLOWED="false",
            REDIS_SENTINELS=",".join(f"{host}:{port}" for host, port in servers.sentinel_addresses),
            REDIS_PREFIX=f"{folder.name}:",
        )

    def start(self, name: str, **environment: str) -> Server:
        """A node that is ready; in the end it is stopped."""
        environment = self.environment | {"NODE_NAME": name} | environment
        return self.stack.enter_context(server("carillon", **environment))

    def check(self, *arguments: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [sys.executable, "-m", "app.manage", "check_broadcast", *arguments],
            cwd=PROJECT_FOLDER,
            env=os.environ | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ended(self, check: "subprocess.Popen[str]") -> tuple[int, str, str]:
        """Exit code, standard output, and the line on standard error."""
        out, errors = check.communicate(timeout=PATIENCE)
        assert "Traceback" not in errors, errors
        return check.returncode, out, (errors.splitlines() or [""])[-1]

    def stored(self) -> dict[str, int]:
        """How many rows each table has, but for what nodes note of themselves while they run."""
        with closing(sqlite3.connect(self.folder / "carillon.sqlite3", timeout=PATIENCE)) as database:
            names = database.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name <> 'serving_node'"
            ).fetchall()
            return {
                name: database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in names
            }

    def check_rooms(self) -> list[str]:
        with closing(sqlite3.connect(self.folder / "carillon.sqlite3", timeout=PATIENCE)) as database:
            return [slug for (slug,) in database.execute("SELECT slug FROM chat_room WHERE NOT listed")]


def address(node: Server) -> str:
    return f"{HOST}:{node.port}"


@pytest.fixture(scope="module")
def deployment(redis_servers: RedisServers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployment]:
    with ExitStack() as stack:
        yield Deployment(redis_servers, tmp_path_factory.mktemp("deployment"), stack)


@pytest.fixture(scope="module")
def node_1(deployment: Deployment) -> Server:
    return deployment.start("node-1")


@pytest.fixture(scope="module")
def node_2(deployment: Deployment) -> Server:
    return deployment.start("node-2")


@pytest.fixture(scope="module")
def stranger(deployment: Deployment) -> Server:
    """Looks like a node of this deployment, and is on another bus."""
    return deployment.start("stranger", REDIS_PREFIX="elsewhere:")


def test_nodes_that_hear_each_other_pass_and_nothing_is_left(
    deployment: Deployment, node_1: Server, node_2: Server
) -> None:
    before = deployment.stored()
    code, out, said = deployment.ended(deployment.check(address(node_1), address(node_2)))
    assert code == 0, said
    head, *rows = [line.split() for line in out.splitlines()]
    assert head == ["node", "address", "heard", "from", "ms"]
    assert [row[:3] for row in rows] == [
        ["node-1", address(node_1), "node-2"],
        ["node-2", address(node_2), "node-1"],
    ]
    assert deployment.stored() == before


def test_nodes_without_a_common_bus_fail_by_name_and_nothing_is_left(
    deployment: Deployment, node_1: Server, stranger: Server
) -> None:
    before = deployment.stored()
    check = deployment.check(address(node_1), address(stranger), "--seconds", "1")
    code, _, said = deployment.ended(check)
    assert code == 1
    # Through the database they hear each other later: some of it by then, or all.
    others = [("node-1", "stranger"), ("stranger", "node-1")]
    named = "; ".join(rf"{node} (did|does) not hear {other} \(.*\)" for node, other in others)
    assert re.fullmatch(f"CommandError: within 1 s {named}", said), said
    assert deployment.stored() == before


def test_one_node_is_not_two(deployment: Deployment, node_1: Server) -> None:
    check = deployment.check(address(node_1), address(node_1), "--wait", "0.1")
    assert deployment.ended(check)[::2] == (
        1,
        "CommandError: found 1 of 2 nodes within 0.1 s (node-1)",
    )
    assert deployment.ended(deployment.check(address(node_1), "--nodes", "1"))[0] == 0


def test_nodes_that_are_not_there_yet_are_waited_for(deployment: Deployment, node_1: Server) -> None:
    later = free_ports(1)[0]
    check = deployment.check(address(node_1), f"{HOST}:{later}", "--wait", "60")
    assert wait_until(lambda: len(deployment.check_rooms()) == 1, PATIENCE)
    deployment.start("node-3", PUBLIC_PORT=str(later))
    assert deployment.ended(check)[0] == 0


def test_a_node_that_leaves_meanwhile_is_no_fault_when_others_are_there(
    deployment: Deployment, node_1: Server, node_2: Server
) -> None:
    leaving, later = deployment.start("node-5", REDIS_PREFIX="elsewhere:"), free_ports(1)[0]
    addresses = [address(node_1), address(leaving), f"{HOST}:{later}"]
    check = deployment.check(*addresses, "--nodes", "2", "--seconds", "60", "--wait", "60")
    # It waits for what the stranger will never hear, and begins anew when that one is gone.
    assert wait_until(lambda: leaving.metric('carillon_commands_total{outcome="ok"}') > 5, PATIENCE)
    leaving.process.stop(15)
    deployment.start("node-6", PUBLIC_PORT=str(later))
    code, out, said = deployment.ended(check)
    assert code == 0, said
    assert [line.split()[0] for line in out.splitlines()] == ["node", "node-1", "node-6"]


def test_a_check_that_is_told_to_stop_takes_its_room_along(deployment: Deployment, node_1: Server) -> None:
    check = deployment.check(address(node_1), "--wait", "60")
    assert wait_until(lambda: len(deployment.check_rooms()) == 1, PATIENCE)
    check.send_signal(signal.SIGTERM)
    assert deployment.ended(check)[::2] == (130, "CommandError: told to stop")
    assert deployment.check_rooms() == []


def test_what_a_killed_check_left_behind_is_taken_away_an_hour_later(
    deployment: Deployment, node_1: Server
) -> None:
    check = deployment.check(address(node_1), "--wait", "60")
    assert wait_until(lambda: len(deployment.check_rooms()) == 1, PATIENCE)
    check.kill()
    check.communicate()
    once = ["--nodes", "1"]
    assert deployment.ended(deployment.check(address(node_1), *once))[0] == 0
    assert len(deployment.check_rooms()) == 1, "another check may still need it"
    with closing(sqlite3.connect(deployment.folder / "carillon.sqlite3", timeout=PATIENCE)) as database:
        database.execute("UPDATE chat_room SET created_at = '2020-01-01' WHERE NOT listed")
        database.commit()
    assert deployment.ended(deployment.check(address(node_1), *once))[0] == 0
    assert deployment.check_rooms() == []


def test_nodes_with_other_keys_are_said_to_refuse(deployment: Deployment) -> None:
    other = deployment.start("node-4", SECRET_KEYS="o" * 32)
    _, _, said = deployment.ended(deployment.check(address(other), "--nodes", "1", "--wait", "0.1"))
    assert f"{address(other)} refused the upgrade: 401 ticket_invalid" in said


@pytest.mark.parametrize("item", ["carillon", "carillon:http", ":8000", "http://carillon:8000"])
def test_an_address_that_is_none_is_named(deployment: Deployment, item: str) -> None:
    code, _, said = deployment.ended(deployment.check(item))
    assert (code, said) == (1, f"CommandError: expected ADDRESS:PORT, got {item!r}")
