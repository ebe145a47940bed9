"""Three brokers talk without a pause while Redis is killed, hung, moved and taken away under them."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from pytest_django import Settings
from redis.exceptions import ConnectionError as ConnectionCut

from app.observability import metrics
from app.realtime.connection import Batch
from app.realtime.event import Delivery, EncodedEvent
from app.realtime.node import Node
from app.realtime.redis_broker import RedisBroker
from deploy.local.redis_servers import RedisServers
from tests.broker_contract import PATIENCE, eventually
from tests.failure.conversation import Conversation, promotions

HEALED_SECONDS = 5.0
"""What the tests insist on, on a busy machine; the table at the end of a run has the real figure."""
IN_FLIGHT_SECONDS = 0.1
"""What was said just before the fault may have been on its way."""
Record = Callable[[str, object], None]
NAMES = ("ada", "bob", "cyd")


@pytest.fixture(autouse=True)
def sentinels(redis: RedisServers, settings: Settings) -> None:
    settings.REDIS_SENTINELS = redis.sentinel_addresses


def now() -> float:
    return asyncio.get_running_loop().time()


async def nothing() -> None:
    pass


async def check_failover(
    redis: RedisServers,
    conversation: Conversation,
    fault: Callable[[], object],
    record: Record,
    afterwards: Callable[[], Awaitable[object]] = nothing,
) -> None:
    """Everybody hears everybody soon after the promotion; what is lost was said before that."""
    await conversation.all_hear_all_from(now())
    async with promotions(redis.sentinel_addresses) as promoted:
        broken = now()
        await asyncio.to_thread(fault)
        await eventually(promoted, "a new primary is promoted")
        promotion = promoted() or 0.0
    healed = await conversation.all_hear_all_from(promotion)
    await afterwards()
    lost = await conversation.lost_between(broken - IN_FLIGHT_SECONDS, healed)
    conversation.check_order()
    assert healed - promotion < HEALED_SECONDS
    record("seconds from the promotion until all hear all", f"{healed - promotion:.3f}")
    record("seconds from the fault until all hear all", f"{healed - broken:.3f}")
    record(f"messages lost of {100 * (healed - broken) * len(NAMES):.0f} said meanwhile", lost)


async def test_a_killed_primary_costs_only_what_was_said_meanwhile(
    redis: RedisServers, record_property: Record
) -> None:
    async with Conversation.of(*NAMES) as conversation:
        await check_failover(redis, conversation, lambda: redis.kill("primary"), record_property)


async def test_a_hung_primary_costs_only_what_was_said_meanwhile(
    redis: RedisServers, record_property: Record
) -> None:
    hung = redis.primary_address()[1]

    async def comes_to() -> None:
        redis.resume(hung)
        await asyncio.to_thread(redis.wait_until_ready)

    async with Conversation.of(*NAMES) as conversation:
        await check_failover(redis, conversation, lambda: redis.pause("primary"), record_property, comes_to)


async def test_a_planned_failover_splits_nobody_not_even_who_comes_in_the_middle_of_it(
    redis: RedisServers, record_property: Record
) -> None:
    old = redis.primary_address()[1]

    def old_is_demoted() -> bool:
        try:
            return redis.ask(old, "ROLE")[0] == "slave"  # type: ignore[index,no-any-return]
        except ConnectionCut:  # the Sentinel cuts all connections of a Redis that it demotes
            return False

    async def somebody_new_comes_while_two_primaries_answer() -> None:
        await eventually(
            lambda: all(one.states[1:] == [False, True] for one in conversation.speakers), "all moved"
        )
        assert redis.ask(old, "ROLE")[0] == "master"  # type: ignore[index]
        await conversation.add("dan")
        await eventually(old_is_demoted, "the old primary is demoted")

    async with Conversation.of(*NAMES) as conversation:
        await check_failover(
            redis,
            conversation,
            lambda: redis.ask(redis.sentinel_addresses[0][1], "SENTINEL", "FAILOVER", "carillon"),
            record_property,
            somebody_new_comes_while_two_primaries_answer,
        )


async def test_restarted_sentinels_cost_nothing_and_can_still_lead_to_a_new_primary(
    redis: RedisServers, record_property: Record
) -> None:
    async with Conversation.of(*NAMES) as conversation:
        await conversation.all_hear_all_from(now())
        for kill_or_restart in (redis.kill, redis.restart):
            for sentinel in ("sentinel-1", "sentinel-2", "sentinel-3"):
                await asyncio.to_thread(kill_or_restart, sentinel)
            await conversation.all_hear_all_from(now())
        assert await conversation.lost_between(now(), now()) == 0
        assert all(speaker.states == [True] for speaker in conversation.speakers)
        await asyncio.to_thread(redis.wait_until_ready)
        await check_failover(redis, conversation, lambda: redis.kill("primary"), record_property)


async def test_without_any_sentinel_a_lost_connection_goes_back_to_the_primary_it_knew(
    redis: RedisServers,
) -> None:
    primary = redis.primary_address()[1]
    async with Conversation.of(*NAMES) as conversation:
        for sentinel in ("sentinel-1", "sentinel-2", "sentinel-3"):
            await asyncio.to_thread(redis.kill, sentinel)
        redis.ask(primary, "CLIENT", "KILL", "TYPE", "pubsub")
        await eventually(
            lambda: all(one.states == [True, False, True] for one in conversation.speakers), "all are back"
        )
        await conversation.all_hear_all_from(now())


async def test_killed_subscribers_come_back_at_once(redis: RedisServers, record_property: Record) -> None:
    closed = metrics.bus_reconnects.labels("closed")._value
    primary = redis.primary_address()[1]
    async with Conversation.of(*NAMES) as conversation:
        await conversation.all_hear_all_from(now())
        before = closed.get()
        killed = now()
        redis.ask(primary, "CLIENT", "KILL", "TYPE", "pubsub")
        await eventually(lambda: closed.get() - before == len(NAMES), "all have lost their connection")
        healed = await conversation.all_hear_all_from(now())
        await conversation.lost_between(killed - IN_FLIGHT_SECONDS, healed)
        conversation.check_order()
        record_property("seconds from the kill until all hear all", f"{healed - killed:.3f}")


class Member:
    """A local connection's place in a group."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []

    def deliver(self, batch: Batch) -> None:
        self.payloads += [event.payload for event in batch.events]


async def test_nodes_start_and_serve_their_own_while_redis_is_away_and_find_each_other_later(
    redis: RedisServers,
) -> None:
    servers = list(redis.processes())
    for server in reversed(servers):
        await asyncio.to_thread(redis.kill, server)
    nodes = [Node(name, RedisBroker()) for name in NAMES]
    try:
        members = [Member() for _ in nodes]
        for node, member in zip(nodes, members, strict=True):
            await asyncio.wait_for(node.subscribe("g", member), PATIENCE)
            assert not node.broker.connected
            assert node.publish("g", EncodedEvent(f"{node.name} alone".encode(), Delivery.DROPPABLE))
        await eventually(lambda: all(member.payloads for member in members), "each serves its own")
        for name, member in zip(NAMES, members, strict=True):
            assert member.payloads == [f"{name} alone".encode()]
            member.payloads.clear()
        for server in servers:
            await asyncio.to_thread(redis.restart, server)
        await eventually(lambda: all(node.broker.connected for node in nodes), "all are connected")
        for node in nodes:
            node.publish("g", EncodedEvent(node.name.encode(), Delivery.DROPPABLE))
        everybody = {name.encode() for name in NAMES}
        await eventually(lambda: all(everybody <= set(member.payloads) for member in members), "all hear all")
    finally:
        for node in nodes:
            await node.stop()
