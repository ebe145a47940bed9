"""Durable posts as Channels' tutorials lead to them: a consumer, the ORM, one transaction for each post.

The stock consumer on uvicorn over channels-redis. It gives no sequence, and nobody can resume: what it does
less than Carillon is not held against it.
"""

import json
import os
from typing import Any, ClassVar

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "app.settings")
django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402  # models load after Django
from channels.routing import ProtocolTypeRouter, URLRouter  # noqa: E402
from django.db import connection, models  # noqa: E402
from django.urls import path  # noqa: E402

from loadtest.bench.servers.stock import ControlConsumer  # noqa: E402

_encode = json.JSONEncoder(separators=(",", ":")).encode


class Message(models.Model):
    """What the tutorials store."""

    objects: ClassVar[models.Manager["Message"]] = models.Manager()

    room = models.CharField(max_length=40, db_index=True)
    sender = models.CharField(max_length=120)
    text = models.TextField()
    sent_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        app_label = "bench"

    def __str__(self) -> str:
        return self.text


class RoomConsumer(AsyncWebsocketConsumer):  # type: ignore[misc]
    """The tutorials' consumer, with a room that is stored."""

    async def connect(self) -> None:
        """Say hello."""
        self.joined: set[str] = set()
        await self.accept()
        await self.send(text_data=_encode({"event": "hello", "data": {"node": os.environ["NODE_NAME"]}}))

    async def disconnect(self, close_code: int) -> None:
        """Leave the rooms."""
        for room in self.joined:
            await self.channel_layer.group_discard(room, self.channel_name)

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Carry out a command."""
        command = json.loads(text_data or "{}")
        room = command["data"]["room"]
        if command["command"] == "chat.join_room":
            self.joined.add(room)
            await self.channel_layer.group_add(room, self.channel_name)
            reply: dict[str, Any] = {"room": room, "position": {"epoch": 0, "sequence": 0}}
        else:
            message = await Message.objects.acreate(
                room=room, sender=self.channel_name, text=command["data"]["text"]
            )
            reply = {"message_id": message.pk, "sent_at": message.sent_at.isoformat()}
            await self.channel_layer.group_send(
                room, {"type": "chat.message", "text": message.text, "room": room} | reply
            )
        await self.send(text_data=_encode({"id": command["id"], "reply": reply}))

    async def chat_message(self, event: dict[str, Any]) -> None:
        """Somebody said something."""
        data = {name: value for name, value in event.items() if name != "type"}  # others here get this object
        await self.send(text_data=_encode({"event": "chat.message_posted", "data": data}))


if Message._meta.db_table not in connection.introspection.table_names():
    with connection.schema_editor() as editor:
        editor.create_model(Message)
connection.close()

application = ProtocolTypeRouter(
    {"websocket": URLRouter([path("", RoomConsumer.as_asgi()), path("control", ControlConsumer.as_asgi())])}
)
