import pytest
from channels.routing import URLRouter

from app.routing import websocket_urlpatterns
from tests.unit.accounts.wire import outcome, websocket


@pytest.mark.parametrize("path", ["/realtime", "/realtime/room/lobby/", "/realtime/rooms/No%20Room/", "/"])
async def test_a_path_without_a_door_is_answered_with_404(path: str) -> None:
    scope = websocket()
    scope["path"] = path
    assert await outcome(URLRouter(websocket_urlpatterns), scope) == [404, "no_door"]
