"""Who comes back gets what was missed, or starts over."""

import asyncio
from collections.abc import Mapping

import pytest
from django.db import connection
from pytest_django import Settings

from app.chat import room_reads
from app.chat.events import room_group
from app.chat.services import open_room
from app.database.thread import in_database_thread
from app.journal.models import StoredEvent
from app.journal.reader import read_streams
from app.presence.services import presence_of
from app.realtime.identity import Identity
from app.realtime.node import current_node
from app.realtime.stream import StreamRead
from tests.unit.chat.client import ADA, BOB, EVE, client
from tests.unit.chat.streams.rooms import join, resume, texts

pytestmark = pytest.mark.django_db(transaction=True)


async def test_who_comes_back_gets_what_was_missed_once_and_in_order() -> None:
    await in_database_thread(lambda: open_room("second", "Second"))
    async with client(ADA) as ada:
        async with client(BOB) as bob:
            places = [(room, (await join(bob, room))["position"]) for room in ("lobby", "second")]
        for number in range(5):
            await ada.post(f"a{number}")
            await ada.post(f"b{number}", "second")
        async with client(BOB) as bob:
            replies = await resume(bob, *places)
            assert [reply["resumed"] for reply in replies] == [True, True]
            assert [reply["position"] for reply in replies] == [place for _, place in places]
            await ada.post("a5")
            events = await bob.everything()
    for room, letter in (("lobby", "a"), ("second", "b")):
        heard = [event["data"]["text"] for event in events if event["stream"] == f"room.{room}"]
        assert heard == [f"{letter}{number}" for number in range(6 if letter == "a" else 5)]


@pytest.mark.parametrize(
    ("sql", "reason"),
    [
        ("epoch = epoch + 1", "epoch"),
        ("floor = 2", "purged"),
        ("last_sequence = last_sequence + 2000", "too_far"),
        ("last_sequence = 0", "ahead"),
    ],
)
async def test_who_cannot_go_on_is_told_why_and_starts_over(sql: str, reason: str) -> None:
    async with client(ADA) as ada:
        await ada.post("one")
        async with client(BOB) as bob:
            place = (await join(bob))["position"]
        await ada.post("two")

    def change() -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE journal_position SET {sql} WHERE stream = 'room.lobby'")

    await in_database_thread(change)
    async with client(BOB) as bob:
        assert await resume(bob, ("lobby", place)) == [{"room": "lobby", "reset": reason, "resumed": False}]
        joined = await join(bob, position=place)
        assert (joined["resumed"], joined["reset"]) == (False, reason)
        assert texts(joined["messages"]) == ["one", "two"]


async def test_who_would_go_on_over_a_hole_in_the_journal_starts_over() -> None:
    """None is ever there, but for somebody who deletes rows."""
    async with client(ADA) as ada:
        place = await ada.post("one")
        await ada.post("two")
        await ada.post("three")
    await in_database_thread(lambda: StoredEvent.objects.filter(sequence=2).delete())
    async with client(BOB) as bob:
        place = {"epoch": place["epoch"], "sequence": place["sequence"]}
        assert (await resume(bob, ("lobby", place)))[0]["reset"] == "too_far"


async def test_no_more_is_caught_up_with_than_a_connection_can_be_sent(settings: Settings) -> None:
    settings.UNSENT_LIMIT_BYTES = 16_000
    await in_database_thread(lambda: open_room("second", "Second"))
    async with client(ADA) as ada, client(BOB) as bob:
        places = [(room, (await join(bob, room))["position"]) for room in ("lobby", "second")]
        for room in ("lobby", "second"):
            await bob.command("chat.leave_room", room=room)
            await ada.post("x" * 3000, room)
        assert [one["resumed"] for one in await resume(bob, places[0])] == [True]
        await bob.command("chat.leave_room", room="lobby")
        await ada.post("y" * 3000)
        resumed, reset = await resume(bob, *places)
        assert (resumed["resumed"], reset) == (
            True,
            {"room": "second", "reset": "too_far", "resumed": False},
        )
        assert (await join(bob, "second"))["messages"][0]["text"] == "x" * 3000
        await bob.command("chat.leave_room", room="lobby")
        await ada.post("z" * 3000)
        joined = await join(bob, position=places[0][1])
        assert (joined["reset"], joined["earlier"]) == ("too_far", True)
        assert [text[0] for text in texts(joined["messages"])] == ["y", "z"], "nor is a snapshot larger"


@pytest.mark.usefixtures("noticed_soon")
async def test_who_is_in_many_crowded_rooms_gets_there_and_is_told_later_who_is_in_them(
    settings: Settings,
) -> None:
    settings.UNSENT_LIMIT_BYTES = 8000
    rooms = ("lobby", "second", "third")
    await in_database_thread(lambda: [open_room(slug, slug.title()) for slug in rooms[1:]])
    presence, crowd = presence_of(current_node()), object()
    async with client(ADA) as ada, client(BOB) as elsewhere:
        places = [(room, (await join(ada, room))["position"]) for room in rooms]
        await ada.post("one")
        for room in rooms:
            for number in range(39):
                presence.enter(
                    room, room_group(room), Identity(f"u1{number:02}", f"number {number:02}"), crowd
                )
            await join(elsewhere, room)
            while (await elsewhere.event("presence.roster"))["room"] != room:
                pass  # so that nothing is new when they come with a second connection
        async with client(BOB) as bob:
            replies = await resume(bob, *places)
            assert [(one["resumed"], one["count"]) for one in replies] == [(True, 41)] * 3
            assert [len(one["members"]) for one in replies] == [41, 0, 0]
            assert [event["data"]["text"] for event in await bob.everything()] == ["one"]
            rosters = [await bob.event("presence.roster") for _ in range(2)]
            assert {one["room"]: len(one["members"]) for one in rosters} == {"second": 41, "third": 41}


async def test_what_is_too_much_is_not_even_read(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.UNSENT_LIMIT_BYTES = 10_000
    read: list[int] = []

    def counted(asked: Mapping[str, int], limit: int, size: int) -> dict[str, StreamRead]:
        streams = read_streams(asked, limit, size)
        read.extend(len(event.payload) for one in streams.values() for event in one.events)
        return streams

    monkeypatch.setattr(room_reads, "read_streams", counted)
    async with client(ADA) as ada:
        start = (await join(ada))["position"]
        for _ in range(3):
            late = await ada.post("x" * 3000)
        place = {"epoch": late["epoch"], "sequence": late["sequence"] - 1}
    async with client(BOB) as bob, client(EVE) as eve:
        far, near = await asyncio.gather(resume(bob, ("lobby", start)), resume(eve, ("lobby", place)))
        assert (far[0]["reset"], near[0]["resumed"]) == ("too_far", True)
        assert [event["sequence"] for event in await eve.everything()] == [3]
        assert sum(read) < 5000
        monkeypatch.setattr(room_reads, "READ_BYTES", 1000)
        assert (await resume(eve, ("lobby", place)))[0]["error"]["code"] == "busy"


async def test_edits_and_deletions_are_caught_up_with_like_anything_else() -> None:
    async with client(ADA) as ada, client(BOB) as bob:
        place = (await join(bob))["position"]
        await bob.command("chat.leave_room", room="lobby")
        one, two = await ada.post("one"), await ada.post("two")
        await ada.do("chat.edit_message", message_id=one["message_id"], text="uno")
        await ada.do("chat.delete_message", message_id=two["message_id"])
        await resume(bob, ("lobby", place))
        events = await bob.everything()
        assert [(event["sequence"], event["event"]) for event in events] == [
            (1, "chat.message_posted"),
            (2, "stream.blanked"),
            (3, "chat.message_edited"),
            (4, "chat.message_deleted"),
        ]
        snapshot = (await join(bob))["messages"]
        assert [(one["text"], one["deleted"]) for one in snapshot] == [("uno", False), ("", True)]
        assert snapshot[0]["edited_at"] == events[2]["data"]["edited_at"]
