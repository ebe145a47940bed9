"""What an operator does to rooms, and how it reaches them."""

import asyncio
from typing import Any

import pytest
from django.db import connections
from django.test import Client
from django.urls import reverse

from app.chat.models import Membership, Role, Room
from app.chat.services import close_room, open_room
from app.database.thread import in_database_thread
from app.journal.models import StreamPosition
from tests.unit.chat import client as wire
from tests.unit.chat.client import ADA, BOB

pytestmark = pytest.mark.django_db(transaction=True)

INLINE = {"memberships-TOTAL_FORMS": "0", "memberships-INITIAL_FORMS": "0"}


@pytest.fixture(autouse=True)
def lobby(node: None, transactional_db: None) -> None:
    close_room("lobby")
    open_room("lobby", "Lobby")


async def post(admin: Client, path: str, **fields: str) -> Any:
    """What the admin site answers, as from another process."""

    def work() -> Any:
        try:
            return admin.post(path, fields)
        finally:
            connections.close_all()

    return await asyncio.to_thread(work)


def page(model: str, name: str, *args: object) -> str:
    return reverse(f"admin:chat_{model}_{name}", args=args)


async def change_lobby(admin: Client, **fields: str) -> Any:
    room = await in_database_thread(lambda: Room.objects.get(slug="lobby"))
    return await post(admin, page("room", "change", room.pk), title="Lobby", listed="on", **INLINE, **fields)


async def test_a_ban_reaches_whoever_is_in_the_room(admin_client: Client) -> None:
    async with wire.client(ADA) as ada, wire.client(BOB) as bob:
        await ada.command("chat.join_room", room="lobby")
        await bob.command("chat.join_room", room="lobby")
        assert (await change_lobby(admin_client, person=BOB.id, role="banned")).status_code == 302
        for one in (ada, bob):
            assert (await one.event("chat.member_removed"))["person"] == BOB.id
        await ada.post("after")
        assert await bob.everything() == []
        assert (await bob.post("hello"))["code"] == "not_allowed"
        assert (await change_lobby(admin_client, person=BOB.id, role="removed")).status_code == 302
        assert (await ada.event("chat.member_removed"))["banned"] is False
        assert "sequence" in await bob.post("hello")


async def test_a_role_that_an_operator_gives_is_an_event(admin_client: Client) -> None:
    async with wire.client(ADA) as ada:
        await ada.command("chat.join_room", room="lobby")
        await change_lobby(admin_client, person="u7", role="owner")
        changed = await ada.event("chat.member_changed")
        assert (changed["person"], changed["role"]) == ("u7", "owner")

    def kept() -> list[Any]:
        return list(Membership.objects.values_list("person", "role"))

    assert await in_database_thread(kept) == [("u7", Role.OWNER)]


@pytest.mark.parametrize("fields", [{"person": "u7"}, {"role": "owner"}, {"person": "a b", "role": "owner"}])
async def test_a_member_needs_an_id_and_a_role(admin_client: Client, fields: dict[str, str]) -> None:
    assert b"errorlist" in (await change_lobby(admin_client, **fields)).content


async def test_texts_are_taken_away_for_everybody(admin_client: Client) -> None:
    async with wire.client(ADA) as ada:
        await ada.command("chat.join_room", room="lobby")
        posted = (await ada.post("something bad"))["message_id"]
        listed = page("message", "changelist")
        answer = await post(admin_client, listed, action="delete_texts", _selected_action=posted)
        assert answer.status_code == 302
        assert (await ada.event("chat.message_deleted"))["message_id"] == posted
        (message,) = (await ada.command("chat.history", room="lobby", before=9))["messages"]
        assert (message["text"], message["deleted"]) == ("", True)


def test_a_room_that_an_operator_opens_has_a_stream(admin_client: Client) -> None:
    fields = {"slug": "cellar", "title": "Cellar", "listed": "on", **INLINE}
    assert admin_client.post(page("room", "add"), fields).status_code == 302
    assert not Room.objects.get(slug="cellar").public
    assert StreamPosition.objects.filter(stream="room.cellar").exists()


def test_a_room_that_an_operator_deletes_leaves_nothing(admin_client: Client) -> None:
    room = Room.objects.get(slug="lobby")
    Membership.objects.create(room=room, person="u7", role=Role.OWNER)
    assert b"u7" in admin_client.get(page("room", "change", room.pk)).content
    assert admin_client.post(page("room", "delete", room.pk), {"post": "yes"}).status_code == 302
    assert not Room.objects.filter(slug="lobby").exists()
    assert not StreamPosition.objects.filter(stream="room.lobby").exists()


def test_nobody_writes_messages_or_members_past_their_room(admin_client: Client) -> None:
    assert admin_client.get(page("message", "add")).status_code == 403
    assert admin_client.get(page("message", "changelist")).status_code == 200
