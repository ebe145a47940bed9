"""What a later release stored is handed on as it is, and people go on behind it: as after a roll back."""

from datetime import UTC, datetime
from typing import ClassVar
from uuid import UUID

import pytest

from app.chat.events import MessageEdited
from app.database.thread import in_database_thread
from app.journal import kinds
from app.journal.entry import EventKind
from app.journal.services import publish_on_commit
from app.realtime.event import Delivery, Event
from tests.unit.chat.client import ADA, BOB, client

pytestmark = pytest.mark.django_db(transaction=True)
MOOD = {"sunny": 3}


class MessageDecorated(Event):
    """Of no release yet."""

    name: ClassVar[str] = "chat.message_decorated"
    delivery: ClassVar[Delivery] = Delivery.DURABLE

    mood: dict[str, int]


class EditedMoodily(MessageEdited):
    """As a later release writes an edit: with a field more."""

    mood: dict[str, int]


async def test_what_a_later_release_stored_comes_to_everybody_and_stops_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with client(ADA) as ada, client(BOB) as bob:
        before = (await bob.command("chat.join_room", room="lobby"))["position"]
        await bob.command("chat.leave_room", room="lobby")
        await ada.command("chat.join_room", room="lobby")
        posted = await ada.post("plain")
        edited = EditedMoodily("lobby", UUID(posted["message_id"]), "better", datetime.now(UTC), MOOD)

        def publish() -> None:
            publish_on_commit("room.lobby", MessageDecorated(MOOD))
            publish_on_commit("room.lobby", edited, sender=ADA.id, subject=edited.message_id)

        with monkeypatch.context() as later_release:
            later_release.setitem(kinds._kinds, MessageDecorated.name, EventKind(MessageDecorated.name))
            await in_database_thread(publish)
            assert await ada.event(MessageDecorated.name) == {"mood": MOOD}
        assert (await ada.event(MessageEdited.name))["mood"] == MOOD
        await ada.post("behind it")
        resumed = await bob.command("chat.join_room", room="lobby", position=before)
        assert resumed["resumed"]
        names = ["message_posted", "message_decorated", "message_edited", "message_posted"]
        assert [(one["event"], one["sequence"]) for one in await bob.everything()] == [
            (f"chat.{name}", before["sequence"] + number) for number, name in enumerate(names, 1)
        ]
        snapshot = await bob.command("chat.join_room", room="lobby")
        assert [message["text"] for message in snapshot["messages"]] == ["better", "behind it"]
