"""The process' ASGI application: Django for HTTP, our doors for WebSockets, consumers for tasks."""

import os

from channels.routing import ChannelNameRouter, ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application
from django.urls import re_path

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "app.settings")
django_application = get_asgi_application()

from app.accounts.middleware import IdentityMiddleware, OriginCheck  # noqa: E402  # models load after Django
from app.routing import http_urlpatterns, task_consumers, websocket_urlpatterns  # noqa: E402
from app.serving.lifespan import lifespan  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": URLRouter([*http_urlpatterns, re_path("", django_application)]),  # type: ignore[arg-type]
        "websocket": OriginCheck(IdentityMiddleware(URLRouter(websocket_urlpatterns))),
        "channel": ChannelNameRouter(task_consumers),
        "lifespan": lifespan,
    }
)
