"""Nodes, clients, a database and a bus that repeats, drops and reorders, in random interleavings.

Everything happens in virtual time and is drawn from one seed, so what fails fails again, and hypothesis finds
the shortest beginning of it that fails. The model is `Person`: what it may be told next is one comparison.
"""

import asyncio
from asyncio import Task
from collections.abc import Callable, Coroutine, Mapping
from random import Random
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.realtime import stream_audience, stream_order, streams
from app.realtime.connection import Batch
from app.realtime.node import Node
from app.realtime.stream import Position, Reset, StreamEvent, StreamRead, Unreadable
from app.realtime.stream_audience import Ended, Following
from tests import virtual_time
from tests.unit.realtime.streams.stored_streams import Database, PlayedBus

STREAMS = ("room.red", "room.blue")
NODES = 3
PEOPLE = 4


class Person:
    """The model: the next event of its stream's life, until it is removed or reset."""

    def __init__(self, number: int, wrong: list[str]) -> None:
        self.id = f"u{number}"
        self.wrong = wrong
        self.at: Position | None = None
        self.over = ""

    def deliver(self, batch: Batch) -> None:
        for frame in (msgspec.json.decode(event.payload) for event in batch.events):
            if self.over or self.at is None:
                self.wrong.append(f"{self.id} got {frame} after {self.over or 'it left'}")
            elif frame["event"] == "stream.reset":
                self.over = frame["data"]["reason"]
            elif (frame["data"]["epoch"], frame["sequence"]) != (self.at.epoch, self.at.sequence + 1):
                self.wrong.append(f"{self.id} at {self.at} got {frame}")
            else:
                self.at = Position(self.at.epoch, frame["sequence"])
                if frame["data"]["removes"] == self.id:
                    self.over = "removed"

    def ended(self, ended: Ended) -> None:
        if self.over != (ended.reset or "removed"):
            self.wrong.append(f"{self.id} was told {ended} after {self.over!r}")


class Bus(PlayedBus):
    """One node's end of it. What is published reaches each other node late, twice, or not at all."""

    def __init__(self, world: "World") -> None:
        super().__init__()
        self.world = world

    def publish(self, group: str, data: bytes) -> bool:
        for bus in self.world.buses:
            if bus is not self:
                for _ in range(self.world.random.choice((0, 1, 1, 1, 1, 2))):
                    self.world.later(self.world.random.choice((0, 0.01, 0.05, 0.3)), bus.bring, group, data)
        return True

    def bring(self, group: str, data: bytes) -> None:
        if self.up and group in self.subscriptions:
            self._deliver([(group, data)])

    def subscribe(self, group: str) -> Any:
        confirmed = super().subscribe(group)
        return asyncio.ensure_future(self._confirm(confirmed))

    async def _confirm(self, confirmed: Any) -> None:
        await asyncio.sleep(self.world.random.choice((0, 0.02)))
        await confirmed

    def unsubscribe(self, group: str) -> None:
        self.subscriptions.pop(group, None)


class World:
    """A few nodes and people, and one database; each `do_…` is something that may happen."""

    def __init__(self, random: Random) -> None:
        self.random = random
        self.wrong: list[str] = []
        self.resets: set[Reset] = set()
        self.database = Database(*STREAMS)
        self.buses = [Bus(self) for _ in range(NODES)]
        self.nodes = [Node(f"node-{n}", bus) for n, bus in enumerate(self.buses)]
        self.away = False
        for node in self.nodes:
            node.streams.start(self.read)
        self.locks = [asyncio.Lock() for _ in range(NODES)]
        self.people = [Person(n, self.wrong) for n in range(PEOPLE)]
        self.places: list[tuple[Node, str, Following] | None] = [None] * PEOPLE
        self.busy = [asyncio.Lock() for _ in range(PEOPLE)]
        self.tasks: list[Task[None]] = []

    def later(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        asyncio.get_running_loop().call_later(seconds, call, *arguments)

    def start(self, doing: Coroutine[Any, Any, None]) -> None:
        self.tasks.append(asyncio.create_task(doing))

    async def a_while(self) -> None:
        await asyncio.sleep(self.random.choice((0, 0.002, 0.03)))

    async def read(self, asked: Mapping[str, int], limit: int, size: int) -> dict[str, StreamRead]:
        await self.a_while()
        if self.away:
            raise Unreadable("no database")
        answer = self.database.look(asked, limit, size)
        await self.a_while()
        return answer

    async def do_post(self, node: int, stream: str, removes: str) -> None:
        async with self.locks[node]:  # a node's writer has one batch on its way
            await self.a_while()
            event = self.database.store(stream)
            payload = msgspec.json.encode(
                {"event": "test.said", "data": {"epoch": event.epoch, "removes": removes}}
            )
            event = event._replace(payload=payload, removes=removes)
            self.database.streams[stream].events[event.sequence] = event
            await self.a_while()
            if self.random.random() < 0.9:  # else: killed between commit and publish
                self.nodes[node].streams.committed([(stream, event)])

    async def do_join(self, person: int, node: int, stream: str) -> None:
        """With a snapshot, or from where it was; anywhere."""
        async with self.busy[person]:
            self.leave(person)
            who = self.people[person]
            to = self.nodes[node].streams
            try:
                await to.enter(stream)
            except Unreadable:
                return
            await self.a_while()
            stored = self.database.streams[stream]
            last = Position(stored.epoch, stored.last)
            place, events = self.from_where(who, stream, last)
            await self.a_while()
            who.at, who.over = place, ""
            following = to.follow(stream, who, person=who.id, after=place, ended=who.ended, events=events)
            self.places[person] = (self.nodes[node], stream, following)

    def from_where(self, who: Person, stream: str, last: Position) -> tuple[Position, list[StreamEvent]]:
        kept = getattr(who, stream, None)
        if kept is None or self.random.random() < 0.3:
            return last, []
        if self.random.random() < 0.5:
            return kept, []
        return kept, self.database.look({stream: kept.sequence}, 5)[stream].events

    def leave(self, person: int) -> None:
        place, self.places[person] = self.places[person], None
        if place is not None:
            node, stream, following = place
            following.end()
            node.streams.leave(stream)
            who = self.people[person]
            setattr(who, stream, None if who.over else who.at)
            who.at = None

    async def do_leave(self, person: int) -> None:
        async with self.busy[person]:
            self.leave(person)

    def do_purge(self, stream: str, keep: int) -> None:
        self.resets.add(Reset.PURGED)
        self.database.purge(stream, max(0, self.database.streams[stream].last - keep))

    def do_restore(self, stream: str, lost: int) -> None:
        """An older backup, and a new epoch."""
        self.resets |= {Reset.EPOCH, Reset.AHEAD}
        stored = self.database.streams[stream]
        stored.epoch += 1
        stored.last = max(0, stored.last - lost)
        stored.floor = stored.last
        stored.events = {}

    def do_turn_bus(self, node: int, up: bool) -> None:
        self.buses[node].turns(up)

    def do_turn_database(self, away: bool) -> None:
        self.away = away

    async def settle(self) -> None:
        """All is well again; nothing else happens; in the end everybody has everything."""
        self.away = False
        for bus in self.buses:
            bus.turns(True)
        await asyncio.gather(*self.tasks)
        await asyncio.sleep(20)
        for person, place in zip(self.people, self.places, strict=True):
            if place is not None and not person.over:
                stored = self.database.streams[place[1]]
                if person.at != Position(stored.epoch, stored.last):
                    self.wrong.append(f"{person.id} ended at {person.at}, not at {stored}")
            elif person.over not in {"", "removed", *self.resets}:
                self.wrong.append(f"{person.id} was reset without a reason: {person.over}")
        for number in range(PEOPLE):
            self.leave(number)
        held = [node.streams._held_bytes.used for node in self.nodes]
        if any(held) or any(stream in node.streams for node in self.nodes for stream in STREAMS):
            self.wrong.append(f"something was left behind: {held}")
        for node in self.nodes:
            await node.stop()


HAPPENINGS: dict[str, int] = {
    "post": 60, "join": 25, "leave": 5, "purge": 2, "restore": 1, "turn_bus": 4, "turn_database": 3
}  # fmt: skip
"""What may happen, and how often."""


def happening(random: Random) -> tuple[str, list[Any]]:
    """What happens next."""
    (what,) = random.choices(list(HAPPENINGS), list(HAPPENINGS.values()))
    node, person, stream = random.randrange(NODES), random.randrange(PEOPLE), random.choice(STREAMS)
    removes = random.choice(("",) * 8 + ("u1", "u2"))
    arguments: dict[str, list[Any]] = {
        "post": [node, stream, removes],
        "join": [person, node, stream],
        "leave": [person],
        "purge": [stream, random.randrange(5)],
        "restore": [stream, random.randrange(5)],
        "turn_bus": [node, random.random() < 0.6],
        "turn_database": [random.random() < 0.3],
    }
    return what, arguments[what]


@pytest.mark.parametrize("small", [False, True])
@given(seed=st.integers(0, 2**32), length=st.integers(1, 150))
@settings(deadline=None)
def test_everybody_gets_exactly_what_follows_their_position(small: bool, seed: int, length: int) -> None:
    """`small`: with bounds so low that all of them are met."""

    async def play() -> list[str]:
        random = Random(seed)
        world = World(Random(seed))
        for _ in range(length):
            await asyncio.sleep(random.choice((0, 0, 0.001, 0.02, 0.15, 1.5)))
            what, arguments = happening(random)
            doing = getattr(world, f"do_{what}")(*arguments)
            if doing is not None:
                world.start(doing)
        await world.settle()
        return world.wrong

    with pytest.MonkeyPatch.context() as patch:
        if small:
            patch.setattr(streams, "READ_EVENTS", 3)
            patch.setattr(streams, "READ_BYTES", 100)
            patch.setattr(stream_order.HeldBytes.__init__, "__defaults__", (1_000,))
            patch.setattr(stream_audience, "TAIL_LIMIT", 2)
        assert virtual_time.run(play()) == []
