"""Presence between two nodes of one process, over the memory broker."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from app.presence import services
from app.presence.services import ROSTER_LIMIT, presence_of
from app.realtime.connection import Batch
from app.realtime.event import EncodedEvent
from app.realtime.identity import Identity
from app.realtime.memory_broker import MemoryBroker
from app.realtime.node import Node

ADA = Identity("u1", "ada")
BOB = Identity("g2", "bob", guest=True)
EVE = Identity("u3", "eve")


class Audience:
    """A connection's end: keeps what it was told."""

    def __init__(self, node: Node) -> None:
        self.events: list[dict[str, Any]] = []
        node.hub.subscribe("room.lobby", self)

    def deliver(self, batch: Batch) -> None:
        self.events += [json.loads(event.payload) for event in batch.events]

    def names(self, event: str) -> list[str]:
        return [told["data"]["member"]["name"] for told in self.events if told["event"] == event]

    def roster(self) -> list[str]:
        rosters = [told["data"]["members"] for told in self.events if told["event"] == "presence.roster"]
        return sorted(member["name"] for member in rosters[-1]) if rosters else []


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - conditions of plain objects have no event to wait for
            await asyncio.sleep(0.005)


@pytest.fixture
async def nodes(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[Node]]:
    monkeypatch.setattr(services, "TICK_SECONDS", 0.02)
    monkeypatch.setattr("app.presence.tracker.GRACE_SECONDS", 0.1)
    both = [Node("n1", MemoryBroker()), Node("n2", MemoryBroker())]
    yield both
    for node in both:
        await node.stop()


def enter(node: Node, person: Identity, connection: str = "c") -> services.People:
    return presence_of(node).enter("lobby", "room.lobby", person, connection)


async def both_here(nodes: list[Node], heard_on: int) -> Audience:
    """Ada on the first node and Bob on the second, as that one's connections know."""
    enter(nodes[0], ADA)
    enter(nodes[1], BOB)
    audience = Audience(nodes[heard_on])
    await until(lambda: audience.roster() == ["ada", "bob"])
    return audience


async def test_people_on_other_nodes_are_here_too(nodes: list[Node]) -> None:
    first, second = Audience(nodes[0]), Audience(nodes[1])
    assert [member.name for member in enter(nodes[0], ADA).members] == ["ada"]
    enter(nodes[1], BOB)
    await until(lambda: second.roster() == ["ada", "bob"])
    await until(lambda: "bob" in first.names("presence.joined") or first.roster() == ["ada", "bob"])


async def test_whoever_leaves_one_node_leaves_all(nodes: list[Node]) -> None:
    second = await both_here(nodes, heard_on=1)
    presence_of(nodes[0]).leave("lobby", ADA.id, "c")
    await until(lambda: second.names("presence.left") == ["ada"])
    await until(lambda: second.roster() == ["bob"])


async def test_a_change_that_the_bus_lost_is_asked_for_at_the_next_beat(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    second = await both_here(nodes, heard_on=1)
    publish = nodes[0].publish
    lost: list[EncodedEvent] = []

    def lose_one(group: str, event: EncodedEvent) -> None:
        if lost or b'"left":["u1"]' not in bytes(event.payload):
            publish(group, event)
        else:
            lost.append(event)

    monkeypatch.setattr(nodes[0], "publish", lose_one)
    enter(nodes[0], EVE)  # without anybody it would forget the room
    presence_of(nodes[0]).leave("lobby", ADA.id, "c")
    await until(lambda: lost)
    await until(lambda: second.roster() == ["bob", "eve"])


async def test_a_room_without_people_costs_nothing(nodes: list[Node]) -> None:
    enter(nodes[0], ADA)
    await until(lambda: nodes[0].hub.groups() == 1)
    presence_of(nodes[0]).leave("lobby", ADA.id, "c")
    await until(lambda: nodes[0].hub.groups() == 0)
    await until(lambda: not presence_of(nodes[0])._ticking)


async def test_a_crowd_is_told_by_rosters_not_one_by_one(nodes: list[Node]) -> None:
    audience = Audience(nodes[0])
    for number in range(ROSTER_LIMIT * 3):
        people = enter(nodes[0], Identity(f"u{number}", f"name {number}"))
    assert (len(people.members), people.count) == (ROSTER_LIMIT, ROSTER_LIMIT * 3)
    await until(lambda: any(told["data"]["count"] == ROSTER_LIMIT * 3 for told in audience.events))
    assert len(audience.names("presence.joined")) <= ROSTER_LIMIT


async def test_a_node_with_people_goes_on_alone_when_the_bus_is_away(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    audience = await both_here(nodes, heard_on=0)
    monkeypatch.setattr(MemoryBroker, "connected", property(lambda _: False))
    monkeypatch.setattr(MemoryBroker, "publish", lambda *_: False)
    people = enter(nodes[0], Identity("u3", "eve"))
    assert sorted(member.name for member in people.members) == ["ada", "bob", "eve"]
    await until(lambda: "eve" in audience.names("presence.joined"))


async def test_nobody_leaves_because_the_bus_is_away(
    nodes: list[Node], monkeypatch: pytest.MonkeyPatch
) -> None:
    audience = await both_here(nodes, heard_on=0)
    monkeypatch.setattr(MemoryBroker, "connected", property(lambda _: False))
    monkeypatch.setattr(MemoryBroker, "publish", lambda *_: False)
    monkeypatch.setattr("app.presence.tracker.LEASE_SECONDS", 0.05)
    lease_over = presence_of(nodes[0])._ticks + 30
    await until(lambda: presence_of(nodes[0])._ticks > lease_over)
    assert audience.names("presence.left") == []
