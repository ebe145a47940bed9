"""A room as server-sent events: the same stream, in chunks of a response."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from channels.routing import URLRouter
from django.urls import re_path

from app.chat import event_stream as module
from app.chat.event_stream import event_stream
from app.chat.models import SLUG_PATTERN
from app.chat.services import close_room, open_room
from app.database.thread import in_database_thread
from app.journal.services import renew_epochs
from app.realtime.identity import Identity
from app.realtime.node import current_node
from tests.broker_contract import eventually
from tests.unit.chat.client import ADA, BOB, EVE, Client, client

pytestmark = pytest.mark.django_db(transaction=True)

PATH = re_path(rf"^rooms/(?P<slug>{SLUG_PATTERN})/events/\Z", event_stream)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def lobby(node: None, transactional_db: None) -> None:
    close_room("lobby")
    open_room("lobby", "Lobby", opener=ADA)


class Response:
    """What a server would have written; `read` waits for the next event."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[bytes, bytes] = {}
        self.ended = asyncio.Event()
        self.gone = asyncio.Event()
        self.chunks: asyncio.Queue[str] = asyncio.Queue()

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status, self.headers = message["status"], dict(message["headers"])
            return
        self.chunks.put_nowait(message["body"].decode())
        if not message.get("more_body", False):
            self.ended.set()

    async def receive(self) -> Any:
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def read(self) -> dict[str, Any]:
        """The next event: its fields, with `data` decoded."""
        while True:
            chunk = await asyncio.wait_for(self.chunks.get(), 10)
            fields = dict(line.split(": ", 1) for line in chunk.splitlines() if ": " in line)
            if fields:
                return {**fields, "data": json.loads(fields["data"])}


@asynccontextmanager
async def listening(
    person: Identity, room: str = "lobby", *, last: str | None = None, query: str = "", method: str = "GET"
) -> AsyncIterator[Response]:
    response = Response()
    scope = {
        "type": "http",
        "method": method,
        "path": f"/rooms/{room}/events/",
        "query_string": query.encode(),
        "headers": [] if last is None else [(b"last-event-id", last.encode())],
        "identity": person,
    }
    task = asyncio.create_task(URLRouter([PATH])(scope, response.receive, response.send))
    try:
        yield response
    finally:
        response.gone.set()
        await asyncio.wait_for(task, 10)


async def heard_one_of_two(ada: Client) -> str:
    """`ada` posts two; where somebody was who listened to the first only."""
    async with listening(BOB) as bob:
        await bob.read()
        await ada.post("one")
        place: str = (await bob.read())["id"]
    await ada.post("two")
    return place


async def test_a_listener_gets_a_snapshot_and_what_follows() -> None:
    async with client(ADA) as ada:
        await ada.post("one")
        async with listening(BOB) as bob:
            snapshot = await bob.read()
            assert (bob.status, bob.headers[b"content-type"]) == (200, b"text/event-stream; charset=utf-8")
            assert snapshot["event"] == "snapshot"
            assert [message["text"] for message in snapshot["data"]["messages"]] == ["one"]
            posted = await ada.post("two")
            event = await bob.read()
            assert event["id"] == f"{posted['epoch']}-{posted['sequence']}"
            assert (event["data"]["event"], event["data"]["data"]["text"]) == ("chat.message_posted", "two")
            assert (await ada.command("chat.join_room", room="lobby"))["count"] == 1
            await ada.post("three")
            assert (await bob.read())["data"]["sequence"] == 3, "who is present is not told here"
    assert current_node().hub.members("room.lobby") == 0


@pytest.mark.parametrize("way", ["last", "query"])
async def test_a_listener_comes_back_to_where_it_was(way: str) -> None:
    async with client(ADA) as ada:
        place = await heard_one_of_two(ada)
        where: Any = {"last": place} if way == "last" else {"query": f"after={place}"}
        async with listening(BOB, **where) as bob:
            event = await bob.read()
            assert (event["data"]["sequence"], event["data"]["data"]["text"]) == (2, "two")


async def test_who_cannot_go_on_gets_a_snapshot_again() -> None:
    async with client(ADA) as ada:
        await ada.post("one")
        async with listening(BOB, last="1-1") as bob:
            event = await bob.read()
            assert (event["event"], event["data"]["reset"]) == ("reset", "epoch")
            assert [message["text"] for message in event["data"]["messages"]] == ["one"]


async def test_another_life_of_the_stream_is_told_while_one_listens() -> None:
    async with client(ADA) as ada, listening(BOB) as bob:
        first = await bob.read()
        await in_database_thread(renew_epochs)
        await ada.post("one")
        event = await bob.read()
        assert (event["event"], event["data"]["reset"]) == ("reset", "epoch")
        assert event["id"].split("-")[0] != first["id"].split("-")[0]
        await ada.post("two")
        assert (await bob.read())["data"]["data"]["text"] in ("one", "two")


async def test_a_removed_listener_gets_that_and_no_more() -> None:
    async with client(ADA) as ada, listening(BOB) as bob:
        await bob.read()
        await ada.do("chat.set_member", person=BOB.id, role="banned")
        await ada.post("after")
        assert (await bob.read())["data"]["event"] == "chat.member_removed"
        await asyncio.wait_for(bob.ended.wait(), 10)
        assert "after" not in "".join(bob.chunks.get_nowait() for _ in range(bob.chunks.qsize()))
    async with listening(BOB) as bob:
        await asyncio.wait_for(bob.ended.wait(), 10)
        assert bob.status == 403


async def test_what_cannot_be_listened_to_is_answered_with_a_status() -> None:
    await in_database_thread(lambda: open_room("cellar", "Cellar", public=False))
    asked: list[tuple[dict[str, Any], int]] = [
        ({"room": "nowhere"}, 404),
        ({"room": "cellar"}, 404),
        ({"last": "here"}, 400),
        ({"method": "POST"}, 405),
    ]
    for how, status in asked:
        async with listening(BOB, **how) as bob:
            await asyncio.wait_for(bob.ended.wait(), 10)
            assert bob.status == status


@pytest.mark.parametrize("around", ["{} ", "{}\t", " {}\t "])
async def test_whitespace_around_a_header_is_no_part_of_it(around: str) -> None:
    async with client(ADA) as ada:
        place = await heard_one_of_two(ada)
        async with listening(BOB, last=around.format(place)) as bob:
            assert (await bob.read())["data"]["sequence"] == 2
        async with listening(BOB, last=around.format("")) as bob:
            assert (await bob.read())["event"] == "snapshot"


async def test_an_empty_position_is_none() -> None:
    async with client(ADA) as ada, listening(BOB, last="") as bob:
        assert (await bob.read())["event"] == "snapshot"
        await ada.post("one")
        place = (await bob.read())["id"]
        await ada.post("two")
        async with listening(EVE, last="", query=f"after={place}") as eve:
            assert (await eve.read())["data"]["sequence"] == 2


async def test_who_asks_for_a_room_that_is_not_there_is_told_its_name() -> None:
    async with listening(BOB, room="nowhere") as bob:
        assert await asyncio.wait_for(bob.chunks.get(), 10) == (
            '{"error":{"code":"not_found","message":"there is no room nowhere"}}'
        )


async def test_a_quiet_room_shows_that_somebody_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "QUIET_SECONDS", 0.01)
    async with listening(BOB) as bob:
        await bob.read()
        await eventually(lambda: bob.chunks.qsize() > 2, "lines come")
        assert bob.chunks.get_nowait() == ":\n\n"
