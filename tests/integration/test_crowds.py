"""Many clients at once, slow ones, and ones that end badly: no error to the healthy, nothing left behind."""

import asyncio
import os
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from websockets.frames import Close, Opcode

from tests.integration.serving.client import HOST, PATIENCE, Client, upgrade_request
from tests.integration.serving.servers import Server, prepare_database, server

CYCLES = int(os.environ.get("CROWD_CYCLES", "10000"))
AT_ONCE = 100
EVICTED = 'carillon_connections_closed_total{code="4000"}'

SLOW = {
    "UNSENT_LIMIT_BYTES": "65536",
    "SEND_BUFFER_BYTES": "16384",
    "COMMANDS_PER_SECOND": "1000",
    "COMMANDS_BURST": "1000",
    "SHUTDOWN_SECONDS": "2",
    "LOG_LEVEL": "WARNING",
}


class Silent:
    """A client that joins a group and then reads nothing, until it is told to."""

    def __init__(self, port: int, path: str) -> None:
        self.raw = socket.socket()
        self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self._port = port
        self._path = path

    async def join(self, group: str) -> None:
        self.raw.setblocking(False)
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            await loop.sock_connect(self.raw, (HOST, self._port))
            await loop.sock_sendall(self.raw, upgrade_request(self._path))
            await self._hear(b'"hello"')
            client = Client(asyncio.StreamReader(), Writer(self.raw))  # type: ignore[arg-type]
            client.send("join", group=group)
            await self._hear(b'"reply"')

    async def _hear(self, text: bytes) -> None:
        heard = b""
        while text not in heard:
            heard += await asyncio.get_running_loop().sock_recv(self.raw, 4096)
            assert heard, "the connection has ended"

    async def read_on(self) -> Client:
        """From here on it reads like everybody else."""
        reader, writer = await asyncio.open_connection(sock=self.raw)
        return Client(reader, writer)


class Writer:
    """Enough of a stream's writer to say something over a socket that nobody reads."""

    def __init__(self, raw: socket.socket) -> None:
        self.write = raw.sendall


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Server]:
    prepare_database(tmp_path)
    with server(**SLOW | {"DATA_FOLDER": str(tmp_path)}) as one:
        yield one


@pytest.fixture
async def stack() -> AsyncIterator[AsyncExitStack]:
    async with AsyncExitStack() as one:
        yield one


async def crowd(stack: AsyncExitStack, port: int, path: str, count: int) -> list[Client]:
    """So many clients, connected at once and greeted."""
    clients = await asyncio.gather(*(Client.connect(port, path) for _ in range(count)))
    for client in clients:
        await stack.enter_async_context(client)
    await asyncio.gather(*(client.hello() for client in clients))
    return clients


async def silent_crowd(stack: AsyncExitStack, port: int, path: str, group: str, count: int) -> list[Silent]:
    silent = [Silent(port, path) for _ in range(count)]
    for one in silent:
        stack.callback(one.raw.close)
    await asyncio.gather(*(one.join(group) for one in silent))
    return silent


async def publish(
    client: Client, group: str, event: str, first: int, *, count: int = 1, size: int = 0
) -> None:
    await client.command("publish", group=group, event=event, first=first, count=count, size=size)


async def numbers(client: Client, last: int) -> list[int]:
    """The numbers of all events up to `last`."""
    found: list[int] = []
    while not found or found[-1] != last:
        found.append((await client.event())["data"]["number"])
    return found


async def test_500_connections_opened_at_once_are_all_greeted(node: Server, stack: AsyncExitStack) -> None:
    clients = await crowd(stack, node.port, "/realtime/", 500)
    answers = await asyncio.gather(*(client.command("echo", number=n) for n, client in enumerate(clients)))
    assert [answer["number"] for answer in answers] == list(range(500))
    assert node.log == [line for line in node.log if "ERROR" not in line and "Traceback" not in line]


async def test_twenty_clients_that_never_read_cost_a_thousand_others_nothing(
    node: Server, stack: AsyncExitStack
) -> None:
    healthy = await crowd(stack, node.port, "/realtime/", 1_000)
    await asyncio.gather(*(client.command("join", group="room") for client in healthy))
    await silent_crowd(stack, node.port, "/realtime/", "room", 20)
    resident = (await healthy[0].command("leftovers"))["resident"]
    rounds = 60
    heard = [asyncio.create_task(numbers(client, rounds * 10 - 1)) for client in healthy[1:]]
    most = 0
    for round_ in range(rounds):
        await publish(healthy[0], "room", "test.said", round_ * 10, count=10, size=400)
        if round_ % 20 == 19:
            most = max(most, (await healthy[0].command("leftovers"))["resident"])
    expected = list(range(rounds * 10))
    async with asyncio.timeout(PATIENCE):
        for one in await asyncio.gather(*heard):
            assert one == expected
    assert node.metric(EVICTED) == 20
    assert node.metric('carillon_slow_consumers_total{policy="closed"}') == 20
    assert node.metric('carillon_connections{path="fast"}') == 1_000
    assert most - resident < 20 * 3 * 65_536 + 20 * 2**20, "slow clients are bounded by their budgets"


@pytest.mark.parametrize("path", ["/realtime/", "/mailbox/"])
async def test_a_slow_client_that_reads_again_has_the_newest_value_and_missed_only_what_it_may(
    node: Server, stack: AsyncExitStack, path: str
) -> None:
    [healthy] = await crowd(stack, node.port, path, 1)
    [silent] = await silent_crowd(stack, node.port, path, "room", 1)
    for number in range(300):
        await publish(healthy, "room", "test.typed", number, count=1, size=4_000)
        await publish(healthy, "room", "test.priced", number, count=1, size=0)
    assert node.metric('carillon_slow_consumers_total{policy="dropped"}') > 0
    assert node.metric('carillon_slow_consumers_total{policy="coalesced"}') > 0
    late = await stack.enter_async_context(await silent.read_on())
    prices: list[int] = []
    typed = 0
    while not prices or prices[-1] != 299:
        message = await late.message()
        if message["event"] == "test.priced":
            prices.append(message["data"]["number"])
        typed += message["event"] == "test.typed"
    assert prices == sorted(set(prices)), "an older value followed a newer one"
    assert typed < 300 and len(prices) < 300
    assert await late.command("echo", number=1) == {"number": 1}
    assert node.metric(EVICTED) == 0


@pytest.mark.parametrize("path", ["/realtime/", "/mailbox/"])
async def test_a_slow_client_that_would_miss_something_is_cut_off(
    node: Server, stack: AsyncExitStack, path: str
) -> None:
    [healthy] = await crowd(stack, node.port, path, 1)
    await healthy.command("join", group="room")
    await silent_crowd(stack, node.port, path, "room", 3)
    heard = asyncio.create_task(numbers(healthy, 199))
    [other] = await crowd(stack, node.port, path, 1)
    for number in range(200):
        await publish(other, "room", "test.said", number, count=1, size=4_000)
    assert await heard == list(range(200))
    async with asyncio.timeout(PATIENCE):
        while node.metric("carillon_subscriptions") != 1:  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.02)
    assert node.metric('carillon_slow_consumers_total{policy="closed"}') == 3


@pytest.mark.parametrize("path", ["/realtime/", "/mailbox/"])
async def test_a_client_that_never_reads_does_not_delay_the_end(
    node: Server, stack: AsyncExitStack, path: str
) -> None:
    healthy = await crowd(stack, node.port, path, 20)
    await silent_crowd(stack, node.port, path, "room", 3)
    await publish(healthy[0], "room", "test.typed", 0, count=200, size=1_000)

    async def leave(client: Client) -> int:
        code = await client.closed()
        client.frame(Opcode.CLOSE, Close(code, "").serialize())
        await client.ended()
        return code

    node.process.terminate()
    assert await asyncio.gather(*(leave(client) for client in healthy)) == [1012] * 20
    # Well above SHUTDOWN_SECONDS: it says that the end comes, and not how fast this machine is.
    assert await asyncio.to_thread(node.process.wait, 20) == 0
    assert "exceeded" not in "".join(node.log), "tasks had to be cancelled"


# Bad ends ------------------------------------------------------------------------------------------------

WAYS = ("connected", "disconnected", "crash_now", "crash_later", "hang", "hang and reset", "early", "close")


async def bad_end(port: int, path: str, way: str) -> None:
    """One connection that goes wrong in its way."""
    crash = way if way in ("connected", "disconnected") else ""
    client = await Client.open(port)
    try:
        client.write(upgrade_request(f"{path}crashing/?crash={crash or 'nothing'}"))
        if way == "early":  # gone before anything was answered
            await client.writer.drain()
            return
        await client.response()
        await client.hello()
        if way == "connected":
            assert await client.closed() == 4002
        elif way.startswith("crash"):
            assert (await client.answer(client.send(way)))["error"]["code"] == "internal_error"
        elif way.startswith("hang"):
            client.send("hang")
            client.send("ping")
            await client.writer.drain()
            if way == "hang and reset":
                client.reset()
        elif way == "close":
            client.frame(Opcode.CLOSE, Close(1000, "").serialize())
            assert await client.closed() == 1000
            await client.ended()
    finally:
        client.writer.transport.abort()


async def bad_ends(port: int, path: str, count: int) -> None:
    ways = iter(range(count))

    async def one_after_another() -> None:
        for number in ways:
            await bad_end(port, path, WAYS[number % len(WAYS)])

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(one_after_another())


async def at_rest(node: Server, client: Client, path: str) -> dict[str, Any]:
    """What the node holds as soon as the healthy client is its only connection."""
    kind = "fast" if path == "/realtime/" else "stock"
    async with asyncio.timeout(PATIENCE):
        while node.metric(f'carillon_connections{{path="{kind}"}}') != 1:  # noqa: ASYNC110  # another process
            await asyncio.sleep(0.05)
        while True:
            found: dict[str, Any] = await client.command("leftovers")
            if found["bus"] == 2:  # its room, and the stream of accounts
                break
            await asyncio.sleep(0.05)
    found["subscriptions"] = node.metric("carillon_subscriptions")
    return found


def grown(before: dict[str, Any], after: dict[str, Any]) -> dict[str, int]:
    """What there is more of: of objects, when it is more than 50."""
    more = {
        name: count - before["objects"].get(name, 0)
        for name, count in after["objects"].items()
        if count - before["objects"].get(name, 0) > 50
    }
    for name in ("tasks", "groups", "bus", "descriptors", "subscriptions"):
        if after[name] != before[name]:
            more[name] = after[name] - before[name]
    return more


@pytest.mark.parametrize(("path", "cycles"), [("/realtime/", CYCLES), ("/mailbox/", CYCLES // 10)])
async def test_thousands_of_bad_ends_leave_nothing_behind(
    stack: AsyncExitStack, path: str, cycles: int
) -> None:
    with server(**SLOW | {"LOG_LEVEL": "ERROR"}) as node:
        [healthy] = await crowd(stack, node.port, path, 1)
        await healthy.command("join", group="room")
        await bad_ends(node.port, path, 800)  # warm
        before = await at_rest(node, healthy, path)
        await bad_ends(node.port, path, cycles)
        after = await at_rest(node, healthy, path)
        patience = time.monotonic() + PATIENCE
        while grown(before, after) and time.monotonic() < patience:
            await asyncio.sleep(0.2)  # what is let go a moment later is no leak
            after = await at_rest(node, healthy, path)
        assert await healthy.command("echo", number=1) == {"number": 1}
        assert healthy.events == []
    assert grown(before, after) == {}, "nobody lets go of it"
    assert after["resident"] - before["resident"] < 16 * 2**20
