"""Edits and deletions, and keys that are sent again."""

from typing import Any

import pytest

from app.chat.models import Message, Role
from app.database.thread import in_database_thread
from app.journal.keys import new_key
from app.journal.models import StoredEvent
from tests.unit.chat.client import ADA, BOB, EVE, client
from tests.unit.chat.streams.rooms import give

pytestmark = pytest.mark.django_db(transaction=True)


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
