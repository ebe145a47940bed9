"""People who follow a stream of one node, and what they got of it."""

import asyncio

from app.realtime.node import Node
from app.realtime.stream import Position, StreamEvent
from app.realtime.stream_audience import Ended, Following
from tests.unit.realtime.streams.stored_streams import Client

ROOM = "room.lobby"
CELLAR = "room.cellar"


class Guest(Client):
    """Somebody who follows a stream, and is told the end."""

    def __init__(self, node: Node, name: str = "u1", stream: str = ROOM) -> None:
        super().__init__()
        self.node = node
        self.name = name
        self.stream = stream
        self.ended: list[Ended] = []
        self.following: Following

    async def enter(self) -> "Guest":
        await self.node.streams.enter(self.stream)
        return self

    def follow(self, after: int, epoch: int = 1, events: list[StreamEvent] | None = None) -> "Guest":
        position = Position(epoch, after)
        self.following = self.node.streams.follow(
            self.stream, self, person=self.name, after=position, ended=self.ended.append, events=events or []
        )
        return self

    def leave(self) -> None:
        self.following.end()
        self.node.streams.leave(self.stream)


async def here(node: Node, after: int = 0, name: str = "u1", stream: str = ROOM) -> Guest:
    """Somebody who follows from `after`, with the sweep of the beginning behind them."""
    guest = (await Guest(node, name, stream).enter()).follow(after)
    await asyncio.sleep(0)
    return guest


async def end_of_tick() -> None:
    for _ in range(5):
        await asyncio.sleep(0)
