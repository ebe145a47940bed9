"""Connections that are refused before they are accepted, by a real node that would have too many."""

import asyncio
import resource
from contextlib import ExitStack
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from deploy.local.processes import wait_until
from tests.integration.serving.client import HOST, PATIENCE, Client, upgrade_request
from tests.integration.serving.servers import Server, prepare_database, server
from tests.visitor import Door, Visitor


async def refused(node: Server, reason: str, path: str = "/realtime/", meanwhile: Path | None = None) -> int:
    """Comes in vain; the seconds of `Retry-After`. `meanwhile`: a file that is made once it has asked."""
    sample = f'carillon_connections_refused_total{{reason="{reason}"}}'
    before = node.metric(sample)
    async with await Client.open(node.port) as client:
        client.write(upgrade_request(path))
        if meanwhile is not None:
            await client.writer.drain()
            await asyncio.to_thread(meanwhile.touch)
        line, headers = await client.response()
        assert line == "HTTP/1.1 503 Service Unavailable"
        body = await asyncio.wait_for(client.reader.read(), PATIENCE)
    assert body.decode().startswith(f"{reason}: ")
    assert node.metric(sample) == before + 1
    return int(headers["retry-after"])


async def until_welcome(node: Server, path: str = "/realtime/") -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            async with await Client.open(node.port) as client:
                client.write(upgrade_request(path))
                line, _ = await client.response()
                if line.startswith("HTTP/1.1 101 "):
                    return
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("path", ["/realtime/", "/mailbox/", "/stock/"])
async def test_a_node_that_is_full_refuses_and_takes_the_next_when_somebody_has_left(path: str) -> None:
    with server(CONNECTIONS_LIMIT="2") as node:
        async with await Client.connect(node.port, path):
            async with await Client.connect(node.port, path):
                waits = [await refused(node, "full", path) for _ in range(5)]
                assert all(1 <= one <= 10 for one in waits)
                assert await asyncio.to_thread(
                    wait_until, lambda: node.metric("carillon_accepts_per_second") == 0, PATIENCE
                )
                assert node.status(node.internal_port, "/readyz") == 200, "those it has are well"
            await until_welcome(node, path)


async def test_who_listens_to_server_sent_events_counts_and_is_refused_like_anybody(tmp_path: Path) -> None:
    prepare_database(tmp_path)
    settings = {"DATA_FOLDER": str(tmp_path), "CONNECTIONS_LIMIT": "2", "CONNECTIONS_PER_PERSON": "1"}
    with server("carillon", **settings) as node:
        door = Door(f"http://{HOST}:{node.port}", (HOST, node.port))
        ada, bob = Visitor(door), Visitor(door)
        for visitor, name in ((ada, "ada"), (bob, "bob")):
            await asyncio.to_thread(visitor.enter_as_guest, name)
        async with await listen(node, ada, "/realtime/") as plain:
            assert await status_of(plain) == 204
        async with await listen(node, ada) as first:
            assert await status_of(first) == 200
            async with await listen(node, ada) as again:
                assert await status_of(again) == 503
                assert "person_limit" in (await again.reader.read()).decode()
            async with await listen(node, bob) as second:
                assert await status_of(second) == 200
                async with await listen(node, bob) as third:
                    line, headers = await third.response()
                    assert line.startswith("HTTP/1.1 503 ")
                    assert 1 <= int(headers["retry-after"]) <= 10
                    assert '"code":"full"' in (await third.reader.read()).decode()
                await refused(node, "full")
                async with await listen(node, bob, "/realtime/") as plain:
                    line, headers = await plain.response()
                    assert line.startswith("HTTP/1.1 503 "), (
                        "who may not read why an upgrade failed asks plainly"
                    )
                    assert 1 <= int(headers["retry-after"]) <= 10
                assert await asyncio.to_thread(bob.ticket), "requests that end are answered"


async def listen(node: Server, visitor: Visitor, path: str = "/rooms/lobby/events/") -> Client:
    client = await Client.open(node.port)
    lines = [f"GET {path} HTTP/1.1", f"Host: {HOST}:{node.port}", f"Cookie: {visitor.cookie}"]
    client.write("\r\n".join([*lines, "Connection: close", "", ""]).encode())
    return client


async def status_of(client: Client) -> int:
    line, _ = await client.response()
    return int(line.split(" ")[1])


async def test_a_node_keeps_descriptors_for_everything_else() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with server(DESCRIPTORS_RESERVED=str(hard - 2)) as node:
        async with await Client.connect(node.port, "/realtime/"):
            async with await Client.connect(node.port, "/realtime/"):
                await refused(node, "descriptors")
            await until_welcome(node)


async def test_a_node_whose_loop_stands_still_takes_nobody_until_it_keeps_up_again(tmp_path: Path) -> None:
    goes_on = tmp_path / "go on"
    with server(REFUSE_LAG_SECONDS="0.3") as node:
        async with await Client.connect(node.port, "/realtime/") as client:
            await client.hello()
            client.send("block", file=str(goes_on))
            await client.writer.drain()
            assert await asyncio.to_thread(wait_until, lambda: stands_still(node), PATIENCE)
            await refused(node, "late", meanwhile=goes_on)
            await until_welcome(node)


async def test_who_does_not_say_what_they_want_is_cut_off_and_costs_nobody_else_anything() -> None:
    sample = 'carillon_connections_refused_total{reason="slow"}'
    with server(REQUEST_SECONDS="0.5") as node:
        async with (
            await Client.connect(node.port, "/realtime/") as welcome,
            await Client.open(node.port) as silent,
            await Client.open(node.port) as slow,
            await Client.open(node.port) as slower,
        ):
            await welcome.hello()
            slow.write(upgrade_request("/realtime/")[:-2])
            slower.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\na")
            assert await asyncio.wait_for(silent.reader.read(), PATIENCE) == b""
            for one in (slow, slower):
                line, _ = await one.response()
                assert line == "HTTP/1.1 408 Request Timeout"
                assert (await asyncio.wait_for(one.reader.read(), PATIENCE)).startswith(b"slow: ")
            assert node.metric(sample) == 3
            assert await welcome.command("echo", number=1) == {"number": 1}


def stands_still(node: Server) -> bool:
    """Whether the loop does not even say how much it has to write."""
    return "carillon_unsent_bytes NaN" in node.get(node.internal_port, "/metrics")[1]


def test_one_person_gets_no_more_connections_than_a_person_may_have(tmp_path: Path) -> None:
    prepare_database(tmp_path)
    settings = {"DATA_FOLDER": str(tmp_path), "CONNECTIONS_PER_PERSON": "2"}
    with server("carillon", **settings) as node, ExitStack() as open_:
        door = Door(f"http://{HOST}:{node.port}", (HOST, node.port))
        ada, bob = Visitor(door), Visitor(door)
        ada.enter_as_guest("ada")
        bob.enter_as_guest("bob")
        first = open_.enter_context(ada.connect(origin=door.origin, cookie=True))
        open_.enter_context(ada.connect(origin=door.origin, cookie=True))
        with pytest.raises(InvalidStatus) as refusal:
            ada.connect(origin=door.origin, cookie=True)
        response = refusal.value.response
        assert response.status_code == 503
        assert 1 <= int(response.headers["Retry-After"]) <= 10
        assert response.body.startswith(b"person_limit: ")
        open_.enter_context(bob.connect(origin=door.origin, cookie=True))
        first.close()
        assert wait_until(lambda: node.metric('carillon_connections{path="fast"}') == 2, PATIENCE)
        open_.enter_context(ada.connect(origin=door.origin, cookie=True))
