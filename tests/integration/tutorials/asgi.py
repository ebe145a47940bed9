"""The tutorials' consumers as an application, wired as tutorials do."""

import django
from channels.auth import AuthMiddlewareStack
from channels.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter
from django.urls import re_path

django.setup()

from app.serving.lifespan import lifespan  # noqa: E402
from tests.integration.tutorials import consumers  # noqa: E402  # models need Django to be ready

application = ProtocolTypeRouter(
    {
        "websocket": AuthMiddlewareStack(
            URLRouter(
                [
                    re_path(r"^rooms/(?P<room>\w+)/$", consumers.RoomConsumer.as_asgi()),
                    re_path(r"^board/(?P<name>\w+)/$", consumers.BoardConsumer.as_asgi()),
                    re_path(r"^async-rooms/(?P<room>\w+)/$", consumers.AsyncRoomConsumer.as_asgi()),
                    re_path(r"^account/$", consumers.AccountConsumer.as_asgi()),
                    re_path(r"^sync-account/$", consumers.SyncAccountConsumer.as_asgi()),
                    re_path(r"^thumbnails/$", consumers.ThumbnailDoorConsumer.as_asgi()),
                ]
            )
        ),
        "lifespan": lifespan,
        "channel": ChannelNameRouter({"thumbnails": consumers.ThumbnailConsumer.as_asgi()}),
    }
)
