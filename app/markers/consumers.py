"""The door for markers: a consumer as tutorials for Channels teach it, on whatever channel layer is set.

Never behind a door that is open by default in production: it has no limits of its own (`MARKERS_ALLOWED`).
"""

from typing import Any

from channels.generic.websocket import AsyncJsonWebsocketConsumer
from django.conf import settings

from app.realtime.protocol import SUBPROTOCOL


class MarkerConsumer(AsyncJsonWebsocketConsumer):  # type: ignore[misc]  # untyped library
    """What one says all of the same name get, also the one who said it. `hello` comes when one hears them."""

    async def connect(self) -> None:
        self.group = f"markers.{self.scope['url_route']['kwargs']['name']}"
        await self.channel_layer.group_add(self.group, self.channel_name)
        await self.accept(SUBPROTOCOL if SUBPROTOCOL in self.scope["subprotocols"] else None)
        data = {"node": settings.NODE_NAME, "connection": self.channel_name}
        await self.send_json({"event": "hello", "data": data})

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard(self.group, self.channel_name)

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        data = {"sender": self.channel_name, "node": settings.NODE_NAME, "said": content}
        await self.channel_layer.group_send(self.group, {"type": "marker.said", "data": data})

    async def marker_said(self, message: dict[str, Any]) -> None:
        await self.send_json({"event": "marker.said", "data": message["data"]})
