"""One node's watch over its hearing, in virtual time, with a witness that the test plays."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from app.realtime.hearing import Beacon, Note
from app.realtime.memory_broker import MemoryBroker
from app.realtime.node import Node
from app.serving import watch as watch_module
from app.serving import witness
from app.serving.deafness import State
from app.serving.watch import LATE_SECONDS, Watch
from app.serving.witness import Noted
from tests import virtual_time

Answer = TypeVar("Answer")
LONG = 60.0


class Bus(MemoryBroker):
    """Of many processes, as far as the node knows. `brings` nothing when it is told to."""

    between_processes = True

    def __init__(self) -> None:
        super().__init__()
        self.brings = True
        self.heals = False
        self.reconnects = 0

    def reconnect(self) -> None:
        self.reconnects += 1
        self.brings = self.brings or self.heals

    def _take(self, group: str, data: bytes) -> None:
        if self.brings:
            super()._take(group, data)


class Database:
    """A witness with another node in it, which always hears itself unless it is told not to."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.away = False
        self.seconds = 0.0
        self.free = True
        self.holder = ""
        self.other_misses: frozenset[str] = frozenset()
        self.states: list[str] = []
        monkeypatch.setattr(watch_module, "in_database_thread", self.run)
        monkeypatch.setattr(witness, "note", self.note)
        monkeypatch.setattr(witness, "take_turn", self.take_turn)
        monkeypatch.setattr(witness, "give_turn_back", self.give_turn_back)
        monkeypatch.setattr(witness, "forget", self.give_turn_back)
        monkeypatch.setattr(witness, "forget_old", lambda: None)

    async def run(self, work: Callable[[], Answer]) -> Answer:
        await asyncio.sleep(self.seconds)
        if self.away:
            raise OSError("the database is away")
        return work()

    def note(self, own: Beacon, state: str, live: int) -> list[Noted]:
        self.states.append(state)
        notes = [Note(own.incarnation, frozenset(own.misses)), Note("other", self.other_misses)]
        return [Noted(note, note.incarnation, "1", "", "hearing") for note in notes]

    def take_turn(self, incarnation: str) -> bool:
        if self.free:
            self.holder = incarnation
        return self.free

    def give_turn_back(self, incarnation: str) -> None:
        self.holder = ""


class Scene:
    """A node, and what its watch made of it."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.bus = Bus()
        self.node = Node("ada", self.bus)
        self.left: list[str] = []
        self.returns = 0
        self.watch = Watch(self.node, self.left.append, self._returned)
        other = Beacon(incarnation="other", name="other")
        self._speaking = asyncio.create_task(self._speak(other))

    def _returned(self) -> None:
        self.returns += 1

    async def _speak(self, other: Beacon) -> None:
        """The other node is heard whenever this one hears."""
        assert self.node.beacons is not None
        while True:
            if self.bus.brings:
                self.node.beacons.hearing.heard(other, asyncio.get_running_loop().time())
            await asyncio.sleep(1.0)

    @property
    def state(self) -> State:
        return self.watch.deafness.state

    async def end(self) -> None:
        self._speaking.cancel()
        await self.watch.stop()
        await self.node.stop()


Play = Callable[[Scene], Awaitable[None]]


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    return Database(monkeypatch)


def played(database: Database, play: Play) -> Scene:
    async def main() -> Scene:
        scene = Scene(database)
        await asyncio.sleep(LONG)
        assert scene.state is State.HEARING and not scene.bus.reconnects
        await play(scene)
        await scene.end()
        return scene

    return virtual_time.run(main())


def test_who_is_deaf_for_good_leaves_in_its_turn_and_returns_when_it_hears(database: Database) -> None:
    async def play(scene: Scene) -> None:
        scene.bus.brings = False
        await asyncio.sleep(15)
        assert scene.left == ["does not hear itself"]
        assert database.holder == scene.node.incarnation.hex()
        await asyncio.sleep(LONG)
        assert scene.bus.reconnects > 5
        assert not scene.returns
        scene.bus.brings = True
        await asyncio.sleep(LONG)
        assert (scene.returns, database.holder, scene.state) == (1, "", State.HEARING)

    assert played(database, play).left == ["does not hear itself"]
    assert set(database.states) == {"hearing", "deaf", "away"}


def test_who_heals_by_joining_anew_does_not_leave(database: Database) -> None:
    async def play(scene: Scene) -> None:
        scene.bus.brings, scene.bus.heals = False, True
        await asyncio.sleep(6)
        assert scene.bus.reconnects == 1
        await asyncio.sleep(LONG)

    scene = played(database, play)
    assert (scene.left, scene.bus.reconnects, scene.state) == ([], 1, State.HEARING)


def test_who_gets_no_turn_stays(database: Database) -> None:
    async def play(scene: Scene) -> None:
        database.free = False
        scene.bus.brings = False
        await asyncio.sleep(LONG)
        assert not scene.left and scene.state is State.DEAF
        database.free = True
        await asyncio.sleep(15)
        assert scene.left

    played(database, play)


def test_where_the_others_hear_no_more_nobody_leaves_and_who_is_away_returns(database: Database) -> None:
    async def play(scene: Scene) -> None:
        scene.bus.brings = False
        database.other_misses = frozenset({"other", scene.node.incarnation.hex()})
        await asyncio.sleep(LONG)
        assert not scene.left and not scene.bus.reconnects
        database.other_misses = frozenset()
        await asyncio.sleep(15)
        assert scene.left
        database.other_misses = frozenset({"other", scene.node.incarnation.hex()})
        await asyncio.sleep(15)
        assert scene.returns == 1

    played(database, play)


@pytest.mark.parametrize(("away", "seconds"), [(True, 0.0), (False, LATE_SECONDS + 0.5)])
def test_without_a_word_of_the_witness_in_time_nothing_is_done(
    database: Database, away: bool, seconds: float
) -> None:
    async def play(scene: Scene) -> None:
        database.away, database.seconds = away, seconds
        scene.bus.brings = False
        await asyncio.sleep(LONG)
        assert not scene.left and not scene.bus.reconnects
        assert not scene.node.healthy(), "its streams are swept each second all the same"
        database.away, database.seconds = False, 0.0
        await asyncio.sleep(15)
        assert scene.left

    played(database, play)


def test_who_stops_leaves_no_turn_behind(database: Database) -> None:
    async def play(scene: Scene) -> None:
        scene.bus.brings = False
        await asyncio.sleep(LONG)
        assert database.holder

    played(database, play)
    assert not database.holder
