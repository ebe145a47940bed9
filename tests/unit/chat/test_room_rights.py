"""Who loses the right to be in a room past its stream leaves it, by whatever way the right was taken."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection

from app.accounts import rechecks
from app.accounts.access_changes import access_changes_of
from app.accounts.events import ACCESS_CHANGES
from app.chat.models import Membership, Role, Room
from app.chat.room_reads import Question, RoomRead, reads_of
from app.chat.room_rights import rights_of
from app.chat.services import close_room, open_room, purge_guests
from app.database.thread import in_database_thread
from app.journal.models import OutboxEntry
from app.realtime.node import current_node
from tests.broker_contract import eventually
from tests.unit.chat.client import ADA, BOB, EVE, client
from tests.unit.chat.test_event_stream import listening

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def rooms(node: None, transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lobby is for all, the cellar for members: Bob is one, Ada owns both."""
    monkeypatch.setattr(rechecks, "ROUND_SECONDS", 3600.0)
    monkeypatch.setattr(rechecks, "SOON_SECONDS", 0.01)
    for slug in ("lobby", "cellar"):
        close_room(slug)  # the first test finds what the migrations opened
        open_room(slug, slug.title(), opener=ADA, public=slug == "lobby")
    Membership.objects.create(room=Room.objects.get(slug="cellar"), person=BOB.id, role=Role.MEMBER)


def bobs() -> Membership:
    return Membership.objects.get(room__slug="cellar", person=BOB.id)


def close_the_lobby_to_visitors() -> None:
    lobby = Room.objects.get(slug="lobby")
    lobby.public = False
    lobby.save()


def ban_from_the_lobby() -> None:
    Membership.objects.create(room=Room.objects.get(slug="lobby"), person=BOB.id, role=Role.BANNED)


def make_a_visitor() -> None:
    membership = bobs()
    membership.role = Role.VISITOR
    membership.save(update_fields=["role"])


def delete_with_sql() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM chat_membership WHERE person = %s", [BOB.id])


async def followed() -> None:
    """The node follows the changes of access, and everybody was looked at for that."""
    node = current_node()
    await eventually(lambda: node.hub.members(ACCESS_CHANGES), "changes of access are followed")
    await eventually(lambda: rights_of(node)._checking is None, "everybody was looked at")


@pytest.mark.parametrize(
    ("change", "room", "code"),
    [
        (lambda: bobs().delete(), "cellar", "not_found"),
        (lambda: Membership.objects.filter(person=BOB.id).delete(), "cellar", "not_found"),
        (make_a_visitor, "cellar", "not_found"),
        (ban_from_the_lobby, "lobby", "not_allowed"),
        (close_the_lobby_to_visitors, "lobby", "not_found"),
    ],
)
async def test_what_the_orm_takes_away_ends_the_room_for_whom_it_concerns(
    change: Callable[[], object], room: str, code: str
) -> None:
    async with client(ADA) as ada, client(BOB) as bob:
        for one in (ada, bob):
            for slug in ("lobby", "cellar"):
                await one.command("chat.join_room", room=slug)
        await followed()
        await ada.post("before", room)
        await in_database_thread(change)
        assert await bob.event("stream.reset") == {"stream": f"room.{room}", "reason": "rights"}
        await ada.post("behind their back", room)
        assert (await bob.command("chat.join_room", room=room))["code"] == code
        other = "lobby" if room == "cellar" else "cellar"
        await ada.post("hello", other)
        texts = [frame["data"]["text"] for frame in await bob.everything() if "text" in frame["data"]]
        assert texts == ["before", "hello"]
        for text in ("before", "behind their back"):
            assert (await ada.event("chat.message_posted"))["text"] == text
        assert "stream.reset" not in ada.names()


@pytest.mark.parametrize(
    "change",
    [
        delete_with_sql,
        lambda: Membership.objects.filter(person=BOB.id).update(role=Role.BANNED),
    ],
)
async def test_what_bypasses_the_orm_is_found_by_the_next_round(
    change: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rechecks, "ROUND_SECONDS", 0.05)
    async with client(ADA) as ada, client(BOB) as bob:
        for one in (ada, bob):
            await one.command("chat.join_room", room="cellar")
        await followed()
        await in_database_thread(change)
        assert await bob.event("stream.reset") == {"stream": "room.cellar", "reason": "rights"}
        assert "code" in await bob.command("chat.join_room", room="cellar")
        assert "stream.reset" not in [frame["event"] for frame in await ada.everything()]


async def test_a_listener_whose_right_is_gone_hears_the_end() -> None:
    async with listening(BOB, "cellar") as bob, listening(ADA, "cellar") as ada:
        for one in (ada, bob):
            await one.read()
        await followed()
        await in_database_thread(lambda: bobs().delete())
        await eventually(bob.ended.is_set, "the response ends")
        assert not ada.ended.is_set()


async def test_a_right_that_is_lost_while_somebody_comes_in_does_not_let_them_stay(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The change is told when they were found to have the right, and are not there yet."""
    async with client(EVE) as eve, client(BOB) as bob:
        await eve.command("chat.join_room", room="lobby")
        await followed()
        reads = reads_of(current_node())
        room = reads.room
        told: list[Any] = []

        async def banned_after(question: Question) -> RoomRead:
            read = await room(question)
            access_changes_of(current_node()).listen(told.append)
            await in_database_thread(ban_from_the_lobby)
            await eventually(lambda: bool(told), "the change is told")
            await eventually(lambda: rights_of(current_node())._checking is None, "and looked at")
            return read

        monkeypatch.setattr(reads, "room", banned_after)
        assert (await bob.command("chat.join_room", room="lobby"))["room"] == "lobby"
        assert (await bob.event("stream.reset"))["reason"] == "rights"


def test_whoever_loses_nothing_is_told_to_nobody() -> None:
    lobby = Room.objects.get(slug="lobby")
    lobby.title = "The lobby"
    lobby.save()
    Membership.objects.create(room=lobby, person=EVE.id, role=Role.MODERATOR).save()
    Membership.objects.bulk_create([Membership(room=lobby, person=f"g{n}", role="visitor") for n in range(3)])
    assert purge_guests(lobby.created_at.replace(year=3000)) == 3
    close_room("cellar")
    assert not OutboxEntry.objects.exists()
