"""What a client of chat may ask, and what it is answered."""

import asyncio
from asyncio import Future

import pytest
from pytest_django import Settings

from app.chat import services
from app.chat.services import open_room
from app.journal.entry import Busy, Entry, OutcomeUnknown, Refused, Stored
from app.journal.keys import new_key
from app.realtime.node import current_node
from tests.unit.chat.client import ADA, BOB, client

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def lobby(node: None, transactional_db: None) -> None:
    open_room("lobby", "Lobby")


async def test_people_in_a_room_hear_each_other_and_themselves() -> None:
    async with client(ADA) as ada, client(BOB) as bob:
        await ada.command("chat.join_room", room="lobby")
        joined = await bob.command("chat.join_room", room="lobby")
        assert (joined["room"], joined["title"], joined["count"]) == ("lobby", "Lobby", 2)
        assert [member["name"] for member in joined["members"]] == ["ada", "bob"]
        reply = await ada.post("<b>ding</b>")
        for one in (ada, bob):
            assert await one.event("chat.message_posted") == {
                "room": "lobby",
                "message_id": reply["message_id"],
                "sender": {"id": "u1", "name": "ada", "guest": False},
                "text": "<b>ding</b>",
                "sent_at": reply["sent_at"],
                "node": current_node().name,
            }
        assert reply["sequence"] == 1 and reply["epoch"] == joined["position"]["epoch"]


async def test_a_message_sent_again_is_stored_once_and_answered_twice() -> None:
    key = str(new_key())
    async with client(ADA) as ada:
        await ada.command("chat.join_room", room="lobby")
        first, second = [
            await ada.command("chat.post_message", room="lobby", key=key, text="ding") for _ in range(2)
        ]
        assert first == second
        assert (await ada.event("chat.message_posted"))["message_id"] == key
        await ada.command("ping")
        assert not ada.names("chat.")


@pytest.mark.usefixtures("noticed_soon")
async def test_who_comes_and_goes_is_told() -> None:
    async with client(ADA) as ada:
        joined = await ada.command("chat.join_room", room="lobby")
        assert [member["name"] for member in joined["members"]] == ["ada"]
        async with client(BOB) as bob:
            await bob.command("chat.join_room", room="lobby")
            assert (await ada.event("presence.joined"))["member"] == {
                "id": "g2",
                "name": "bob",
                "guest": True,
                "nodes": [current_node().name],
            }
        left = await ada.event("presence.left")
        assert (left["member"]["name"], left["count"]) == ("bob", 1)


async def test_whoever_left_the_room_hears_nothing_and_may_still_speak() -> None:
    async with client(ADA) as ada, client(BOB) as bob:
        await ada.command("chat.join_room", room="lobby")
        await bob.command("chat.join_room", room="lobby")
        await bob.command("chat.leave_room", room="lobby")
        await ada.post("ding")
        assert (await bob.post("dong"))["sequence"] == 2
        assert not bob.names("chat.")


async def test_nothing_is_left_behind_when_a_client_goes() -> None:
    async with client(ADA) as ada:
        await ada.command("chat.join_room", room="lobby")
        hub = current_node().hub
        assert hub.members("room.lobby") == 1
    assert hub.members("room.lobby") == 0


async def test_whatever_is_asked_of_a_room_that_is_not_there_is_answered_with_its_name() -> None:
    answer = {"code": "not_found", "message": "there is no room nowhere"}
    about = {"room": "nowhere", "message_id": str(new_key())}
    async with client(ADA) as ada:
        assert await ada.command("chat.join_room", room="nowhere") == answer
        place = {"room": "nowhere", "epoch": 1, "sequence": 1}
        assert (await ada.command("chat.resume", rooms=[place]))["rooms"][0]["error"] == answer
        assert await ada.post("ding", "nowhere") == answer
        assert await ada.do("chat.edit_message", text="dong", **about) == answer
        assert await ada.do("chat.delete_message", **about) == answer
        assert await ada.do("chat.set_member", room="nowhere", person="u3", role="member") == answer
        assert await ada.do("chat.remove_member", room="nowhere", person="u3") == answer
        assert await ada.command("chat.history", room="nowhere", before=9, limit=5) == answer
        assert await ada.command("chat.deliveries", room="nowhere", sequence=1) == answer


async def test_only_rooms_that_are_open_can_be_joined() -> None:
    async with client(ADA) as ada:
        assert (await ada.command("chat.join_room", room="nowhere"))["code"] == "not_found"
        assert (await ada.command("chat.join_room", room="../etc"))["code"] == "invalid_data"
        assert (await ada.command("chat.join_room", room="lobby\n"))["code"] == "invalid_data"


async def test_a_connection_is_in_so_many_rooms_at_most(settings: Settings) -> None:
    settings.ROOMS_PER_CONNECTION = 1
    async with client(ADA) as ada:
        await ada.command("chat.join_room", room="lobby")
        assert (await ada.command("chat.join_room", room="lobby"))["room"] == "lobby"
        assert (await ada.command("chat.join_room", room="second"))["code"] == "too_many_rooms"


@pytest.mark.parametrize("text", ["", " \n\t ", "x" * 4001])
async def test_a_text_has_1_to_4000_characters_and_not_only_spaces(text: str) -> None:
    async with client(ADA) as ada:
        await ada.command("chat.join_room", room="lobby")
        assert (await ada.post(text))["code"] == "invalid_data"
        assert "message_id" in await ada.post("x" * 4000)


async def test_a_url_with_a_room_joins_it_at_once() -> None:
    async with client(ADA, "/realtime/rooms/lobby/") as ada:
        assert (await ada.event("chat.room_joined"))["title"] == "Lobby"
        assert "message_id" in await ada.post("ding")


async def test_a_url_with_an_unknown_room_says_so() -> None:
    async with client(ADA, "/realtime/rooms/nowhere/") as ada:
        await ada.command("ping")
        assert [frame["error"]["code"] for frame in ada.events if "error" in frame] == ["not_found"]


@pytest.mark.parametrize("at_once", [True, False])
@pytest.mark.parametrize(
    ("outcome", "code", "retry_after"),
    [
        (Busy(0.5), "busy", 0.5),
        (OutcomeUnknown("cut"), "unknown", None),
        (Refused("not_found", "x"), "not_found", None),
    ],
)
async def test_what_became_of_a_command_is_said(
    monkeypatch: pytest.MonkeyPatch, outcome: Exception, code: str, retry_after: float | None, at_once: bool
) -> None:
    class Failing:
        def append(self, entry: Entry) -> "Future[Stored]":
            if at_once:
                raise outcome
            future: Future[Stored] = asyncio.get_running_loop().create_future()
            future.set_exception(outcome)
            return future

    monkeypatch.setattr(services, "journal_of", lambda node: Failing())
    async with client(ADA) as ada:
        message = {"message_id": str(new_key())}
        answers = [
            await ada.post("ding"),
            await ada.do("chat.edit_message", **message, text="dong"),
            await ada.do("chat.delete_message", **message),
            await ada.do("chat.set_member", person="u7", role="member"),
            await ada.do("chat.remove_member", person="u7"),
        ]
    assert [(answer["code"], answer.get("retry_after")) for answer in answers] == [(code, retry_after)] * 5


async def test_a_ping_may_say_what_was_seen() -> None:
    async with client(ADA) as ada:
        assert await ada.command("ping", seen={"room.lobby": 7}) == {}
        assert (await ada.command("ping", seen={"room.lobby": -1}))["code"] == "invalid_data"
