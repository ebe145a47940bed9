"""All active streams are asked for every few seconds, because the last event leaves no hole. Time jumps."""

import asyncio

import pytest
from prometheus_client import REGISTRY

from app.realtime import streams as streams_module
from app.realtime.node import Node
from tests.unit.realtime.streams.guests import CELLAR, ROOM, Guest, end_of_tick, here
from tests.unit.realtime.streams.stored_streams import Database, PlayedBus


def sample(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(name, labels) or 0.0


@pytest.mark.parametrize(("healthy", "seconds"), [(True, 5.0), (False, 1.0)])
async def test_what_the_bus_lost_without_a_trace_is_swept_up(
    node: Node, database: Database, healthy: bool, seconds: float
) -> None:
    node.streams.healthy = lambda: healthy
    ada, bob = await here(node), await here(node, stream=CELLAR)
    await asyncio.sleep(seconds * 3)
    asked = len(database.asked)
    await asyncio.sleep(seconds * 10)
    assert database.asked[asked:] == [{ROOM: 0, CELLAR: 0}] * 10
    database.store(ROOM), database.store(CELLAR)
    await asyncio.sleep(seconds)
    assert (ada.got, bob.got) == ([1], [1])


async def test_sweeps_come_faster_within_a_second_of_trouble(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await here(node)
    await asyncio.sleep(5.5)
    node.streams.healthy = lambda: False
    database.store(ROOM)
    await asyncio.sleep(1)
    assert ada.got == [1]


async def test_a_sweep_leaves_to_a_healthy_bus_what_it_is_about_to_bring(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await here(node)
    bus.turns(up=True)  # a sweep, and the next one 5 s later
    await asyncio.sleep(4.97)
    asked = len(database.asked)
    counted = [("carillon_stream_fills_total", {}), ("carillon_stream_sweeps_total", {"outcome": "found"})]
    before = [sample(name, **labels) for name, labels in counted]
    event = database.store(ROOM)
    await asyncio.sleep(0.06)
    assert len(database.asked) == asked + 1
    assert ada.got == []
    bus.brings(ROOM, event)
    await end_of_tick()
    assert ada.got == [1]
    await asyncio.sleep(20)
    assert [sample(name, **labels) for name, labels in counted] == before


async def test_everything_is_read_at_once_when_the_bus_is_back(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await here(node)
    await asyncio.sleep(5)
    database.store(ROOM)
    bus.turns(up=True)
    await end_of_tick()
    assert ada.got == [1]


async def test_a_sweep_that_was_asked_before_the_bus_was_back_does_not_count(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    ada = await here(node)
    database.gate.clear()
    await asyncio.sleep(6)
    database.store(ROOM)
    bus.turns(up=True)
    database.gate.set()
    await asyncio.sleep(0.01)
    assert ada.got == [1]


async def test_filling_holes_does_not_put_off_the_sweep(
    node: Node, bus: PlayedBus, database: Database
) -> None:
    node.streams.healthy = lambda: False
    await here(node)
    bob = await here(node, stream=CELLAR)
    await asyncio.sleep(5.01)
    database.store(CELLAR)
    for _ in range(2):
        database.store(ROOM)
        bus.brings(ROOM, database.store(ROOM))
        await asyncio.sleep(0.6)
    assert bob.got == [1]


async def test_what_one_stream_missed_keeps_no_other_waiting(
    node: Node, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams_module, "READ_BYTES", 1)  # one event for all
    node.streams.healthy = lambda: False
    ada, bob = await here(node), await here(node, stream=CELLAR)
    for _ in range(50):
        database.store(ROOM)
    database.store(CELLAR)
    database.seconds = 1.5  # as soon as one read ends the next sweep is due
    await asyncio.sleep(10)
    assert bob.got == [1]
    database.seconds = 0
    await asyncio.sleep(10)
    assert ada.got == list(range(1, 51))


async def test_a_node_without_active_streams_asks_nothing(node: Node, database: Database) -> None:
    (await here(node)).leave()
    asked = len(database.asked)
    await asyncio.sleep(3600)
    assert len(database.asked) == asked


async def test_an_idle_stream_costs_neither_a_task_nor_a_timer(bus: PlayedBus) -> None:
    database = Database(*[f"room.{n}" for n in range(300)])
    node = Node("node-1", bus)
    node.streams.start(database.read)
    await node.streams.enter("room.0")
    await asyncio.sleep(1.5)
    loop = asyncio.get_running_loop()

    def cost() -> tuple[int, int]:
        waiting = [handle for handle in loop._scheduled if not handle.cancelled()]  # type: ignore[attr-defined]
        return len(asyncio.all_tasks()), len(waiting)

    before = cost()
    await asyncio.gather(*(node.streams.enter(f"room.{n}") for n in range(1, 300)))
    for n in range(300):
        Guest(node, stream=f"room.{n}").follow(0)
    await asyncio.sleep(10.1)
    assert cost() == before
    await node.stop()


async def test_sweeps_fills_and_holes_are_counted(node: Node, bus: PlayedBus, database: Database) -> None:
    names: list[tuple[str, dict[str, str]]] = [
        ("carillon_streams", {}),
        ("carillon_stream_holes_total", {}),
        ("carillon_stream_fills_total", {}),
        ("carillon_stream_sweeps_total", {"outcome": "found"}),
        ("carillon_subscriptions", {}),
    ]
    before = [sample(name, **labels) for name, labels in names]
    await here(node)
    database.store(ROOM)
    bus.brings(ROOM, database.store(ROOM))
    await asyncio.sleep(1)
    database.store(ROOM)
    await asyncio.sleep(5)
    after = [sample(name, **labels) for name, labels in names]
    assert [now - then for now, then in zip(after, before, strict=True)] == [1, 1, 2 + 1, 1, 1]
