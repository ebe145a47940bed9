import importlib
from functools import partial
from typing import Any

import pytest
from channels.routing import URLRouter
from channels.testing import WebsocketCommunicator
from django.urls import re_path
from pytest_django import Settings

from app import routing
from app.markers.consumers import MarkerConsumer

APPLICATION = URLRouter([re_path(r"^markers/(?P<name>\w+)/\Z", MarkerConsumer.as_asgi())])


async def arrive(name: str) -> Any:
    socket = WebsocketCommunicator(APPLICATION, f"/markers/{name}/", subprotocols=["carillon.v1"])
    assert await socket.connect() == (True, "carillon.v1")
    return socket


async def test_what_one_says_all_of_the_same_name_hear_and_nobody_else(settings: Settings) -> None:
    ada, bob, eve = await arrive("load"), await arrive("load"), await arrive("other")
    for socket in (ada, bob, eve):
        hello = await socket.receive_json_from()
        assert (hello["event"], hello["data"]["node"]) == ("hello", settings.NODE_NAME)
    await ada.send_json_to({"number": 1})
    for socket in (ada, bob):
        assert (await socket.receive_json_from())["data"]["said"] == {"number": 1}
    await eve.send_json_to({"number": 2})
    assert (await eve.receive_json_from())["data"]["said"] == {"number": 2}
    for socket in (ada, bob, eve):
        await socket.disconnect()


@pytest.mark.parametrize("allowed", [True, False])
def test_the_door_is_there_only_where_it_is_allowed(settings: Settings, allowed: bool) -> None:
    settings.MARKERS_ALLOWED = allowed
    try:
        doors = importlib.reload(routing).websocket_urlpatterns
        first = next(door for door in doors if door.pattern.match("markers/load/"))
        assert isinstance(first.callback, partial) is not allowed  # who refuses is a partial
    finally:
        settings.MARKERS_ALLOWED = True
        importlib.reload(routing)
