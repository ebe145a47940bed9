"""Positions: who joins, comes back or pages gets all of it, once, in order; and nobody else does."""

import asyncio
import json
from collections.abc import Mapping
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import pytest
from django.db import connection
from pytest_django import Settings

from app.accounts.models import User
from app.chat import room_reads
from app.chat.models import Membership, Message, Role, Room
from app.chat.read_markers import markers_of
from app.chat.room_reads import Budget, Question, RoomRead, reads_of
from app.chat.services import (
    close_room,
    delete_message,
    edit_message,
    open_room,
    remove_member,
    set_member,
)
from app.database.thread import in_database_thread
from app.journal.entry import Refused, Stored
from app.journal.keys import new_key
from app.journal.models import StoredEvent
from app.journal.reader import read_streams
from app.presence.services import presence_of
from app.realtime.delivery_account import Tally
from app.realtime.node import current_node
from app.realtime.stream import StreamRead
from tests.broker_contract import eventually
from tests.unit.chat.client import ADA, BOB, EVE, Client, client

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def lobby(node: None, transactional_db: None) -> None:
    close_room("lobby")  # the first test finds what the migrations opened
    open_room("lobby", "Lobby", opener=ADA)


def give(room: str, person: str, role: Role, muted: bool = False) -> None:
    place = Room.objects.get(slug=room)
    Membership.objects.update_or_create(room=place, person=person, defaults={"role": role, "muted": muted})


async def join(one: Client, room: str = "lobby", position: Any = None) -> Any:
    return await one.command("chat.join_room", room=room, position=position)


async def resume(one: Client, *places: tuple[str, Any]) -> Any:
    reply = await one.command("chat.resume", rooms=[{"room": room, **place} for room, place in places])
    return reply.get("rooms", reply)


def texts(messages: list[dict[str, Any]]) -> list[str]:
    return [message["text"] for message in messages]


# --- The account ------------------------------------------------------------------------------------------


async def test_a_ping_confirms_what_came_in_the_rooms_that_one_is_in() -> None:
    async with client(ADA) as ada, client(BOB) as bob:
        for one in (ada, bob):
            await join(one)
        posted = await ada.post("ding")
        await bob.event("chat.message_posted")
        elsewhere = {"room.cellar": 1, "lobby": 1, "journal.notes": 1}
        assert await bob.command("ping", seen={"room.lobby": posted["sequence"]} | elsewhere) == {}
        await ada.command("ping", seen={"room.lobby": posted["sequence"] + 1})
    account = current_node().streams.account
    assert account.tally("room.lobby", posted["sequence"]) == Tally(2, 2, 1, 0)
    assert [account.tally(stream, 1) for stream in elsewhere] == [None] * 3


async def test_who_wrote_a_message_learns_what_became_of_it_and_moderators_do() -> None:
    async with client(ADA) as ada, client(BOB) as bob, client(EVE) as eve:
        await in_database_thread(lambda: give("lobby", EVE.id, Role.MODERATOR))
        for one in (ada, bob, eve):
            await join(one)
        sequence = (await bob.post("ding"))["sequence"]
        await ada.event("chat.message_posted")
        await ada.command("ping", seen={"room.lobby": sequence})
        node = {"node": current_node().name, "expected": 3, "written": 3, "confirmed": 1, "recovered": 0}
        for one in (ada, bob, eve):  # the owner, the sender, a moderator
            answer = await one.command("chat.deliveries", room="lobby", sequence=sequence)
            assert answer == {"nodes": [node], "unheard": []}


async def test_nobody_else_learns_who_got_a_message() -> None:
    async with client(ADA) as ada, client(BOB) as bob, client(EVE) as eve:
        for one in (ada, bob):
            await join(one)
        first = await ada.post("one")
        second = (await ada.do("chat.set_member", person=BOB.id, role="member"))["sequence"]

        async def code(one: Client, sequence: int, room: str = "lobby") -> str | None:
            answer: dict[str, str] = await one.command("chat.deliveries", room=room, sequence=sequence)
            return answer.get("code")

        assert await code(bob, first["sequence"]) == "not_allowed"
        assert await code(bob, second) == "not_found", "no message"
        assert await code(ada, second) is None, "moderators ask for any event"
        for sequence in (0, second + 1):
            assert await code(ada, sequence) == "not_found"
        assert await code(bob, 1, room="cellar") == "not_found", "there is no such room"
        await in_database_thread(lambda: open_room("club", "Club", opener=EVE, public=False))
        posted = await eve.post("secret", room="club")
        assert await code(ada, posted["sequence"], room="club") == "not_found", "for her there is none"
        assert await code(eve, posted["sequence"], room="club") is None


# --- Joining ---------------------------------------------------------------------------------------------


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


# --- Coming back -----------------------------------------------------------------------------------------


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


# --- Edits and deletions ---------------------------------------------------------------------------------


async def test_a_deleted_text_is_stored_nowhere() -> None:
    async with client(ADA) as ada:
        posted = await ada.post("secret one")
        about = {"message_id": posted["message_id"]}
        await ada.do("chat.edit_message", **about, text="secret two")
        assert (await ada.do("chat.delete_message", **about))["sequence"] == 3
        again = await ada.do("chat.edit_message", **about, text="secret three")
        assert (again["code"], (await ada.do("chat.delete_message", **about))["code"]) == ("not_found",) * 2

    def stored() -> list[str]:
        events = StoredEvent.objects.order_by("sequence").values_list("payload", flat=True)
        return [*events, *Message.objects.values_list("text", flat=True)]

    first, second, third, text = await in_database_thread(stored)
    assert (first, second, text) == ("", "", "")
    assert "secret" not in third and "chat.message_deleted" in third


async def test_only_its_writer_edits_a_message_and_moderators_may_delete_it() -> None:
    await in_database_thread(lambda: give("lobby", EVE.id, Role.MODERATOR))
    async with client(ADA) as ada, client(BOB) as bob, client(EVE) as eve:
        of_ada, of_bob = await ada.post("one"), await bob.post("two")
        for one in (bob, eve):
            refused = await one.do("chat.edit_message", message_id=of_ada["message_id"], text="x")
            assert refused["code"] == "not_allowed"
        assert (await bob.do("chat.delete_message", message_id=of_ada["message_id"]))["code"] == "not_allowed"
        assert "sequence" in await eve.do("chat.delete_message", message_id=of_bob["message_id"])
        assert (await eve.do("chat.delete_message", message_id=str(new_key())))["code"] == "not_found"


@pytest.mark.parametrize(
    ("name", "of_others"),
    [
        ("chat.post_message", "invalid_data"),
        ("chat.edit_message", "not_allowed"),
        ("chat.delete_message", "not_found"),  # it was deleted
    ],
)
async def test_a_command_sent_again_is_answered_as_the_first_time(name: str, of_others: str) -> None:
    async with client(ADA) as ada:
        message = (await ada.post("one"))["message_id"]
        data: dict[str, Any] = {"key": str(new_key())}
        data |= {"text": "two"} if name != "chat.delete_message" else {}
        data |= {"message_id": message} if name != "chat.post_message" else {}
        first = await ada.do(name, **data)
        assert "sequence" in first
        assert await ada.do(name, **data) == first
        await in_database_thread(lambda: give("lobby", ADA.id, Role.BANNED))
        assert await ada.do(name, **data) == first
        async with client(BOB) as bob:
            assert (await bob.do(name, **data))["code"] == of_others


async def test_a_key_stands_for_one_command() -> None:
    async with client(ADA) as ada:
        posted = await ada.post("one")
        about = {"message_id": posted["message_id"], "key": posted["message_id"]}
        assert (await ada.do("chat.delete_message", **about))["code"] == "invalid_data"
        other = {"key": posted["message_id"], "text": "two"}
        assert (await ada.do("chat.post_message", **other))["code"] == "invalid_data"
        member = {"key": str(new_key()), "person": BOB.id, "role": "member"}
        given = await ada.do("chat.set_member", **member)
        assert await ada.do("chat.set_member", **member) == given
        for change in ({"person": "g7"}, {"role": "moderator"}, {"muted": True}):
            assert (await ada.do("chat.set_member", **member | change))["code"] == "invalid_data"


async def test_a_text_that_cannot_be_stored_is_refused() -> None:
    async with client(ADA) as ada:
        assert (await ada.post("a\x00b"))["code"] == "invalid_data"
        assert (await ada.post("fine"))["sequence"] == 1


async def test_keys_are_uuids_of_version_7() -> None:
    async with client(ADA) as ada:
        refused = await ada.do("chat.post_message", key="0192f3c8-0000-4000-8000-000000000000", text="x")
        assert refused["code"] == "invalid_data"


# --- Who may ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("banned", [False, True])
async def test_a_room_for_members_is_not_there_for_others_by_any_way(banned: bool) -> None:
    await in_database_thread(lambda: open_room("cellar", "Cellar", opener=ADA, public=False))
    async with client(ADA) as ada, client(BOB) as bob:
        place = (await join(ada, "cellar"))["position"]
        message = (await ada.post("secret", "cellar"))["message_id"]
        if banned:
            await ada.do("chat.set_member", room="cellar", person=BOB.id, role="banned")
        for room in ("nowhere", "cellar"):
            refused = [
                await join(bob, room),
                await join(bob, room, place),
                (await resume(bob, (room, place)))[0]["error"],
                await bob.command("chat.history", room=room, before=100),
                await bob.command("chat.members", room=room),
                await bob.command("chat.find_person", room=room, name="ada"),
                await bob.post("hello", room),
                await bob.do("chat.post_message", room=room, key=message, text="x"),
                await bob.do("chat.edit_message", room=room, message_id=message, text="x"),
                await bob.do("chat.delete_message", room=room, message_id=message),
                await bob.do("chat.set_member", room=room, person=BOB.id, role="owner"),
                await bob.do("chat.remove_member", room=room, person=BOB.id),
            ]
            there_is_none = {"code": "not_found", "message": f"there is no room {room}"}
            assert refused == [there_is_none] * len(refused)
        await bob.command("chat.mark_read", room="cellar", sequence=1)
        await ada.post("more", "cellar")
        assert await bob.everything() == []
        await ada.do("chat.set_member", room="cellar", person=BOB.id, role="member")
        assert texts((await join(bob, "cellar"))["messages"]) == ["secret", "more"]
        nobody = await ada.do("chat.set_member", room="cellar", person=BOB.id, role=None)
        assert nobody["code"] == "invalid_data", "it would leave him in the stream"
        await ada.do("chat.remove_member", room="cellar", person=BOB.id)
        await ada.post("last", "cellar")
        assert [event["event"] for event in await bob.everything()] == ["chat.member_removed"]


@pytest.mark.usefixtures("noticed_soon")
async def test_removal_ends_what_somebody_hears_in_order() -> None:
    async with client(ADA) as ada, client(BOB) as bob:
        await join(ada)
        place = (await join(bob))["position"]
        await ada.post("before")
        removed = await ada.do("chat.remove_member", person=BOB.id)
        await ada.post("after")
        events = await bob.everything()
        assert [event["event"] for event in events] == ["chat.message_posted", "chat.member_removed"]
        assert events[1]["data"] == {
            "room": "lobby",
            "person": BOB.id,
            "person_name": "bob",
            "banned": False,
        }
        assert events[1]["sequence"] == removed["sequence"]
        assert (await ada.event("presence.left"))["member"]["id"] == BOB.id
        # The room is public: they may come back, and then hear what came since.
        bob.events.clear()
        await resume(bob, ("lobby", {**place, "sequence": removed["sequence"]}))
        assert [event["data"]["text"] for event in await bob.everything()] == ["after"]


@pytest.mark.parametrize("again", ["chat.join_room", "chat.resume"])
async def test_somebody_removed_while_they_join_again_is_in_or_out_and_nothing_between(
    again: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with client(ADA) as ada, client(BOB) as bob:
        start = (await join(bob))["position"]
        reads = reads_of(current_node())
        plain = reads.room

        async def removed_after(question: Question) -> RoomRead:
            read = await plain(question)
            monkeypatch.setattr(reads, "room", plain)
            await ada.do("chat.remove_member", person=BOB.id)
            await eventually(lambda: not current_node().hub.members("room.lobby"), "bob is out")
            return read

        monkeypatch.setattr(reads, "room", removed_after)
        if again == "chat.join_room":
            assert (await join(bob))["position"]["sequence"] == 1
            await ada.post("after")
            assert [event["sequence"] for event in await bob.everything()] == [1, 2]
        else:
            (answer,) = await resume(bob, ("lobby", start))
            assert answer["resumed"] is True  # from before the removal, which is caught up with
            await ada.post("after")
            assert [event["sequence"] for event in await bob.everything()] == [1, 1]
    here = presence_of(current_node())
    await eventually(lambda: here.enter("lobby", "x", EVE, None).count == 1, "nobody is left behind")


async def test_what_came_behind_a_removal_is_not_caught_up_with() -> None:
    async with client(ADA) as ada, client(BOB) as bob:
        place = (await join(bob))["position"]
        await bob.command("chat.leave_room", room="lobby")
        for text in ("one", "two"):
            await ada.post(text)
        await ada.do("chat.remove_member", person=BOB.id)
        await ada.post("three")
        await resume(bob, ("lobby", place))
        assert [event["sequence"] for event in await bob.everything()] == [1, 2, 3]
        await ada.post("four")
        assert len(await bob.everything()) == 3


async def test_somebody_banned_is_out_and_stays_out() -> None:
    async with client(ADA) as ada, client(BOB) as bob, client(BOB) as elsewhere:
        place = (await join(bob))["position"]
        await join(elsewhere)
        await ada.do("chat.set_member", person=BOB.id, role="banned")
        for one in (bob, elsewhere):
            (event,) = await one.everything()
            assert event["event"] == "chat.member_removed" and event["data"]["banned"] is True
        await ada.post("after")
        refused = [
            await join(bob),
            await join(bob, position=place),
            (await resume(bob, ("lobby", place)))[0]["error"],
            await bob.command("chat.history", room="lobby", before=100),
            await bob.post("hello"),
            await bob.do("chat.remove_member", person=BOB.id),
        ]
        assert [one["code"] for one in refused] == ["not_allowed"] * len(refused)
        assert len(await bob.everything()) == 1
        await ada.do("chat.remove_member", person=BOB.id)
        assert texts((await join(bob))["messages"]) == ["after"]


@pytest.mark.parametrize("what", ["muted", "removed", "deleted"])
async def test_what_comes_behind_the_loss_of_a_right_in_the_same_burst_is_refused(what: str) -> None:
    async with client(ADA) as ada, client(BOB) as bob:
        await ada.do("chat.set_member", person=BOB.id, role="member")
        message = UUID((await bob.post("one"))["message_id"])
        node = current_node()
        by_ada: dict[str, Any] = {"sender": ADA.id, "key": new_key()}
        if what == "muted":
            first = set_member(
                node, "lobby", **by_ada, person=BOB.id, name="bob", role=Role.MEMBER, muted=True
            )
        elif what == "removed":
            await in_database_thread(lambda: Room.objects.filter(slug="lobby").update(public=False))
            first = remove_member(node, "lobby", **by_ada, person=BOB.id, name="bob")
        else:
            first = delete_message(node, "lobby", **by_ada, message=message)
        second = edit_message(
            node, "lobby", sender=BOB.id, key=new_key(), message=message, text="one, edited behind it"
        )
        answers = await asyncio.gather(first, second, return_exceptions=True)
        assert isinstance(answers[0], Stored) and isinstance(answers[1], Refused)


async def test_somebody_muted_reads_but_neither_posts_nor_edits() -> None:
    async with client(ADA) as ada, client(BOB) as bob:
        message = (await bob.post("one"))["message_id"]
        changed = await ada.do("chat.set_member", person=BOB.id, role=None, muted=True)
        joined = await join(bob)
        assert (joined["role"], joined["muted"]) == (None, True)
        assert (await bob.post("two"))["code"] == "not_allowed"
        assert (await bob.do("chat.edit_message", message_id=message, text="x"))["code"] == "not_allowed"
        assert (await bob.do("chat.remove_member", person=BOB.id))["code"] == "not_allowed"
        assert "sequence" in await bob.do("chat.delete_message", message_id=message)
        await ada.do("chat.set_member", person=BOB.id, role="member")
        member = [event for event in await bob.everything() if event["event"] == "chat.member_changed"]
        about = {"room": "lobby", "person": BOB.id, "person_name": "bob"}
        assert member[0]["data"] == about | {"role": "member", "muted": False}
        assert member[0]["sequence"] > changed["sequence"]
        assert "sequence" in await bob.post("two")


async def test_roles_are_given_by_those_who_may() -> None:
    await in_database_thread(lambda: give("lobby", EVE.id, Role.MODERATOR))
    async with client(ADA) as ada, client(BOB) as bob, client(EVE) as eve:

        async def sets(one: Client, person: str, role: str | None) -> Any:
            reply = await one.do("chat.set_member", person=person, role=role)
            return reply.get("code", "done")

        assert await sets(bob, BOB.id, "member") == "not_allowed"
        assert await sets(eve, BOB.id, "member") == "done"
        assert await sets(eve, BOB.id, "moderator") == "not_allowed"
        assert await sets(eve, EVE.id, "owner") == "not_allowed"
        assert await sets(eve, ADA.id, "banned") == "not_allowed"
        assert (await eve.do("chat.remove_member", person=ADA.id))["code"] == "not_allowed"
        assert await sets(ada, ADA.id, "member") == "not_allowed"
        assert (await ada.do("chat.remove_member", person=ADA.id))["code"] == "not_allowed"
        dora = await in_database_thread(lambda: User.objects.create_user("Dora", pk=12).pk)
        assert await sets(ada, f"u{dora}", "owner") == "done"
        assert await sets(ada, ADA.id, "member") == "done"
        assert await sets(ada, EVE.id, "member") == "not_allowed"
        assert "sequence" in await eve.do("chat.remove_member", person=EVE.id)


async def test_a_room_that_is_closed_takes_nothing_any_more() -> None:
    async with client(ADA) as ada:
        place = (await join(ada))["position"]
        await ada.post("one")
        await in_database_thread(lambda: close_room("lobby"))
        assert (await ada.post("two"))["code"] == "not_found"
        await in_database_thread(lambda: open_room("lobby", "Another"))
        async with client(BOB) as bob:
            joined = await join(bob, position=place)
            assert (joined["reset"], joined["title"], joined["messages"]) == ("epoch", "Another", [])


# --- Read markers ----------------------------------------------------------------------------------------


async def test_what_was_read_is_known_on_every_device() -> None:
    async with client(ADA) as ada, client(BOB) as bob:
        for number in range(4):
            posted = await ada.post(str(number))
        await bob.post("mine")
        await ada.do("chat.edit_message", message_id=posted["message_id"], text="no news")
        joined = await join(bob)
        assert (joined["last_read"], joined["unread"]) == (None, 0)
        await bob.command("chat.mark_read", room="lobby", sequence=2)
        await bob.command("chat.mark_read", room="lobby", sequence=1)
        await markers_of(current_node()).flush()
        async with client(BOB) as elsewhere:
            joined = await join(elsewhere)
            assert (joined["last_read"], joined["unread"]) == (2, 2)
            await elsewhere.command("chat.mark_read", room="lobby", sequence=6)
            joined = await join(elsewhere)
            assert (joined["last_read"], joined["unread"]) == (6, 0)


async def test_no_mark_goes_beyond_what_is_there() -> None:
    async with client(ADA) as ada, client(BOB) as bob:
        await ada.post("one")
        await bob.command("chat.mark_read", room="lobby", sequence=1000)
        await markers_of(current_node()).flush()
        await ada.post("two")
        joined = await join(bob)
        assert (joined["last_read"], joined["unread"]) == (1, 1)
