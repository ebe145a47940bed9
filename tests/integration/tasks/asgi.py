"""Tasks that write down what happens to them, a line each, in the file that NOTES names."""

import asyncio
import os
import time
from typing import Any

from channels.consumer import AsyncConsumer, SyncConsumer
from channels.routing import ChannelNameRouter, ProtocolTypeRouter
from django.core.asgi import get_asgi_application

get_asgi_application()


def note(text: str) -> None:
    with open(os.environ["NOTES"], "a") as notes:
        notes.write(f"{text}\n")


class Chores(AsyncConsumer):  # type: ignore[misc]  # untyped library
    async def note_down(self, message: Any) -> None:
        note(message["text"])

    async def note_schedule(self, message: Any) -> None:
        note("scheduled")

    async def take_long(self, message: Any) -> None:
        note(f"{message['text']} begins")
        await asyncio.sleep(message["seconds"])
        note(f"{message['text']} ends")

    async def fail(self, message: Any) -> None:
        raise RuntimeError("this task always fails")


class Stubborn(SyncConsumer):  # type: ignore[misc]
    def take_long(self, message: Any) -> None:
        note(f"{message['text']} begins")
        time.sleep(message["seconds"])
        note(f"{message['text']} ends")


class Idle(AsyncConsumer):  # type: ignore[misc]
    async def note_schedule(self, message: Any) -> None:
        note("again")


application = ProtocolTypeRouter(
    {
        "channel": ChannelNameRouter(
            {"chores": Chores.as_asgi(), "stubborn": Stubborn.as_asgi(), "idle": Idle.as_asgi()}
        )
    }
)
