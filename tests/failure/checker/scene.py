"""One run: people talk, edit and delete in several rooms on several nodes, while a scenario breaks things."""

import asyncio
import itertools
import re
import time
from asyncio import Task
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from random import Random
from typing import Any, Final, Self

from tests.failure.checker.client import Client
from tests.failure.checker.crossing import crossing_seconds
from tests.failure.checker.judge import Verdict, judge
from tests.failure.checker.listener import Listener
from tests.failure.checker.place import Node, Person, Place
from tests.failure.checker.record import DELETED, EDITED, POSTED, Fault, Rules, Run
from tests.failure.checker.story import report
from tests.failure.checker.truth import Database

PATIENCE: Final = 60.0
WRITES_PER_SECOND: Final = 4.0
"""Of each client: much less than a node can bear, so that the test's own process is no bottleneck."""
HURRY: Final = 4 * WRITES_PER_SECOND
"""While something is broken: what is lost in a moment has to be said in that moment."""
UNSENT_LIMIT: Final = 8
"""Who has so much without an answer waits."""
CLIENTS: Final = 9
ROOMS: Final = 4

NOT_UNDERSTOOD: Final = 'carillon_bus_received_total{outcome="unknown"}'
FOUND_DEAF: Final = 'carillon_deafness_total{step="noticed"}'
SWEPT_NOTHING: Final = 'carillon_stream_sweeps_total{outcome="nothing"}'
READ_FROM_DATABASE: Final = "carillon_stream_fills_total"
"""Samples of a node's metrics."""

_numbers: Final = itertools.count(1)


class Scene:
    """Who is there, what was broken when, and the verdict at the end."""

    client_class: type[Client] = Client

    def __init__(self, place: Place, seed: int, patience: float) -> None:
        self.place = place
        self.patience = patience
        """Seconds to wait for what must come."""
        self.seed = seed
        self.random = Random(f"{seed}")
        self.clients: list[Client] = []
        self.listeners: list[Listener] = []
        self.rules: dict[str, Rules] = {}
        self.faults: list[Fault] = []
        self.forgiven: set[str] = set()
        self.measures: list[tuple[str, str]] = []
        """What was measured, and the figure."""
        self.quiet = False
        """True: nobody writes for the moment."""
        self.clicks_twice = True
        """Now and then somebody sends the same command twice."""
        self.everything = False
        """True: as long as the issue says; false: short enough for the selection."""
        self._began = time.monotonic()
        self._database = Database(place.url)
        self._writers: list[Task[None]] = []
        self._told = 0
        self._broken = False

    @classmethod
    @asynccontextmanager
    async def on(
        cls, place: Place, seed: int, *, clients: int = CLIENTS, patience: float = PATIENCE
    ) -> AsyncIterator[Self]:
        """People in `ROOMS` public rooms, all of them in all, writing. `finish` before the end."""
        scene = cls(place, seed, patience)
        people = await asyncio.to_thread(place.bring_people, clients)
        rooms = [scene.new_room() for _ in range(ROOMS)]
        await scene.open_rooms(rooms)
        try:
            for number, person in enumerate(people):
                client = scene.bring(person.name, person.id, person.cookie, number)
                client.enter(*rooms)
            scene.bring_listeners(people, rooms)
            await scene.until(scene.all_are_in, "all are in their rooms")
            scene._writers = [
                asyncio.create_task(scene._write_on(client, Random(f"{seed} {client.name}"), rooms))
                for client in scene.clients
            ]
            yield scene
        finally:
            for task in scene._writers:
                task.cancel()
            await asyncio.gather(*scene._writers, return_exceptions=True)
            await asyncio.gather(*[client.stop() for client in scene.everybody])

    # --- For scenarios -----------------------------------------------------------------------------------

    @property
    def everybody(self) -> list[Client | Listener]:
        return [*self.clients, *self.listeners]

    def clock(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._began

    def bring(self, name: str, person: str, cookie: str, number: int) -> Client:
        """One more client; it tries its own node first."""
        choose = self._nodes_from(number)
        random = Random(f"{self.seed} {name} away")
        client = self.client_class(name, person, cookie, choose_node=choose, random=random, clock=self.clock)
        self.clients.append(client)
        client.start()
        return client

    def bring_listeners(self, people: list[Person], rooms: list[str]) -> None:
        """One for each room, each on another node; they are the same people in another tab."""
        for number, (person, room) in enumerate(zip(people, rooms, strict=False)):
            self.listen(f"{person.name}, listening", person.id, person.cookie, room, number)

    def listen(self, name: str, person: str, cookie: str, room: str, number: int) -> None:
        """One more who listens by server-sent events."""
        random = Random(f"{self.seed} {name} away")
        choose = self._nodes_from(number)
        listener = Listener(
            name, person, cookie, room=room, choose_node=choose, random=random, clock=self.clock
        )
        self.listeners.append(listener)
        listener.start()

    def _nodes_from(self, number: int) -> Callable[[], tuple[str, int]]:
        """The address of that node first, then of one after the other."""
        turn = itertools.count(number)
        return lambda: self.place.nodes[next(turn) % len(self.place.nodes)].address

    async def open_rooms(self, rooms: list[str], *, members: dict[str, str] | None = None) -> None:
        """Public rooms; with `members` (person to role): for them only."""
        await asyncio.to_thread(self.place.stage, open_rooms=rooms, members=members)
        rules = Rules(members is None, frozenset(members or ()))
        self.rules |= {f"room.{room}": rules for room in rooms}

    @property
    def rooms(self) -> list[str]:
        return [stream.removeprefix("room.") for stream in self.rules]

    @contextmanager
    def broken(self, what: str) -> Iterator[None]:
        """From here to the end of the block; the story tells of it."""
        began = self.clock()
        self._broken = True
        try:
            yield
        finally:
            self._broken = False
            self.faults.append(Fault(what, began, self.clock()))

    @asynccontextmanager
    async def all_stay_ready(self) -> AsyncIterator[None]:
        """To the end of the block every node wants clients, whenever it is asked."""
        looking = asyncio.create_task(self._find_all_ready())
        try:
            yield
        finally:
            looking.cancel()
            with suppress(asyncio.CancelledError):
                await looking

    async def _find_all_ready(self) -> None:
        while True:
            for node in self.place.nodes:
                assert await self.do(node.is_ready), f"{node.name} is not ready (seed {self.seed})"
            await asyncio.sleep(0.25)

    def measure_crossing(self, what: str, began: float) -> None:
        """How long what was acknowledged since then took from node to node; it has come to everybody."""
        # Listeners do not know which node they are on.
        seconds = crossing_seconds((client.account for client in self.clients), began, self.clock())
        if seconds:
            middle, most = seconds[len(seconds) // 2], seconds[len(seconds) * 99 // 100]
            what = f"s from answer to receipt on another node, {what}: half / 99 % / all of {len(seconds)}"
            self.measures.append((what, f"{middle:.2f} / {most:.2f} / {seconds[-1]:.2f}"))

    async def do(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What blocks, on a thread."""
        return await asyncio.to_thread(work, *arguments)

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for `condition`; say what did not happen."""
        deadline = self.clock() + self.patience
        while not condition():
            for client in self.everybody:
                if client.trouble is not None:
                    raise client.trouble
            assert self.clock() < deadline, f"not within {self.patience:g} s: {what} (seed {self.seed})"
            await asyncio.sleep(0.02)

    def all_are_in(self) -> bool:
        """Everybody is connected and in every room that is theirs."""
        return all(client.node and client.is_in_all for client in self.clients) and all(
            listener.is_in_all for listener in self.listeners
        )

    async def all_write_again(self) -> None:
        """Everybody is in, and what each of them asks for now, in each room, is stored."""
        await self.until(self.all_are_in, "all are in their rooms again")
        asked = [client.post(room, self._text(client)) for client in self.clients for room in client.rooms]
        await self.until(
            lambda: all(one.acknowledged is not None for one in asked), "everybody's next messages are stored"
        )

    def acknowledged(self) -> int:
        """How many commands were answered with a place so far."""
        return sum(one.acknowledged is not None for client in self.clients for one in client.account.asked)

    async def all_have_everything(self) -> None:
        """Nobody writes, and everything that is stored comes to everybody; then they go on."""
        await self.pause_writing()
        last = await self.do(self.last_sequences)
        await self.until(lambda: self._all_are_at(last), "all have everything")
        self.quiet = False

    async def some_writes(self, count: int = 50) -> None:
        """Until that many more were acknowledged."""
        enough = self.acknowledged() + count
        await self.until(lambda: self.acknowledged() >= enough, f"{count} more are acknowledged")

    async def bus_understands(self) -> None:
        """Whatever came over the bus since a node began was understood there, and nobody was found deaf."""
        for node in self.place.nodes:
            for sample in (NOT_UNDERSTOOD, FOUND_DEAF):
                count = await self.do(node.metric, sample)
                assert not count, f"{node.name}: {sample} {count:g} (seed {self.seed})"

    async def bus_brings_everything(self) -> None:
        """There are people on each node, and while they write a time comes between two sweeps in which a
        node does not need the database for what the others said."""
        while {node.name for node in self.place.nodes} - {client.node for client in self.clients}:
            self.random.choice(self.clients).cut()  # it comes back elsewhere
            await asyncio.sleep(0.1)
            await self.until(self.all_are_in, "all are in their rooms again")
        async with asyncio.timeout(self.patience):
            await asyncio.gather(*[self._bus_brings_everything_to(node) for node in self.place.nodes])

    async def _bus_brings_everything_to(self, node: Node) -> None:
        before, now = -1.0, await self.do(node.metric, READ_FROM_DATABASE)
        while now != before:
            swept = await self.do(node.metric, SWEPT_NOTHING)
            while await self.do(node.metric, SWEPT_NOTHING) < swept + 2:
                await self.some_writes(10)
            before, now = now, await self.do(node.metric, READ_FROM_DATABASE)

    async def some_time(self, fault: str, seconds: float) -> None:
        """`seconds` with something broken."""
        with self.broken(fault):
            await asyncio.sleep(seconds)

    def node(self, number: int) -> Node:
        return self.place.nodes[number - 1]

    def new_room(self) -> str:
        """A slug that no run had."""
        return f"r{self.seed % 10_000}-{next(_numbers)}"

    async def pause_writing(self) -> None:
        """Nobody writes until `quiet` is false again, and everything has its answer."""
        self.quiet = True
        await self.until(lambda: not any(client.unsent for client in self.clients), "all is answered")

    def last_sequences(self) -> dict[str, tuple[int, int]]:
        """Stream to (epoch, last sequence), now."""
        return self._database.last_sequences(set(self.rules))

    def node_in_transaction(self) -> Node:
        """The node whose session waits within a transaction."""
        return self.place.node_named(self._database.node_in_transaction())

    def lock_sqlite(self, seconds: float) -> None:
        """Hold the write lock for that long."""
        with self._database.locked():
            time.sleep(seconds)

    def make_deaf(self, node: Node, port: int) -> None:
        """Redis ends what this node has subscribed to there."""
        clients = str(self.place.redis.ask(port, "CLIENT", "LIST", "TYPE", "pubsub"))
        for found in re.findall(rf"^id=(\d+) .* name=carillon-{node.name} ", clients, re.MULTILINE):
            self.place.redis.ask(port, "CLIENT", "KILL", "ID", found)

    def some_channel(self) -> str:
        """A channel of the bus that nodes hear."""
        port = self.place.redis.primary_address()[1]
        channels = self.place.redis.ask(port, "PUBSUB", "CHANNELS", "*room.*")
        assert isinstance(channels, list)
        return str(channels[0])

    # --- The end -----------------------------------------------------------------------------------------

    async def verdict(self) -> tuple[Verdict, str]:
        """Stop writing, wait until everybody should have everything, judge. The text tells the story."""
        for task in self._writers:
            task.cancel()
        await asyncio.gather(*self._writers, return_exceptions=True)
        await self._settle(lambda: not any(client.unsent for client in self.clients))
        streams = set(self.rules)
        last = await asyncio.to_thread(self.last_sequences)
        await self._settle(lambda: self._all_are_at(last))
        truth = await asyncio.to_thread(self._database.truth, streams)
        run = Run(
            self.seed,
            [client.account for client in self.everybody],
            truth,
            self.rules,
            self.faults,
            frozenset(self.forgiven),
        )
        verdict = judge(run)
        return verdict, f"\n{report(run, verdict)}"

    def _all_are_at(self, last: dict[str, tuple[int, int]]) -> bool:
        return all(client.is_at(last) for client in self.everybody)

    async def _settle(self, condition: Callable[[], bool]) -> None:
        """Wait for it, but not for ever: what is missing then, the judge says."""
        with suppress(AssertionError):
            await self.until(condition, "all is told")

    # --- Who writes what ---------------------------------------------------------------------------------

    async def _write_on(self, client: Client, random: Random, rooms: list[str]) -> None:
        while True:
            await asyncio.sleep(random.expovariate(HURRY if self._broken else WRITES_PER_SECOND))
            if not self.quiet and client.unsent < UNSENT_LIMIT:
                self._write(client, random, random.choice(rooms))

    def _write(self, client: Client, random: Random, room: str) -> None:
        own = [
            one
            for one in client.account.asked[-20:]
            if one.kind == POSTED and one.acknowledged and one.stream == f"room.{room}"
        ]
        what = random.random()
        if own and what < 0.12:
            subject = random.choice(own).key
            client.write(room, "chat.edit_message", EDITED, message_id=subject, text=self._text(client))
        elif own and what < 0.18:
            client.write(room, "chat.delete_message", DELETED, message_id=random.choice(own).key)
        elif own and what < 0.23 and self.clicks_twice:
            client.ask_again(random.choice(own))
        else:
            client.post(room, self._text(client))

    def _text(self, client: Client) -> str:
        """No two are equal."""
        self._told += 1
        return f"{client.name} says {self._told}"
