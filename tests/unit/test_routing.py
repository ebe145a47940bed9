from typing import Any

import pytest
from channels.routing import URLRouter
from django.conf import settings

from app.routing import task_consumers, websocket_urlpatterns
from tests.unit.accounts.wire import outcome, websocket


@pytest.mark.parametrize("path", ["/realtime", "/realtime/room/lobby/", "/realtime/rooms/No%20Room/", "/"])
async def test_a_path_without_a_door_is_answered_with_404(path: str) -> None:
    scope = websocket()
    scope["path"] = path
    assert await outcome(URLRouter(websocket_urlpatterns), scope) == [404, "no_door"]


def test_what_the_workers_do_by_themselves_has_somebody_who_does_it() -> None:
    schedule: list[dict[str, Any]] = settings.TASK_SCHEDULE
    for task in schedule:
        consumer = task_consumers[task["channel"]].consumer_class
        assert callable(getattr(consumer, task["type"].replace(".", "_"), None)), task
