"""The control: the same load, the same faults, through the consumer that tutorials teach, on channels-redis.

It has no sequence, no history and no answer to a post, so less is asked of it: that a message which a client
could write to its connection comes to everybody who means to be in the room, once, in its sender's order.
"""

import asyncio
import json
from asyncio import Task
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from deploy.local.ports import HOST, is_free
from deploy.local.processes import wait_until
from tests.failure.checker.client import SILENCE_SECONDS, Client
from tests.failure.checker.place import Node, Person, Place
from tests.failure.checker.record import POSTED, Answer, Asked
from tests.failure.checker.returning import AWAY_SECONDS, end_task
from tests.failure.checker.scene import Scene
from tests.failure.checker.table import STOCK

START_SECONDS: Final = 60.0
LATE_SECONDS: Final = 5.0
"""What has not come so long after the last word does not come."""


class ControlPlace(Place):
    """The tutorials' application on gunicorn and uvicorn as they come."""

    def __init__(self, folder: Path, layer: str) -> None:
        super().__init__(folder, "sqlite")
        self.layer = layer
        """One of `STOCK`."""

    def environment(self, node: Node | None = None) -> dict[str, str]:
        told = super().environment(node) | {"CHANNEL_LAYER": STOCK[self.layer]}
        if node is not None:
            told["DJANGO_SETTINGS_MODULE"] = "tests.integration.tutorials.settings"
        return told

    def bring_people(self, count: int) -> list[Person]:
        """Nobody has to say who they are."""
        return [Person(f"guest-{number}", f"guest-{number}", "") for number in range(1, count + 1)]

    def stage(self, **what: Any) -> Any:
        """Rooms need not be opened."""
        return {}

    def _command(self, node: Node) -> Sequence[str]:
        worker = ["-k", "uvicorn_worker.UvicornWorker", "-b", f"{HOST}:{node.port}", "--no-control-socket"]
        return [*super()._command(node)[:3], *worker, "tests.integration.tutorials.asgi:application"]

    def _wait_until_ready(self, node: Node) -> None:
        assert wait_until(lambda: not is_free(node.port), START_SECONDS), f"{node.name} did not start"


class StockClient(Client):
    """One connection for each room, as the tutorials' page has it; comes back when it is cut off."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.heard: dict[str, list[str]] = defaultdict(list)
        """Room to the keys of messages, as they came."""
        self.waiting: dict[str, Asked] = {}
        self._open: dict[str, ClientConnection] = {}
        self._visits: dict[str, Task[None]] = {}

    def start(self) -> None:
        for room in self._rooms:
            self._visits[room] = asyncio.create_task(self._stay(room))

    async def stop(self) -> None:
        await asyncio.gather(*[end_task(task) for task in self._visits.values()])

    def enter(self, *rooms: str) -> None:
        for room in rooms:
            self._rooms.add(room)
            self._visits[room] = asyncio.create_task(self._stay(room))

    @property
    def is_in_all(self) -> bool:
        return self._rooms <= self._open.keys()

    @property
    def unsent(self) -> int:
        """Nothing is ever sent again."""
        return 0

    def post(self, room: str, text: str) -> Asked:
        """Answered as soon as it is written, because there is no other answer."""
        key = f"{self.name} {len(self.account.asked)}"
        asked = Asked(room, POSTED, key, self.person, self.name, self._clock())
        connection = self._open.get(room)
        if connection is not None:
            self.account.asked.append(asked)
            self._go(self._say(connection, asked, text))
        return asked

    def write(self, room: str, command: str, kind: str, **data: Any) -> Asked:
        """It knows posts only."""
        return self.post(room, data.get("text", ""))

    def ask_again(self, asked: Asked) -> None:
        """A second click is a second message; nobody is blamed for it here."""

    def cut(self) -> None:
        for connection in self._open.values():
            connection.transport.abort()

    async def _say(self, connection: ClientConnection, asked: Asked, text: str) -> None:
        with suppress(ConnectionClosed):
            await connection.send(json.dumps({"key": asked.key, "text": text}))
            asked.answers.append(Answer(self._clock(), "", 0, 1))

    async def _stay(self, room: str) -> None:
        while True:
            host, port = self._choose_node()
            with suppress(OSError, InvalidHandshake, ConnectionClosed, TimeoutError):
                url = f"ws://{host}:{port}/async-rooms/{room.replace('-', '_')}/"
                async with connect(
                    url,
                    compression=None,
                    proxy=None,
                    open_timeout=SILENCE_SECONDS,
                    ping_interval=1,
                    ping_timeout=SILENCE_SECONDS,
                    close_timeout=0.5,
                ) as connection:
                    await connection.recv()
                    self._open[room] = connection
                    self.node = "some"
                    async for text in connection:
                        if "key" in (message := json.loads(text)):
                            self.heard[room].append(message["key"])
            self._open.pop(room, None)
            await asyncio.sleep(self._random.uniform(0, AWAY_SECONDS))


class Losses(NamedTuple):
    """What stock Channels did with the same load. In messages, however many people missed one."""

    said: int
    lost: int
    doubled: int
    disordered: int


class ControlScene(Scene):
    """The same scene in front of other servers."""

    client_class = StockClient

    async def all_write_again(self) -> None:
        """Everybody is connected again and says something; whether it arrives is what is counted.

        While something is broken, whoever is connected: without Redis nobody gets in.
        """
        if not self._broken:
            await self.until(self.all_are_in, "all are in their rooms again")
        for client in self.clients:
            client.post(client.rooms[0], self._text(client))

    def bring_listeners(self, people: list[Person], rooms: list[str]) -> None:
        """There is no such thing."""

    @asynccontextmanager
    async def all_stay_ready(self) -> AsyncIterator[None]:
        """Nobody can be asked."""
        yield

    async def all_have_everything(self) -> None:
        """There is no way to get what was missed."""
        await asyncio.sleep(1)

    def _write(self, client: Client, random: Random, room: str) -> None:
        client.post(room, self._text(client))

    async def losses(self) -> Losses:
        """What was lost in the end."""
        for task in self._writers:
            task.cancel()
        await asyncio.gather(*self._writers, return_exceptions=True)
        await asyncio.sleep(LATE_SECONDS)
        clients = [client for client in self.clients if isinstance(client, StockClient)]
        said = [
            (asked.stream, asked.key)
            for client in clients
            for asked in client.account.asked
            if asked.acknowledged
        ]
        lost, doubled, disordered = set(), set(), set()
        for client in clients:
            for room in self.rooms:
                heard = client.heard[room]
                lost |= {key for where, key in said if where == room} - set(heard)
                doubled |= {key for key, count in Counter(heard).items() if count > 1}
                disordered |= _disordered(heard)
        return Losses(len(said), len(lost), len(doubled), len(disordered))


def _disordered(heard: list[str]) -> set[str]:
    """Messages that came after a later one of the same sender."""
    latest: dict[str, int] = defaultdict(int)
    found = set()
    for key in heard:
        sender, _, number = key.rpartition(" ")
        if int(number) < latest[sender]:
            found.add(key)
        latest[sender] = max(latest[sender], int(number))
    return found
