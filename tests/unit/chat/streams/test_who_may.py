"""Rights, and what their loss ends."""

import asyncio
from typing import Any
from uuid import UUID

import pytest

from app.accounts.models import User
from app.chat.models import Role, Room
from app.chat.room_reads import Question, RoomRead, reads_of
from app.chat.services import close_room, delete_message, edit_message, open_room, remove_member, set_member
from app.database.thread import in_database_thread
from app.journal.entry import Refused, Stored
from app.journal.keys import new_key
from app.presence.services import presence_of
from app.realtime.node import current_node
from tests.broker_contract import eventually
from tests.unit.chat.client import ADA, BOB, EVE, Client, client
from tests.unit.chat.streams.rooms import give, join, resume, texts

pytestmark = pytest.mark.django_db(transaction=True)


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
