"""A node that is told to leave lets its connections go, one after the other, and says when to come back.

The whole of it on real processes; the rules are in tests/unit/serving/test_pace.py.
"""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from websockets.frames import Close, Opcode

from deploy.local.processes import wait_until
from deploy.local.redis_servers import RedisServers
from tests.integration.serving.client import HOST, PATIENCE, Client, upgrade_request
from tests.integration.serving.servers import Server, prepare_database, server
from tests.integration.test_as_a_pod import worker_of
from tests.visitor import Door, Visitor

NEVER = {"DRAIN_SECONDS": "3600", "ACCEPT_PER_SECOND": "0.001"}
"""Nobody is let go within the time of a test, unless the node hurries."""


class Leave:
    """How one client was let go: what it heard before, and what it was told."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.retry_after = -1.0
        self.code = 0


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as one:
        yield one


async def crowd(stack: AsyncExitStack, port: int, count: int, path: str = "/realtime/") -> list[Client]:
    """So many clients, greeted and in one room."""
    clients = await asyncio.gather(*(Client.connect(port, path) for _ in range(count)))
    for client in clients:
        await stack.enter_async_context(client)
        await client.hello()
    await asyncio.gather(*(client.command("join", group="room") for client in clients))
    return clients


async def leaving(client: Client) -> Leave:
    """Listens until it is let go; answers the close, as clients do."""
    leave = Leave()
    while True:
        opcode, data = await client.hear()
        if opcode is Opcode.CLOSE:
            leave.code = Close.parse(data).code
            client.frame(Opcode.CLOSE, data[:2])
            await client.ended()
            return leave
        if opcode is Opcode.PING:
            client.frame(Opcode.PONG, data)
        if opcode is Opcode.TEXT:
            message: dict[str, Any] = json.loads(data)
            if message["event"] == "hello":
                continue
            if message["event"] == "connection.released":
                leave.retry_after = message["data"]["retry_after"]
            else:
                assert leave.retry_after < 0, "nothing comes behind the hint"
                leave.numbers.append(message["data"]["number"])


async def leaves(clients: list[Client]) -> list[Leave]:
    """In the order in which they were let go."""
    gone: list[Leave] = []

    async def follow(client: Client) -> None:
        gone.append(await leaving(client))

    await asyncio.gather(*map(follow, clients))
    return gone


async def until(condition: Any) -> None:
    assert await asyncio.to_thread(wait_until, condition, PATIENCE)


async def ends_well(node: Server) -> None:
    assert await asyncio.to_thread(node.process.wait, PATIENCE) == 0
    assert not [line for line in node.log if "SIGKILL" in line or "TIMEOUT" in line]


async def speak(client: Client, stop: asyncio.Event) -> int:
    """Says one number after the other; returns how many."""
    number = 0
    while not stop.is_set():
        await client.command("publish", group="room", first=number)
        number += 1
        await asyncio.sleep(0.01)
    return number


async def test_300_leave_at_the_rate_that_another_node_can_take_and_hear_what_is_said_until_the_last(
    redis_servers: RedisServers, stack: AsyncExitStack
) -> None:
    sentinels = ",".join(f"{host}:{port}" for host, port in redis_servers.sentinel_addresses)
    bus = {"REDIS_SENTINELS": sentinels, "REDIS_PREFIX": secrets.token_hex(4)}
    limits = {"COMMANDS_PER_SECOND": "1000", "COMMANDS_BURST": "1000"}
    with ExitStack() as nodes:
        # By itself it would let all of them go within one step.
        both = bus | limits
        leaves_ = nodes.enter_context(server(NODE_NAME="leaves", ACCEPT_PER_SECOND="1000000", **both))
        stays = nodes.enter_context(server(NODE_NAME="stays", ACCEPT_PER_SECOND="200", **both))
        clients = await crowd(stack, leaves_.port, 300)
        [speaker] = await crowd(stack, stays.port, 1)
        await until(lambda: '"stays"' in leaves_.get(leaves_.internal_port, "/peers")[1])
        stop = asyncio.Event()
        speaking = asyncio.create_task(speak(speaker, stop))
        leaves_.process.terminate()
        gone = await leaves(clients)
        stop.set()
        said = await speaking
        await ends_well(leaves_)
        assert stays.status(stays.internal_port, "/readyz") == 200
    assert [one.code for one in gone] == [1012] * 300
    assert all(0 <= one.retry_after <= 31 for one in gone)
    assert len({one.retry_after for one in gone}) > 100, "they come back spread out"
    for one in gone:
        assert one.numbers == list(range(len(one.numbers))), "nothing is missing before the leave"
    assert len(gone[-1].numbers) >= len(gone[0].numbers) + 5, "they did not leave at once"
    assert len(gone[-1].numbers) <= said


@pytest.mark.parametrize("path", ["/realtime/", "/mailbox/", "/stock/"])
async def test_a_lone_node_lets_go_of_every_kind_of_connection(stack: AsyncExitStack, path: str) -> None:
    with server(ACCEPT_PER_SECOND="40") as node:
        clients = [await stack.enter_async_context(await Client.connect(node.port, path)) for _ in range(20)]
        if path != "/stock/":
            for client in clients:
                await client.hello()
        node.process.terminate()
        gone = await leaves(clients)
        await ends_well(node)
    assert [one.code for one in gone] == [1012] * 20
    if path != "/stock/":
        assert all(one.retry_after >= 0 for one in gone)


async def test_meanwhile_it_is_not_ready_and_serves_until_those_who_send_clients_have_noticed(
    stack: AsyncExitStack,
) -> None:
    with server(DRAIN_NOTICE_SECONDS="3600", **NEVER) as node:
        [early] = await crowd(stack, node.port, 1)
        node.process.terminate()
        await until(lambda: node.metric("carillon_draining") == 1)
        assert node.get(node.internal_port, "/readyz") == (503, "not accepting connections\n")
        assert node.status(node.internal_port, "/livez") == 200
        [late] = await crowd(stack, node.port, 1)
        assert await late.command("echo", number=1) == {"number": 1}
        await until(lambda: node.metric("carillon_drain_seconds") > 0)
        node.process.terminate()
        assert [one.code for one in await leaves([early, late])] == [1012] * 2
        await ends_well(node)


@pytest.mark.parametrize("whom", ["gunicorn", "the worker"])
async def test_a_second_sigterm_hurries_and_spreads_the_clients_by_what_it_tells_them(
    stack: AsyncExitStack, whom: str
) -> None:
    with server(**NEVER) as node:
        worker = worker_of(node)
        clients = await crowd(stack, node.port, 50)
        node.process.terminate()
        await until(lambda: node.metric("carillon_draining") == 1)
        for client in clients:  # nobody was let go
            assert await client.command("echo", number=1) == {"number": 1}
        os.kill(node.process.pid if whom == "gunicorn" else worker, signal.SIGTERM)
        gone = await leaves(clients)
        await ends_well(node)
    assert [one.code for one in gone] == [1012] * 50
    hints = sorted(one.retry_after for one in gone)
    assert hints[-1] - hints[0] > 10, "the others take one per second"


async def test_the_time_to_drain_wins_over_what_the_others_can_take(stack: AsyncExitStack) -> None:
    with server(DRAIN_SECONDS="2", ACCEPT_PER_SECOND="0.001", COMMANDS_PER_PERSON="1000") as node:
        clients = await crowd(stack, node.port, 300)
        node.process.terminate()
        gone = asyncio.create_task(leaves(clients))
        await until(lambda: node.metric("carillon_drain_out_of_time") == 1)
        assert [one.code for one in await gone] == [1012] * 300
        await ends_well(node)


async def test_a_client_that_stands_still_does_not_delay_the_end(stack: AsyncExitStack) -> None:
    program = (
        "import os, signal, socket, sys; s = socket.create_connection(('127.0.0.1', int(sys.argv[1])));"
        f"s.sendall({upgrade_request('/realtime/')!r}); s.recv(4096); os.kill(os.getpid(), signal.SIGSTOP)"
    )
    with server(SHUTDOWN_SECONDS="1") as node:
        stopped = subprocess.Popen([sys.executable, "-c", program, str(node.port)])  # noqa: ASYNC220
        try:
            await until(lambda: node.metric('carillon_connections{path="fast"}') == 1)
            await until(lambda: Path(f"/proc/{stopped.pid}/stat").read_text().split()[2] == "T")
            [healthy] = await crowd(stack, node.port, 1)
            node.process.terminate()
            assert (await leaving(healthy)).code == 1012
            await ends_well(node)
        finally:
            stopped.kill()
            stopped.wait()


def test_a_listener_is_told_when_to_come_back_and_its_response_ends(tmp_path: Path) -> None:
    prepare_database(tmp_path)
    with server("carillon", DATA_FOLDER=str(tmp_path)) as node:
        visitor = Visitor(Door(f"http://{HOST}:{node.port}", (HOST, node.port)))
        visitor.enter_as_guest("ada")
        with closing(HTTPConnection(HOST, node.port, timeout=PATIENCE)) as http:
            http.request("GET", "/rooms/lobby/events/", headers={"Cookie": visitor.cookie})
            response = http.getresponse()
            assert response.readline() == b"event: snapshot\n"
            node.process.terminate()
            rest = response.read().decode()
        *_, last, _ = rest.split("\n\n")
        assert last.startswith("retry: ")
        assert int(last.removeprefix("retry: ")) >= 1000
        assert node.process.wait(PATIENCE) == 0


async def test_a_connection_is_handed_over_when_it_is_old_and_the_node_goes_on(stack: AsyncExitStack) -> None:
    with server(CONNECTION_AGE_SECONDS="1", PING_SECONDS="2") as node:
        connecting = (Client.connect(node.port, "/realtime/") for _ in range(20))
        clients = [await stack.enter_async_context(one) for one in await asyncio.gather(*connecting)]
        gone = await leaves(clients)
        assert [one.code for one in gone] == [1012] * 20
        assert all(0 <= one.retry_after <= 1 for one in gone)
        assert len({one.retry_after for one in gone}) > 10
        assert node.metric('carillon_connections_released_total{reason="age"}') == 20
        assert node.status(node.internal_port, "/readyz") == 200
        async with await Client.connect(node.port, "/realtime/") as again:
            await again.hello()


# Under gunicorn ------------------------------------------------------------------------------------------


async def test_a_worker_that_drains_for_longer_than_gunicorn_waits_for_signs_of_life_is_left_alone(
    stack: AsyncExitStack,
) -> None:
    with server(DRAIN_NOTICE_SECONDS="5", GUNICORN_CMD_ARGS="--timeout 2") as node:
        [client] = await crowd(stack, node.port, 1)
        worker = worker_of(node)
        os.kill(worker, signal.SIGTERM)
        assert (await leaving(client)).code == 1012
        await until(lambda: node.status(node.internal_port, "/readyz") == 200)
        assert worker_of(node) != worker
        assert not [line for line in node.log if "TIMEOUT" in line]


async def test_a_reload_drains_the_old_worker_while_the_new_one_serves(stack: AsyncExitStack) -> None:
    with server(DRAIN_NOTICE_SECONDS="2") as node:
        [client] = await crowd(stack, node.port, 1)
        worker = worker_of(node)
        os.kill(node.process.pid, signal.SIGHUP)
        assert (await leaving(client)).code == 1012
        await until(lambda: worker_of(node) != worker)
        await until(lambda: node.status(node.internal_port, "/readyz") == 200)
        [again] = await crowd(stack, node.port, 1)
        assert await again.command("echo", number=1) == {"number": 1}
        node.process.terminate()
        assert (await leaving(again)).code == 1012
        await ends_well(node)


async def test_a_worker_with_a_number_of_requests_drains_when_it_has_answered_them(
    stack: AsyncExitStack,
) -> None:
    with server(GUNICORN_CMD_ARGS="--max-requests 2") as node:
        [client] = await crowd(stack, node.port, 1)
        worker = worker_of(node)
        for _ in range(2):
            node.status(node.port, "/nowhere/")
        assert (await leaving(client)).code == 1012
        await until(lambda: node.status(node.internal_port, "/readyz") == 200 and worker_of(node) != worker)
