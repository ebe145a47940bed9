"""Who joins gets what was said, then what is said."""

import asyncio
import json
from functools import partial

import msgspec
import pytest
from pytest_django import Settings

from app.chat import room_reads
from app.chat.models import Room
from app.chat.room_reads import Budget, Question, reads_of
from app.chat.services import open_room
from app.database.thread import in_database_thread
from app.realtime.node import current_node
from tests.unit.chat.client import ADA, BOB, client
from tests.unit.chat.streams.rooms import join, resume, texts

pytestmark = pytest.mark.django_db(transaction=True)


async def test_who_joins_gets_what_was_said_and_then_what_is_said() -> None:
    async with client(ADA) as ada, client(BOB) as bob:
        first = await ada.post("one")
        await ada.post("two")
        joined = await join(bob)
        assert joined["position"] == {"epoch": first["epoch"], "sequence": 2}
        assert (joined["resumed"], joined["reset"], joined["earlier"]) == (False, None, False)
        assert joined["messages"][0] == {
            "message_id": first["message_id"],
            "sequence": 1,
            "sender": {"id": "u1", "name": "ada", "guest": False},
            "text": "one",
            "sent_at": first["sent_at"],
            "edited_at": None,
            "deleted": False,
            "node": current_node().name,
        }
        await ada.post("three")
        (event,) = await bob.everything()
        assert (event["stream"], event["sequence"]) == ("room.lobby", 3)
        assert event["data"]["text"] == "three"


async def test_a_snapshot_has_the_latest_messages_and_history_the_others(settings: Settings) -> None:
    settings.COMMANDS_BURST = 100
    async with client(ADA) as ada:
        for number in range(1, 56):
            await ada.post(str(number))
        joined = await join(ada)
        assert texts(joined["messages"]) == [str(number) for number in range(6, 56)]
        assert joined["earlier"] is True
        page = await ada.command("chat.history", room="lobby", before=6, limit=3)
        assert (texts(page["messages"]), page["earlier"]) == (["3", "4", "5"], True)
        page = await ada.command("chat.history", room="lobby", before=3)
        assert (texts(page["messages"]), page["earlier"]) == (["1", "2"], False)


async def test_no_page_is_larger_than_a_connection_can_be_sent(settings: Settings) -> None:
    settings.UNSENT_LIMIT_BYTES = 20_000
    async with client(ADA) as ada:
        for number in range(5):
            await ada.post(f"{number}{chr(1) * 600}")  # six times as long in JSON
        joined = await join(ada)
        page, said = joined, texts(joined["messages"])
        while page["earlier"]:
            assert 0 < len(json.dumps(page["messages"], separators=(",", ":"))) <= 10_000
            before = page["messages"][0]["sequence"]
            page = await ada.command("chat.history", room="lobby", before=before)
            said = texts(page["messages"]) + said
        assert len(joined["messages"]) == 2
        assert [text[0] for text in said] == ["0", "1", "2", "3", "4"]
        settings.UNSENT_LIMIT_BYTES = 2_000
        joined = await join(ada)
        page = await ada.command("chat.history", room="lobby", before=2)
        assert (len(joined["messages"]), joined["earlier"]) == (1, True), "one at least"
        assert (len(page["messages"]), page["earlier"]) == (1, False)


async def test_snapshots_of_many_rooms_are_read_a_few_at_a_time_and_not_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(room_reads, "ROOMS_AT_ONCE", 2)
    slugs = [f"room-{number}" for number in range(5)]
    for slug in slugs:
        await in_database_thread(partial(open_room, slug, slug))
    async with client(ADA) as ada:
        for slug in slugs:
            await ada.post(slug, slug)
        questions = [Question(slug, ADA.id, None, Budget()) for slug in slugs]
        reads = await asyncio.gather(*(reads_of(current_node()).room(one) for one in questions))
        assert [msgspec.json.decode(read.messages)[0]["text"] for read in reads] == slugs
        monkeypatch.setattr(room_reads, "READ_BYTES", 1)
        asked = (reads_of(current_node()).room(one) for one in questions)
        answers = await asyncio.gather(*asked, return_exceptions=True)
        assert [getattr(answer, "code", "") for answer in answers] == ["", "", "busy", "busy", "busy"]


async def test_a_room_that_the_release_before_opened_gets_its_stream() -> None:
    await in_database_thread(lambda: Room.objects.create(slug="old", title="Old"))
    async with client(ADA) as ada:
        assert (await join(ada, "old"))["position"]["sequence"] == 0
        assert (await ada.post("ding", "old"))["sequence"] == 1
        assert [event["sequence"] for event in await ada.everything()] == [1]


async def test_joining_again_starts_over_from_the_new_position() -> None:
    async with client(ADA) as ada:
        start = (await join(ada))["position"]
        await ada.post("one")
        await ada.post("two")
        await ada.everything()
        ada.events.clear()
        again = await join(ada, position=start)
        assert (again["resumed"], again["position"], again["messages"]) == (True, start, [])
        await ada.post("three")
        assert [event["sequence"] for event in await ada.everything()] == [1, 2, 3]
        ada.events.clear()
        assert (await resume(ada, ("lobby", start)))[0]["resumed"] is True
        assert [event["sequence"] for event in await ada.everything()] == [1, 2, 3]


async def test_only_rooms_that_are_open_are_resumed() -> None:
    async with client(ADA) as ada:
        start = (await join(ada))["position"]
        nowhere, lobby = await resume(ada, ("nowhere", start), ("lobby", start))
        assert nowhere["room"] == "nowhere" and nowhere["error"]["code"] == "not_found"
        assert lobby["resumed"] is True


async def test_a_room_is_resumed_once_in_a_command() -> None:
    await in_database_thread(lambda: open_room("second", "Second"))
    async with client(ADA) as ada:
        start = (await join(ada))["position"]
        answer = await resume(ada, ("lobby", start), ("second", start), ("lobby", start))
        assert answer == {"code": "invalid_data", "message": "the room lobby is named twice"}
