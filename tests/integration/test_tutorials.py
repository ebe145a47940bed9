"""Tutorials' consumers run unchanged on the fan-out layer, and on the stock ones by one setting."""

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from channels.layers import channel_layers, get_channel_layer
from channels.testing import WebsocketCommunicator
from channels.worker import Worker
from django.conf import settings as django_settings
from django.contrib.auth import SESSION_KEY, get_user_model
from django.contrib.sessions.backends.db import SessionStore
from django.core.management import call_command
from django.db import connection
from pytest_django import Settings

from app.realtime.channel_layer import FanoutChannelLayer
from app.realtime.node import current_node, stop_node
from deploy.local.redis_servers import RedisServers
from tests.channel_layer_contract import until, within
from tests.channel_layer_settings import channel_layers_for
from tests.integration.tutorials.announce import Command as Announce
from tests.integration.tutorials.asgi import application

KINDS = ["fanout", "memory", "channels_redis", "channels_redis_pubsub"]
# The stock layers leave their connections to Sentinel to the garbage collector.
leaky = pytest.mark.filterwarnings("ignore::ResourceWarning")
CORE = pytest.param("channels_redis", marks=leaky)
PUBSUB = pytest.param("channels_redis_pubsub", marks=leaky)


@pytest.fixture(params=["fanout", "memory", CORE, PUBSUB])
async def layer(
    request: pytest.FixtureRequest, redis_servers: RedisServers, settings: Settings
) -> AsyncIterator[str]:
    """Which layer the consumers run on."""
    kind: str = request.param
    settings.CHANNEL_LAYERS = channel_layers_for(kind, redis_servers)
    settings.REDIS_SENTINELS = redis_servers.sentinel_addresses
    settings.REALTIME_BROKER = "app.realtime.redis_broker.RedisBroker"
    yield kind
    for alias in ("default", "tasks"):
        await channel_layers[alias].flush()
    await stop_node()
    channel_layers.backends.clear()
    if kind.startswith("channels_redis"):
        with warnings.catch_warnings(action="ignore", category=ResourceWarning):
            gc.collect()  # here, and not in whichever test comes next


fanout_only = pytest.mark.parametrize("layer", ["fanout"], indirect=True)


@pytest.fixture
async def accounts(transactional_db: None) -> AsyncIterator[dict[str, Any]]:
    """Ada and Grace, by name."""
    user_model = get_user_model()
    yield {name: await user_model.objects.acreate(username=name, password="-") for name in ("ada", "grace")}
    await sync_to_async(_close_database)()


def _close_database() -> None:
    # Django keeps a database in memory open, because closing the last connection would empty it.
    if connection.connection is not None:
        connection.connection.close()
        connection.connection = None


@asynccontextmanager
async def connected(path: str) -> AsyncIterator[WebsocketCommunicator]:
    client = WebsocketCommunicator(application, path)
    accepted, _ = await client.connect(timeout=10)
    assert accepted
    yield client
    await client.disconnect(timeout=10)


async def heard(client: WebsocketCommunicator) -> Any:
    return await client.receive_json_from(timeout=10)


async def test_a_sync_room(layer: str) -> None:
    async with connected("/rooms/lobby/") as ada, connected("/rooms/attic/") as stranger:
        async with connected("/rooms/lobby/") as grace:
            await ada.send_to("hello")
            assert await ada.receive_from(10) == "hello"
            assert await grace.receive_from(10) == "hello"
        await ada.send_to("anybody?")
        assert await ada.receive_from(10) == "anybody?"
        assert await stranger.receive_nothing()


async def test_a_typed_board_with_notices(layer: str) -> None:
    async with connected("/board/ada/") as ada:
        assert await heard(ada) == {"type": "connected", "value": "ada"}
        async with connected("/board/grace/") as grace:
            assert await heard(ada) == await heard(grace) == {"type": "connected", "value": "grace"}
            await grace.send_json_to({"type": "note", "value": "hi"})
            note = {"type": "note", "value": {"from": "grace", "text": "hi"}}
            assert await heard(ada) == await heard(grace) == note
            await grace.send_json_to({"type": "shout", "value": "HI"})
            assert await heard(grace) == {"type": "error", "value": "no such type: shout"}
        assert await heard(ada) == {"type": "disconnected", "value": "grace"}


async def test_an_async_room(layer: str) -> None:
    async with connected("/async-rooms/lobby/") as ada, connected("/async-rooms/lobby/") as grace:
        ada_channel, grace_channel = (await heard(ada))["channel"], (await heard(grace))["channel"]
        assert ada_channel != grace_channel
        for n in range(20):
            await ada.send_json_to({"n": n})
        for client in (ada, grace):
            assert [await heard(client) for _ in range(20)] == [{"n": n} for n in range(20)]
        await ada.send_json_to({"to": grace_channel, "text": "psst"})
        assert (await heard(grace))["text"] == "psst"
        await get_channel_layer().group_send("everyone", {"type": "room.content", "content": "all"})
        assert await heard(ada) == await heard(grace) == "all"


async def test_login_logout_and_what_is_for_one_user_only(layer: str, accounts: dict[str, Any]) -> None:
    async with connected("/account/") as ada, connected("/account/") as grace:
        for client, name in ((ada, "ada"), (grace, "grace")):
            assert (await heard(client))["user"] == ""
            await client.send_json_to({"login": name})
            answer = await heard(client)
            assert answer["user"] == name
            session = await sync_to_async(SessionStore(answer["session"]).load)()
            assert session[SESSION_KEY] == str(accounts[name].pk)

        await ada.send_json_to({"to": accounts["grace"].pk, "text": "for grace"})
        assert await heard(grace) == {"text": "for grace"}
        assert await ada.receive_nothing()

        await grace.send_json_to({"logout": True})
        assert (await heard(grace))["user"] == ""
        await ada.send_json_to({"to": accounts["grace"].pk, "text": "too late"})
        assert await grace.receive_nothing()


async def test_login_and_logout_without_async(layer: str, accounts: dict[str, Any]) -> None:
    async with connected("/sync-account/") as client:
        await client.send_json_to({"login": "ada"})
        answer = await heard(client)
        assert answer["user"] == "ada"
        session = await sync_to_async(SessionStore(answer["session"]).load)()
        assert session[SESSION_KEY] == str(accounts["ada"].pk)
        await client.send_json_to({"logout": True})
        assert (await heard(client))["user"] == ""
        assert not await SessionStore().aexists(answer["session"])


async def test_a_management_command_speaks_to_a_group(layer: str) -> None:
    # The stock memory layer belongs to one event loop: there the command must run beside it.
    run: Callable[..., Awaitable[Any]] = asyncio.to_thread
    if layer == "memory":
        run = sync_to_async(lambda call, *arguments: call(*arguments))
    async with connected("/rooms/lobby/") as client:
        for text in ("one", "two"):
            await run(call_command, Announce(), "lobby", text)
        assert [await client.receive_from(10), await client.receive_from(10)] == ["one", "two"]


@pytest.mark.filterwarnings("ignore:async_to_sync was passed a non-async-marked callable")
@pytest.mark.parametrize("layer", ["fanout", "memory", CORE], indirect=True)
async def test_a_worker_on_a_named_channel(layer: str) -> None:
    worker = Worker(application, ["thumbnails"], get_channel_layer())
    working = asyncio.create_task(worker.arun())
    async with connected("/thumbnails/") as ada, connected("/thumbnails/") as grace:
        for n in range(3):
            await ada.send_json_to({"id": n})
        told = [await heard(ada) for _ in range(6)]
        assert [answer for answer in told if "made" in answer] == [{"made": n} for n in range(3)]
        assert [await heard(grace) for _ in range(3)] == [{"everyone": n} for n in range(3)]
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    for instance in worker.application_instances.values():
        instance["future"].cancel()
    await asyncio.gather(
        *(instance["future"] for instance in worker.application_instances.values()), return_exceptions=True
    )


@fanout_only
async def test_consumers_that_crash_are_forgotten(layer: str) -> None:
    fanout = get_channel_layer()
    assert isinstance(fanout, FanoutChannelLayer)
    local = fanout.local(current_node())
    async with connected("/rooms/lobby/") as witness:
        clients = [WebsocketCommunicator(application, "/rooms/lobby/") for _ in range(20)]
        for client in clients:
            await client.connect(10)
        assert local.members("room_lobby") == 21
        for client in clients:
            await client.send_to("crash")
            with pytest.raises(RuntimeError, match="as it was told to"):
                await client.wait(10)
        await within(until(lambda: local.members("room_lobby") == 1))
        await witness.send_to("still here")
        assert await witness.receive_from(10) == "still here"
    await within(until(lambda: len(local) == 0))
    assert local.groups() == []


@fanout_only
async def test_a_consumer_whose_client_vanished_while_it_wrote_is_forgotten(layer: str) -> None:
    fanout = get_channel_layer()
    assert isinstance(fanout, FanoutChannelLayer)
    local = fanout.local(current_node())
    inbox: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    accepted = asyncio.Event()

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "websocket.accept":
            accepted.set()
        else:
            raise OSError("the client is gone")

    scope = {
        "type": "websocket",
        "path": "/rooms/lobby/",
        "headers": [],
        "query_string": b"",
        "subprotocols": [],
    }
    running = asyncio.create_task(application(scope, inbox.get, send))
    inbox.put_nowait({"type": "websocket.connect"})
    await within(accepted.wait())
    assert local.members("room_lobby") == 1
    inbox.put_nowait({"type": "websocket.receive", "text": "hello"})
    with pytest.raises(OSError, match="the client is gone"):
        await asyncio.wait_for(running, 10)
    await within(until(lambda: len(local) == 0))
    assert local.groups() == []


def test_one_setting_chooses_the_layer(redis_servers: RedisServers) -> None:
    backends = [channel_layers_for(kind, redis_servers)["default"]["BACKEND"] for kind in KINDS]
    assert backends == [
        "app.realtime.channel_layer.FanoutChannelLayer",
        "channels.layers.InMemoryChannelLayer",
        "channels_redis.core.RedisChannelLayer",
        "channels_redis.pubsub.RedisPubSubChannelLayer",
    ]
    assert django_settings.CHANNEL_LAYERS["default"]["BACKEND"] == backends[0]
