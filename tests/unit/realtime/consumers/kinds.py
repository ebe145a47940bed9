"""Consumers that do what their commands say."""

import asyncio
from functools import partial
from typing import ClassVar

import msgspec

from app.realtime.consumers import RealtimeConsumer
from app.realtime.event import Delivery, Event
from app.realtime.handlers import Later, Reply, command
from app.realtime.protocol import CommandError
from app.realtime.publisher import publish


class Said(Event):
    name: ClassVar[str] = "test.said"
    delivery: ClassVar[Delivery] = Delivery.DURABLE

    text: str


class Text(msgspec.Struct, forbid_unknown_fields=True):
    text: str


class Tree(msgspec.Struct, forbid_unknown_fields=True):
    branches: list["Tree"]


class Consumer(RealtimeConsumer):
    """Does what its commands say."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = asyncio.Event()
        self.codes: list[int] = []
        self.done: list[str] = []

    def disconnected(self, code: int) -> None:
        self.codes.append(code)

    @command("echo")
    def echo(self, data: Text) -> Text:
        self.done.append(data.text)
        return data

    @command("wait")
    async def wait(self, data: Text) -> Text:
        await self.gate.wait()
        self.done.append(data.text)
        return data

    @command("join")
    async def join(self, data: Text) -> None:
        await self.subscribe(data.text)

    @command("leave")
    def leave(self, data: Text) -> None:
        self.unsubscribe(data.text)

    @command("say")
    def say(self, data: Text) -> None:
        publish("room", Said(data.text))

    @command("close")
    def close_me(self, data: Text) -> None:
        self.close(int(data.text))

    @command("grow")
    def grow(self, data: Tree) -> None:
        """Takes anything as deep as it is."""

    @command("refuse")
    async def refuse(self, data: Text) -> None:
        raise CommandError("not_allowed", data.text, retry_after=1.23456)

    @command("fail")
    def fail(self, data: Text) -> None:
        raise RuntimeError(data.text)

    @command("fail_later")
    async def fail_later(self, data: Text) -> None:
        await asyncio.sleep(0)
        raise RuntimeError(data.text)

    @command("cancelled_elsewhere")
    async def cancelled_elsewhere(self, data: Text) -> None:
        other: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        other.cancel()
        await other

    @command("store")
    def store(self, data: Text) -> Later:
        self.stored: asyncio.Future[str] = asyncio.get_running_loop().create_future()

        def reply(stored: asyncio.Future[str]) -> Text | Reply:
            if stored.result() == "refused":
                raise CommandError("not_allowed", data.text)
            self.done.append(data.text)
            return Text(stored.result()) if data.text != "both" else Reply(Text("both"), self.tell)

        return Later(self.stored, reply)

    @command("store_later")
    async def store_later(self, data: Text) -> Later:
        await asyncio.sleep(0)
        return self.store(data)

    @command("reply_and_tell")
    def reply_and_tell(self, data: Text) -> Reply:
        return Reply(data, self.tell if data.text != "fail" else partial(self.fail, data))

    def tell(self) -> None:
        self.send(Said("behind the reply"))

    @command("unencodable")
    def unencodable(self, data: Text) -> object:
        return object()


class Slow(Consumer):
    async def connected(self) -> None:
        await self.subscribe("room")
        await self.gate.wait()


class Clings(Consumer):
    """Its command does not want to end."""

    @command("cling")
    async def cling(self, data: Text) -> None:
        await self.subscribe(data.text)
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.unsubscribe(data.text)
            await self.subscribe(data.text)
