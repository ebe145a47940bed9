"""Consumers as tutorials for Channels teach them: nothing here knows of this project."""

from typing import Any

from asgiref.sync import async_to_sync
from channels.auth import login, logout
from channels.consumer import SyncConsumer
from channels.db import database_sync_to_async
from channels.generic.websocket import AsyncJsonWebsocketConsumer, JsonWebsocketConsumer, WebsocketConsumer
from django.contrib.auth import get_user_model


class RoomConsumer(WebsocketConsumer):  # type: ignore[misc]
    """A chat room, written without a single `async`."""

    def connect(self) -> None:
        self.group = f"room_{self.scope['url_route']['kwargs']['room']}"
        async_to_sync(self.channel_layer.group_add)(self.group, self.channel_name)
        self.accept()

    def disconnect(self, code: int) -> None:
        async_to_sync(self.channel_layer.group_discard)(self.group, self.channel_name)

    def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        if text_data == "crash":
            raise RuntimeError("as it was told to")
        async_to_sync(self.channel_layer.group_send)(self.group, {"type": "room.text", "text": text_data})

    def room_text(self, event: dict[str, Any]) -> None:
        self.send(text_data=event["text"])


class BoardConsumer(JsonWebsocketConsumer):  # type: ignore[misc]
    """`{type, value}` both ways, and everybody is told who comes and goes."""

    def connect(self) -> None:
        self.name = self.scope["url_route"]["kwargs"]["name"]
        async_to_sync(self.channel_layer.group_add)("board", self.channel_name)
        self.accept()
        self.tell("connected", self.name)

    def disconnect(self, code: int) -> None:
        async_to_sync(self.channel_layer.group_discard)("board", self.channel_name)
        self.tell("disconnected", self.name)

    def receive_json(self, content: dict[str, Any], **kwargs: Any) -> None:
        match content["type"]:
            case "note":
                self.tell("note", {"from": self.name, "text": content["value"]})
            case other:
                self.send_json({"type": "error", "value": f"no such type: {other}"})

    def tell(self, kind: str, value: Any) -> None:
        async_to_sync(self.channel_layer.group_send)(
            "board", {"type": "board.told", "content": {"type": kind, "value": value}}
        )

    def board_told(self, event: dict[str, Any]) -> None:
        self.send_json(event["content"])


class AsyncRoomConsumer(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    """The same room with `async`; a group of its class, too."""

    groups = ("everyone",)

    async def connect(self) -> None:
        self.group = f"async_room_{self.scope['url_route']['kwargs']['room']}"
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept()
        await self.send_json({"channel": self.channel_name})

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive_json(self, content: dict[str, Any], **kwargs: Any) -> None:
        if "to" in content:
            await self.channel_layer.send(content["to"], {"type": "room.content", "content": content})
        else:
            await self.channel_layer.group_send(self.group, {"type": "room.content", "content": content})

    async def room_content(self, event: dict[str, Any]) -> None:
        await self.send_json(event["content"])


class AccountConsumer(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    """Logs in and out over the open connection; what is for one user reaches that user alone."""

    async def connect(self) -> None:
        await self.accept()
        await self.follow(self.scope["user"])

    async def receive_json(self, content: dict[str, Any], **kwargs: Any) -> None:
        match content:
            case {"login": name}:
                user = await get_user_model().objects.aget(username=name)
                await login(self.scope, user, backend="django.contrib.auth.backends.ModelBackend")
                await database_sync_to_async(self.scope["session"].save)()
                await self.follow(user)
            case {"logout": _}:
                await self.channel_layer.group_discard(f"user_{self.scope['user'].pk}", self.channel_name)
                await logout(self.scope)
                await database_sync_to_async(self.scope["session"].save)()
                await self.follow(self.scope["user"])
            case {"to": pk, "text": text}:
                await self.channel_layer.group_send(f"user_{pk}", {"type": "user.text", "text": text})

    async def follow(self, user: Any) -> None:
        if user.is_authenticated:
            await self.channel_layer.group_add(f"user_{user.pk}", self.channel_name)
        await self.send_json({"user": user.get_username(), "session": self.scope["session"].session_key})

    async def user_text(self, event: dict[str, Any]) -> None:
        await self.send_json({"text": event["text"]})


class SyncAccountConsumer(JsonWebsocketConsumer):  # type: ignore[misc]
    """Logging in and out, without `async`."""

    def receive_json(self, content: dict[str, Any], **kwargs: Any) -> None:
        if "login" in content:
            user = get_user_model().objects.get(username=content["login"])
            async_to_sync(login)(self.scope, user, backend="django.contrib.auth.backends.ModelBackend")
        else:
            async_to_sync(logout)(self.scope)
        self.scope["session"].save()
        self.send_json(
            {"user": self.scope["user"].get_username(), "session": self.scope["session"].session_key}
        )


class ThumbnailConsumer(SyncConsumer):  # type: ignore[misc]
    """Works on what is sent to a named channel, and answers whoever asked."""

    def thumbnail_make(self, message: dict[str, Any]) -> None:
        async_to_sync(self.channel_layer.send)(
            message["reply_to"], {"type": "room.content", "content": {"made": message["id"]}}
        )
        async_to_sync(self.channel_layer.group_send)(
            "everyone", {"type": "room.content", "content": {"everyone": message["id"]}}
        )


class ThumbnailDoorConsumer(AsyncJsonWebsocketConsumer):  # type: ignore[misc]
    """Hands work to the worker."""

    groups = ("everyone",)

    async def receive_json(self, content: dict[str, Any], **kwargs: Any) -> None:
        await self.channel_layer.send(
            "thumbnails", {"type": "thumbnail.make", "id": content["id"], "reply_to": self.channel_name}
        )

    async def room_content(self, event: dict[str, Any]) -> None:
        await self.send_json(event["content"])
