"""A node's application for the tests of serving: consumers that do, and spoil, what their commands say.

The same consumer is on the fast path (`/realtime/`) and on the path that every ASGI server has (`/mailbox/`).
"""

import asyncio
import gc
import json
import os
import time
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import parse_qs

import msgspec
from channels.routing import ProtocolTypeRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "app.settings")
django_application = get_asgi_application()

from app.realtime.consumers import NoData, RealtimeConsumer  # noqa: E402  # settings come first
from app.realtime.event import Delivery, Event  # noqa: E402
from app.realtime.handlers import command  # noqa: E402
from app.realtime.identity import Identity  # noqa: E402
from app.realtime.memory_broker import MemoryBroker  # noqa: E402
from app.realtime.publisher import publish  # noqa: E402
from app.serving.lifespan import lifespan  # noqa: E402


class Said(Event):
    name: ClassVar[str] = "test.said"
    delivery: ClassVar[Delivery] = Delivery.DURABLE

    number: int
    padding: str = ""


class Priced(Said):
    name: ClassVar[str] = "test.priced"
    delivery: ClassVar[Delivery] = Delivery.LATEST


class Typed(Said):
    name: ClassVar[str] = "test.typed"
    delivery: ClassVar[Delivery] = Delivery.DROPPABLE


EVENTS = {kind.name: kind for kind in (Said, Priced, Typed)}


class Publish(msgspec.Struct, forbid_unknown_fields=True):
    group: str
    first: int
    count: int = 1
    size: int = 0
    event: str = "test.said"


class Number(msgspec.Struct, forbid_unknown_fields=True):
    number: int


class Until(msgspec.Struct, forbid_unknown_fields=True):
    file: str


class Group(msgspec.Struct, forbid_unknown_fields=True):
    group: str


class Consumer(RealtimeConsumer):
    """Behaves."""

    left: ClassVar[dict[str, int]] = {}
    """Name of a client that said one to its close code."""
    gates: ClassVar[dict[str, asyncio.Event]] = {}

    def disconnected(self, code: int) -> None:
        if self.identity.name:
            self.left[self.identity.name] = code

    @command("echo")
    def echo(self, data: Number) -> Number:
        return data

    @command("echo_later")
    async def echo_later(self, data: Number) -> Number:
        await asyncio.sleep(0)
        return data

    @command("wait")
    async def wait(self, data: Group) -> None:
        await self.gates.setdefault(data.group, asyncio.Event()).wait()

    @command("open")
    def open(self, data: Group) -> None:
        self.gates.setdefault(data.group, asyncio.Event()).set()

    @command("join")
    async def join(self, data: Group) -> None:
        await self.subscribe(data.group)

    @command("leave")
    def leave(self, data: Group) -> None:
        self.unsubscribe(data.group)

    @command("publish")
    def publish(self, data: Publish) -> None:
        for number in range(data.first, data.first + data.count):
            publish(data.group, EVENTS[data.event](number, "x" * data.size))

    @command("speak_and_close")
    def speak_and_close(self, data: Number) -> None:
        """Everything that writes, before and after the close."""
        publish("speakers", Said(-1))
        for number in range(50):
            self.send(Said(number))
        self.close(data.number)
        self.send(Said(-2))

    @command("fail")
    def fail(self, data: NoData) -> None:
        raise RuntimeError("this command always fails")

    @command("block")
    def block(self, data: Until) -> None:
        """The event loop stands still until there is such a file."""
        while not Path(data.file).exists():
            time.sleep(0.05)

    @command("close_code_of")
    def close_code_of(self, data: Group) -> Number:
        return Number(self.left.get(data.group, 0))

    @command("leftovers")
    def leftovers(self, data: NoData) -> dict[str, Any]:
        gc.collect()
        assert isinstance(self.node.broker, MemoryBroker)
        with open("/proc/self/statm") as statm:
            resident = int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return {
            "pid": os.getpid(),
            "resident": resident,
            "tasks": len(asyncio.all_tasks()),
            "groups": self.node.hub.groups(),
            "bus": len(self.node.broker._groups - self.node._listeners.keys()),
            "descriptors": len(os.listdir("/proc/self/fd")),
            "objects": dict(Counter(type(one).__name__ for one in gc.get_objects())),
        }


class CrashingConsumer(Consumer):
    """Fails where its URL's query says."""

    crash = ""

    async def connected(self) -> None:
        await self.subscribe("room")
        if self.crash == "connected":
            raise RuntimeError("connected crashes")

    def disconnected(self, code: int) -> None:
        if self.crash == "disconnected":
            raise RuntimeError("disconnected crashes")

    @command("crash_now")
    def crash_now(self, data: NoData) -> None:
        self.subscribe("another room")
        raise RuntimeError("a sync command crashes")

    @command("crash_later")
    async def crash_later(self, data: NoData) -> None:
        await self.subscribe("another room")
        raise RuntimeError("an async command crashes")

    @command("hang")
    async def hang(self, data: NoData) -> None:
        await self.subscribe("another room")
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.unsubscribe("another room")


async def _refused(scope: Any, receive: Any, send: Any) -> None:
    headers = [(b"content-type", b"text/plain")]
    await send({"type": "websocket.http.response.start", "status": 401, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": b"no ticket"})


async def _seen(scope: Any, receive: Any, send: Any) -> None:
    """Says who came, and how, as the application is told."""
    kind = "http" if scope["type"] == "http" else "websocket.http"
    body = json.dumps({"client": scope["client"][0], "scheme": scope["scheme"]}).encode()
    await send({"type": f"{kind}.response.start", "status": 403, "headers": []})
    await send({"type": f"{kind}.response.body", "body": body})


async def _closed(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "websocket.close"})


async def _broken(scope: Any, receive: Any, send: Any) -> None:
    raise RuntimeError("this door is broken")


async def _stock(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (await receive())["type"] != "websocket.disconnect":
        pass


DOORS = {
    "/realtime/": Consumer.as_asgi(),
    "/mailbox/": Consumer.as_asgi(),
    "/realtime/crashing/": None,
    "/mailbox/crashing/": None,
    "/realtime/refused/": _refused,
    "/realtime/closed/": _closed,
    "/realtime/broken/": _broken,
    "/realtime/stock/": _stock,
    "/realtime/seen/": _seen,
    "/seen/": _seen,
    "/stock/": _stock,
}


async def websocket(scope: Any, receive: Any, send: Any) -> None:
    """Everybody may come in, under any name, and choose what is going to fail."""
    query = parse_qs(scope["query_string"].decode())
    name = query.get("name", [""])[0]
    scope["identity"] = Identity(f"u{name}", name)
    door = DOORS[scope["path"]]
    if door is None:
        consumer = CrashingConsumer()
        consumer.crash = query["crash"][0]
        await consumer._open(scope, receive, send)
    else:
        await door(scope, receive, send)


async def _endless(scope: Any, receive: Any, send: Any) -> None:
    """A response that ends when its client is gone, as a stream of events does."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"begun", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def http(scope: Any, receive: Any, send: Any) -> None:
    """Django, but for two doors of ours."""
    ours = {"/seen/": _seen, "/endless/": _endless}
    await ours.get(scope["path"], django_application)(scope, receive, send)


application = ProtocolTypeRouter({"http": http, "websocket": websocket, "lifespan": lifespan})
