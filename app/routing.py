"""Every WebSocket door, every stream of events over HTTP, and who runs the tasks of each named channel."""

from functools import partial

from django.conf import settings
from django.urls import path, re_path

from app.accounts.consumers import AccountTasks
from app.accounts.middleware import IdentityMiddleware, OriginCheck
from app.accounts.refusals import refuse, welcome
from app.chat.consumers import ChatConsumer, ChatTasks, RoomConsumer
from app.chat.event_stream import event_stream
from app.chat.models import SLUG_PATTERN
from app.journal.consumers import JournalTasks
from app.markers.consumers import MarkerConsumer
from app.serving.admission import Welcome

# Django's stubs know views only; Channels routes ASGI applications by the same patterns.
websocket_urlpatterns = [
    path("realtime/", ChatConsumer.as_asgi()),  # type: ignore[arg-type]
    re_path(rf"^realtime/rooms/(?P<slug>{SLUG_PATTERN})/\Z", RoomConsumer.as_asgi()),  # type: ignore[arg-type]
    *(
        [re_path(rf"^markers/(?P<name>{SLUG_PATTERN})/\Z", MarkerConsumer.as_asgi())]
        if settings.MARKERS_ALLOWED
        else []
    ),
    re_path("", partial(refuse, "no_door")),  # type: ignore[arg-type]
]

# HTTP beside Django: what would hold one of its threads for as long as somebody listens, and what everybody
# asks at once whom a node has refused.
http_urlpatterns = [
    re_path("^realtime/", Welcome(OriginCheck(IdentityMiddleware(welcome)))),  # type: ignore[arg-type]
    re_path(
        rf"^rooms/(?P<slug>{SLUG_PATTERN})/events/\Z",
        Welcome(OriginCheck(IdentityMiddleware(event_stream))),  # type: ignore[arg-type]
    ),
]

task_consumers = {
    "accounts": AccountTasks.as_asgi(),
    "journal": JournalTasks.as_asgi(),
    "chat": ChatTasks.as_asgi(),
}
