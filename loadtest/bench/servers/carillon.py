"""The node as it is, with all its own doors, and two more: members of a group, and who publishes to it."""

import asyncio
import gc
import os
from time import perf_counter
from typing import ClassVar

import msgspec
from channels.routing import ProtocolTypeRouter, URLRouter
from django.urls import path

from app.accounts.middleware import IdentityMiddleware, OriginCheck
from app.realtime.consumers import NoData, RealtimeConsumer
from app.realtime.event import Delivery, Event
from app.realtime.handlers import command
from app.realtime.publisher import publish
from app.routing import websocket_urlpatterns
from app.serving.direct_connection import DirectConnection
from app.serving.lifespan import lifespan
from loadtest.bench import wire
from loadtest.bench.servers.pace import Run, numbers

GROUP = "bench"


class Ticked(Event):
    """What is published."""

    name: ClassVar[str] = "bench.ticked"
    delivery: ClassVar[Delivery] = Delivery.DURABLE

    number: int
    text: str


class About(msgspec.Struct):
    """This process."""

    pid: int


class Watch(msgspec.Struct):
    """For so many seconds."""

    span: float


class Turns(msgspec.Struct):
    """The longest one of the loop, in seconds."""

    longest: float


class Done(msgspec.Struct):
    """From the first publish until the last byte was handed to the kernel."""

    seconds: float
    recipients: int


class ControlConsumer(RealtimeConsumer):
    """The bench's own connection: it is in no group."""

    @command("bench.about")
    async def about(self, data: NoData) -> About:
        """Once the bus is there, collect garbage and tell which process to look at."""
        while not self.node.broker.connected:  # noqa: ASYNC110  # no event tells it
            await asyncio.sleep(0.01)
        gc.collect()
        return About(os.getpid())

    @command("bench.turns")
    async def turns(self, watch: Watch) -> Turns:
        """Turn the loop as fast as it goes, and see how long it takes at the most."""
        longest, last = 0.0, perf_counter()
        end = last + watch.span
        while last < end:
            await asyncio.sleep(0)
            now = perf_counter()
            longest, last = max(longest, now - last), now
        return Turns(longest)

    @command("bench.publish")
    async def publish(self, run: Run) -> Done:
        """Publish to all members, through the node's front door."""
        members = list(MemberConsumer.members)
        started = perf_counter()
        async for number in numbers(run):
            publish(GROUP, Ticked(number=number, text=wire.TEXT))
        while not self.node.hub.idle() or _unsent(members):  # noqa: ASYNC110  # each turn writes
            await asyncio.sleep(0)
        return Done(perf_counter() - started, len(members))


class MemberConsumer(RealtimeConsumer):
    """A connection of the group."""

    members: ClassVar[set["MemberConsumer"]] = set()

    async def connected(self) -> None:
        """Join."""
        self.members.add(self)
        await self.subscribe(GROUP)

    def disconnected(self, code: int) -> None:
        """The crowd has gone home."""
        self.members.discard(self)


def _unsent(members: list[MemberConsumer]) -> bool:
    for member in members:
        connection = member.connection
        assert isinstance(connection, DirectConnection)
        if connection.transport.get_write_buffer_size():
            return True
    return False


application = ProtocolTypeRouter(
    {
        "websocket": OriginCheck(
            IdentityMiddleware(
                URLRouter(
                    [
                        path("realtime/bench/control/", ControlConsumer.as_asgi()),  # type: ignore[arg-type]
                        path("realtime/bench/member/", MemberConsumer.as_asgi()),  # type: ignore[arg-type]
                        *websocket_urlpatterns,
                    ]
                )
            )
        ),
        "lifespan": lifespan,
    }
)
