"""Beacons of nodes on one bus in memory, with a clock that the test winds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest.mock import patch

import msgspec
import pytest

from app import VERSION
from app.realtime import beacons as beacons_module
from app.realtime import envelope
from app.realtime.beacons import GROUP, TICK_SECONDS, Beacons
from app.realtime.hearing import FORGET_SECONDS, HEARD_SECONDS, Beacon
from app.realtime.memory_broker import MemoryBroker
from app.realtime.node import Node
from tests.failure.planted.releases import LATER


class Bus(MemoryBroker):
    """A bus that can stop to bring anything, or to take it."""

    def __init__(self) -> None:
        super().__init__()
        self.brings = True
        self.takes = True

    def _take(self, group: str, data: bytes) -> None:
        if self.brings:
            super()._take(group, data)

    def publish(self, group: str, data: bytes) -> bool:
        return self.takes and super().publish(group, data)


class Clock:
    """What the loop says of the time is moved on; timers run when they would have run."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.loop = asyncio.get_running_loop()
        self.passed = 0.0
        real = self.loop.time
        monkeypatch.setattr(self.loop, "time", lambda: real() + self.passed)

    async def wind(self, seconds: float, step: float = 0.1) -> None:
        for _ in range(round(seconds / step)):
            self.passed += step
            for _ in range(5):
                await asyncio.sleep(0)

    async def stall(self, seconds: float) -> None:
        await self.wind(seconds, step=seconds)


@pytest.fixture
async def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@asynccontextmanager
async def serving(*names: str) -> AsyncIterator[list[Node]]:
    nodes = [Node(name, Bus()) for name in names]
    try:
        for node in nodes:
            node.start_beacons()
        yield nodes
    finally:
        for node in nodes:
            await node.stop()


def bus(node: Node) -> Bus:
    assert isinstance(node.broker, Bus)
    return node.broker


def beacons(node: Node) -> Beacons:
    assert node.beacons is not None
    return node.beacons


def known(node: Node) -> set[str]:
    return {beacon.name for beacon in beacons(node).hearing.beacons.values()}


async def test_nodes_learn_of_each_other_and_are_well(clock: Clock) -> None:
    async with serving("ada", "bob", "cyd") as nodes:
        await clock.wind(3 * HEARD_SECONDS)
        assert all(known(node) == {"ada", "bob", "cyd"} for node in nodes)
        assert all(node.healthy() and not beacons(node).misses for node in nodes)
        told = beacons(nodes[0]).hearing.beacons[nodes[1].incarnation.hex()]
        assert (told.name, told.version, told.connections) == ("bob", VERSION, 0)


async def test_a_node_whose_bus_brings_nothing_misses_all_and_is_heard_by_all(clock: Clock) -> None:
    async with serving("ada", "bob") as (ada, bob):
        await clock.wind(HEARD_SECONDS)
        bus(ada).brings = False
        await clock.wind(HEARD_SECONDS + 2 * TICK_SECONDS)
        assert not ada.healthy()
        assert beacons(ada).why_unwell == "does not hear itself"
        assert bob.healthy()
        told = beacons(bob).hearing.beacons[ada.incarnation.hex()]
        assert ada.incarnation.hex() in told.misses
        bus(ada).brings = True
        await clock.wind(HEARD_SECONDS)
        assert ada.healthy()


async def test_a_node_whose_bus_takes_nothing_is_not_well(clock: Clock) -> None:
    async with serving("ada", "bob") as (ada, bob):
        await clock.wind(HEARD_SECONDS)
        bus(ada).takes = False
        await clock.wind(HEARD_SECONDS + 2 * TICK_SECONDS)
        assert not ada.healthy()
        assert beacons(bob).misses == {ada.incarnation.hex()}
        await clock.wind(FORGET_SECONDS)
        assert bob.healthy(), "who has been silent for long is dead, as far as bob knows"


async def test_a_beacon_says_what_its_node_can_take_and_that_it_leaves(clock: Clock) -> None:
    async with serving("ada", "bob") as (ada, bob):
        beacons(ada).accepts = lambda loop_lag: 120.0
        await clock.wind(HEARD_SECONDS)
        told = {beacon.name: beacon for beacon in beacons(bob).heard_now()}
        assert told.keys() == {"ada"}
        assert (told["ada"].accepts, told["ada"].draining) == (120.0, False)
        (unsaid,) = beacons(ada).heard_now()
        assert unsaid.accepts is None, "as a node of an older release"
        beacons(ada).draining = True
        beacons(ada).speak()
        await clock.wind(TICK_SECONDS)
        (leaving,) = beacons(bob).heard_now()
        assert (leaving.accepts, leaving.draining) == (0.0, True)
        bus(bob).brings = False
        await clock.wind(HEARD_SECONDS + TICK_SECONDS)
        assert beacons(bob).heard_now() == [], "what it said last is no word of today"


async def test_publishes_that_fail_make_a_node_unwell_for_a_while(clock: Clock) -> None:
    async with serving("ada") as (ada,):
        await clock.wind(HEARD_SECONDS)
        bus(ada).failures += 1
        await clock.wind(2 * TICK_SECONDS)
        assert beacons(ada).why_unwell == "a publish failed"
        await clock.wind(HEARD_SECONDS + TICK_SECONDS)
        assert ada.healthy()


async def test_who_stops_is_missed_by_nobody(clock: Clock) -> None:
    async with serving("ada", "bob") as (ada, bob):
        await clock.wind(HEARD_SECONDS)
        gone = Node("cyd", Bus())
        gone.start_beacons()
        await clock.wind(HEARD_SECONDS)
        assert known(ada) == {"ada", "bob", "cyd"}
        beacons(gone).stop()
        await clock.wind(0.1)
        assert known(ada) == known(bob) == {"ada", "bob"}
        await gone.stop()
        await clock.wind(2 * HEARD_SECONDS)
        assert ada.healthy() and bob.healthy()


async def test_a_node_whose_loop_stood_still_misses_nobody_for_that(clock: Clock) -> None:
    async with serving("ada", "bob") as (ada, bob):
        await clock.wind(HEARD_SECONDS)
        bus(ada).brings = bus(bob).brings = False
        await clock.stall(30.0)
        assert ada.healthy() and bob.healthy()
        await clock.wind(HEARD_SECONDS + 2 * TICK_SECONDS)
        assert not ada.healthy()


async def test_whoever_looks_first_after_a_stall_misses_nobody(clock: Clock) -> None:
    async with serving("ada", "bob") as (ada, _):
        await clock.wind(HEARD_SECONDS)
        clock.passed += 30.0
        beacons(ada).look()
        assert not beacons(ada).misses


async def test_a_node_speaks_as_soon_as_the_bus_is_back(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving("ada", "bob") as (ada, bob):
        await clock.wind(HEARD_SECONDS)
        said: list[str] = []

        def publish(group: str, data: bytes) -> bool:
            said.append(group)
            return True

        monkeypatch.setattr(ada.broker, "publish", publish)
        ada._bus_changed(False)
        assert said == []
        ada._bus_changed(True)
        assert said == [GROUP]
        assert bob.healthy()


async def test_beacons_of_other_releases_are_read_as_far_as_they_go(clock: Clock) -> None:
    async with serving("ada") as (ada,):
        beacons(ada).take(b'{"incarnation":"x","name":"later","mood":"sunny"}')
        assert known(ada) >= {"later"}
        beacons(ada).take(b'{"name":"nobody"}')
        beacons(ada).take(b"\xff")
        assert "nobody" not in known(ada)


async def test_a_beacon_is_in_no_envelope_and_stays_readable_for_ever(clock: Clock) -> None:
    async with serving("ada", "bob") as (ada, bob):
        with patch.object(bob.broker, "publish") as publish:
            beacons(bob).speak()
        ((group, said),) = [call.args for call in publish.call_args_list]
        assert group == GROUP
        assert msgspec.json.decode(said)["name"] == "bob"
        recorded = b'{"incarnation":"x","name":"first","version":"0.1.0","connections":7,"loop_lag":0.002,'
        recorded += b'"bus":"b","misses":["y"],"draining":true,"accepts":0.0}'
        ada._from_bus([(GROUP, recorded)])
        told = beacons(ada).hearing.beacons["x"]
        assert (told.name, told.version, told.writes, told.connections) == ("first", "0.1.0", 1, 7)
        assert (told.bus, told.misses, told.draining, told.accepts) == ("b", ("y",), True, 0.0)


async def test_a_node_that_writes_what_this_one_cannot_read_is_heard_and_makes_it_unwell(
    clock: Clock,
) -> None:
    async with serving("ada", "bob") as (ada, bob):
        with patch.object(envelope, "WRITES", 2):
            beacons(bob).speak()
        await clock.wind(0.1)
        beacons(ada).look()
        assert beacons(ada).why_unwell == "does not understand the release of 1 of 2 nodes"
        assert not beacons(ada).misses, "so nobody takes it for deaf"
        with patch.dict(envelope.FORMATS, {2: LATER}):
            beacons(ada).look()
            assert ada.healthy(), "the next release reads it"


async def test_a_node_without_clients_has_no_beacons_and_believes_its_bus() -> None:
    node = Node("command", Bus())
    assert node.healthy()
    await node.stop()
    assert not node.healthy()


def test_a_beacon_is_small_when_all_is_well() -> None:
    beacon = Beacon(incarnation="0123456789abcdef", name="node-1", version=VERSION, bus="0" * 40)
    assert len(msgspec.json.encode(beacon)) < 200
    assert beacons_module.TICK_SECONDS < HEARD_SECONDS
