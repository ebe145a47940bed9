"""Three nodes, each a process, on real Sentinels and PostgreSQL: one hears nothing any more, or two, or all.

A proxy keeps what is published from a node; no client of Redis could do that to another.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from time import monotonic
from typing import Any

import pytest

from deploy.local.redis_servers import RedisServers
from tests.failure.deaf_proxy import DeafProxy
from tests.failure.plan import at_length
from tests.integration.serving.client import PATIENCE, Client
from tests.integration.serving.servers import PROJECT, Server, server
from tests.postgres_server import PostgresServer, new_database

Record = Callable[[str, object], None]
NAMES = ("ada", "bob", "cyd")
LOOKS = 60
"""How often a test looks where nothing may happen: in all for longer than a deaf node needs to leave."""


@pytest.fixture(scope="module")
def migrated() -> Iterator[tuple[str, str]]:
    """A PostgreSQL, and a database on it that has everything."""
    with PostgresServer() as postgres:
        url = new_database(postgres.url())
        subprocess.run(
            [sys.executable, "-m", "app.manage", "migrate", "--no-input", "--verbosity", "0"],
            cwd=PROJECT,
            env=os.environ | {"DATABASE_URL": url},
            check=True,
        )
        yield postgres.url(), url


class Place:
    """Ada and bob reach Redis through proxies, cyd asks the Sentinels."""

    def __init__(self, stack: ExitStack, redis: RedisServers, database: str) -> None:
        primary = redis.primary_address()
        sentinels = ",".join(f"{host}:{port}" for host, port in redis.sentinel_addresses)
        self.proxies = {name: stack.enter_context(DeafProxy(primary)) for name in ("ada", "bob")}
        self.nodes: dict[str, Server] = {}
        for name in NAMES:
            bus = {"REDIS_SENTINELS": sentinels}
            if name in self.proxies:
                bus = {"REDIS_ADDRESS": self.proxies[name].address}
            settings = {"NODE_NAME": name, "DATABASE_URL": database, **bus}
            self.nodes[name] = stack.enter_context(server(**settings))

    def peers(self, name: str) -> dict[str, Any]:
        node = self.nodes[name]
        status, text = node.get(node.internal_port, "/peers")
        return json.loads(text) if status == 200 else {"nodes": []}

    def hears(self, name: str) -> dict[str, set[str]]:
        """Who hears whom, as `name` knows it."""
        return {one["name"]: set(one["hears"]) for one in self.peers(name)["nodes"]}

    def states(self, name: str) -> dict[str, str]:
        """What each does about its hearing, as `name` knows it."""
        return {one["name"]: one["state"] for one in self.peers(name)["nodes"]}

    def ready(self, name: str) -> tuple[int, str]:
        node = self.nodes[name]
        return node.get(node.internal_port, "/readyz")

    def all_ready(self) -> bool:
        return all(self.ready(name)[0] == 200 for name in NAMES)

    def steps(self, name: str, step: str) -> float:
        return self.nodes[name].metric(f'carillon_deafness_total{{step="{step}"}}')

    def well(self, name: str) -> bool:
        return self.nodes[name].metric("carillon_bus_healthy") == 1

    def all_hear_all(self) -> bool:
        everybody = set(NAMES)
        matrix = dict.fromkeys(NAMES, everybody)
        return all(self.hears(name) == matrix and self.well(name) for name in NAMES)


async def until(condition: Callable[[], object], what: str) -> None:
    """Looks at other processes, on another thread: clients are served meanwhile."""
    deadline = monotonic() + PATIENCE
    while not await asyncio.to_thread(condition):
        assert monotonic() < deadline, f"not within {PATIENCE:g} s: {what}"
        await asyncio.sleep(0.05)


@pytest.fixture
async def place(redis: RedisServers, migrated: tuple[str, str]) -> AsyncIterator[Place]:
    with ExitStack() as stack:
        database = await asyncio.to_thread(new_database, *migrated)
        one = await asyncio.to_thread(Place, stack, redis, database)
        await until(one.all_hear_all, "all hear all")
        yield one


@at_length
async def test_a_node_whose_subscriptions_are_gone_joins_anew_and_keeps_its_clients(
    place: Place, record_property: Record
) -> None:
    ada = place.nodes["ada"]
    async with await Client.connect(ada.port, "/realtime/") as client:
        await client.hello()
        place.proxies["ada"].deafen(new_ones_too=False)
        began = monotonic()
        await until(lambda: not place.well("ada"), "ada noticed")
        record_property("seconds until a deaf node noticed", f"{monotonic() - began:.1f}")
        await until(lambda: place.steps("ada", "healed") == 1, "ada healed")
        record_property("seconds until it had healed", f"{monotonic() - began:.1f}")
        assert ada.metric('carillon_bus_reconnects_total{reason="deaf"}') == 1
        await until(place.all_hear_all, "all hear all")
        assert place.all_ready()
        assert place.steps("ada", "left") == 0
        assert await client.command("echo", number=1) == {"number": 1}


async def test_a_node_that_stays_deaf_hands_its_clients_over_and_comes_back_when_it_hears(
    place: Place, record_property: Record
) -> None:
    ada, cyd = place.nodes["ada"], place.nodes["cyd"]
    async with (
        await Client.connect(ada.port, "/realtime/") as of_ada,
        await Client.connect(ada.port, "/mailbox/") as slow_of_ada,
        await Client.connect(cyd.port, "/realtime/") as of_cyd,
        await Client.open(ada.port) as reader,
    ):
        reader.write(b"GET /endless/ HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await reader.response()
        for client in (of_ada, slow_of_ada, of_cyd):
            await client.hello()
        place.proxies["ada"].deafen(new_ones_too=True)
        began = monotonic()
        await until(lambda: "ada" not in place.hears("cyd")["ada"], "cyd knows that ada does not hear itself")
        record_property("seconds until another node knew of the deaf one", f"{monotonic() - began:.1f}")
        await until(lambda: place.ready("ada")[0] == 503, "ada is not ready")
        record_property("seconds until it was not ready", f"{monotonic() - began:.1f}")
        assert place.ready("ada")[1] == "deaf: this node does not hear itself, others hear each other\n"
        assert ada.status(ada.internal_port, "/livez") == 200
        assert await of_ada.closed() == await slow_of_ada.closed() == 1012
        assert place.hears("cyd")["cyd"] == set(NAMES)
        states = {"ada": "away", "bob": "hearing", "cyd": "hearing"}
        await until(lambda: place.states("cyd") == states, "cyd knows that ada is away")
        async with asyncio.timeout(PATIENCE):
            assert b"begun" in await reader.reader.read(), "all of it: the response has ended"
        place.proxies["ada"].heal()
        await until(place.all_ready, "ada is back")
        await until(place.all_hear_all, "all hear all")
        assert await of_cyd.command("echo", number=1) == {"number": 1}
    assert [place.steps(name, "left") for name in NAMES] == [1, 0, 0]


@at_length
async def test_of_two_deaf_nodes_one_leaves_at_a_time(place: Place) -> None:
    for proxy in place.proxies.values():
        proxy.deafen(new_ones_too=True)
    deaf = ("ada", "bob")

    def away() -> list[str]:
        return [name for name in deaf if place.ready(name)[0] == 503]

    await until(away, "one of them leaves")
    (first,) = away()
    (second,) = set(deaf) - {first}
    await until(lambda: place.steps(second, "stayed") >= 3, "the other wanted to")
    assert away() == [first]
    place.proxies[first].heal()
    await until(lambda: away() == [second], "the first is back, the other leaves")
    place.proxies[second].heal()
    await until(place.all_ready, "both are back")
    assert [place.steps(name, "left") for name in NAMES] == [1, 1, 0]


@at_length
async def test_where_redis_is_gone_for_all_everybody_stays(place: Place, redis: RedisServers) -> None:
    async with await Client.connect(place.nodes["ada"].port, "/realtime/") as client:
        await client.hello()
        servers = [name for name in redis.processes() if name.startswith("redis")]
        for name in servers:
            await asyncio.to_thread(redis.kill, name)

        def nobody_hears() -> bool:
            return all(not heard for name in NAMES for heard in place.hears(name).values())

        await until(nobody_hears, "nobody hears anybody, and all know it")
        for _ in range(LOOKS):
            assert await asyncio.to_thread(place.all_ready)
            await asyncio.sleep(0.25)
        for name in NAMES:
            assert not place.well(name)
            assert place.steps(name, "left") == 0
            assert place.peers(name)["witness"]
        for name in servers:
            await asyncio.to_thread(redis.restart, name)
        await until(place.all_hear_all, "all hear all")
        await client.command("echo", number=1)


@at_length
async def test_where_redis_throws_all_subscribers_out_they_are_back_before_anybody_is_deaf(
    place: Place, redis: RedisServers
) -> None:
    primary = redis.primary_address()[1]
    redis.ask(primary, "CLIENT", "KILL", "TYPE", "pubsub")
    lost = 'carillon_bus_reconnects_total{reason="closed"}'
    await until(lambda: all(node.metric(lost) for node in place.nodes.values()), "all lost it")
    await until(place.all_hear_all, "all hear all")
    assert place.all_ready()
    assert [place.steps(name, "noticed") for name in NAMES] == [0, 0, 0]


@at_length
async def test_where_a_node_is_killed_nobody_else_is_deaf(place: Place) -> None:
    bob = place.nodes["bob"]
    bob.process.kill()
    await until(
        lambda: set(place.hears("ada")) == set(place.hears("cyd")) == {"ada", "cyd"}, "bob is forgotten"
    )
    await until(lambda: place.well("ada") and place.well("cyd"), "the others are well")
    for name in ("ada", "cyd"):
        assert place.steps(name, "noticed") == 0
        assert not re.search(r"joining anew", "\n".join(place.nodes[name].log))
