"""The consumer that Channels' tutorials teach, on uvicorn as it comes: tuned neither for nor against.

The layer is the one that CHANNEL_LAYER names; /signed-in/ is the same behind Channels' own authentication.
"""

import asyncio
import gc
import json
import os
from time import perf_counter
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "app.settings")
django.setup()

from channels.auth import AuthMiddlewareStack  # noqa: E402  # models load after Django
from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.urls import path  # noqa: E402

from loadtest.bench import wire  # noqa: E402
from loadtest.bench.servers.pace import Run, numbers  # noqa: E402

GROUP = "bench"

# Without spaces, so that its frames are the same bytes as everybody's; as fast as json.dumps.
_encode = json.JSONEncoder(separators=(",", ":")).encode


class Deliveries:
    """Who is in the group, and how far a run is."""

    def __init__(self) -> None:
        self.members = 0
        self._open = 0
        self._all = asyncio.Event()

    def expect(self, count: int) -> asyncio.Event:
        """Set when `count` more have been written."""
        self._open = count
        self._all = asyncio.Event()
        return self._all

    def count(self) -> None:
        """One was written."""
        self._open -= 1
        if not self._open:
            self._all.set()


deliveries = Deliveries()


class MemberConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """The tutorials' consumer."""

    async def connect(self) -> None:
        """Join the group and say hello."""
        await self.channel_layer.group_add(GROUP, self.channel_name)
        await self.accept()
        await self.send(text_data=_encode({"event": "hello", "data": {}}))
        deliveries.members += 1

    async def disconnect(self, close_code: int) -> None:
        """Leave the group."""
        deliveries.members -= 1
        await self.channel_layer.group_discard(GROUP, self.channel_name)

    async def bench_ticked(self, event: dict[str, Any]) -> None:
        """Something was published."""
        data = {"number": event["number"], "text": event["text"]}
        await self.send(text_data=_encode({"event": "bench.ticked", "data": data}))
        deliveries.count()


class ControlConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """The bench's own connection."""

    async def connect(self) -> None:
        """Say hello."""
        await self.accept()
        await self.send(text_data=_encode({"event": "hello", "data": {}}))

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Carry out a command."""
        command = json.loads(text_data or "{}")
        if command["command"] == "bench.publish":
            reply = await self._publish(Run(**command["data"]))
        else:
            gc.collect()
            reply = {"pid": os.getpid()}
        await self.send(text_data=_encode({"id": command["id"], "reply": reply}))

    async def _publish(self, run: Run) -> dict[str, Any]:
        members = deliveries.members
        written = deliveries.expect(run.count * members)
        started = perf_counter()
        async for number in numbers(run):
            await self.channel_layer.group_send(
                GROUP, {"type": "bench.ticked", "number": number, "text": wire.TEXT}
            )
        await written.wait()
        return {"seconds": perf_counter() - started, "recipients": members}


application = ProtocolTypeRouter(
    {
        "websocket": URLRouter(
            [
                path("", MemberConsumer.as_asgi()),
                path("signed-in/", AuthMiddlewareStack(MemberConsumer.as_asgi())),
                path("control", ControlConsumer.as_asgi()),
            ]
        )
    }
)
