"""What became of a message, and who learns it."""

import pytest

from app.chat.models import Role
from app.chat.services import open_room
from app.database.thread import in_database_thread
from app.realtime.delivery_account import Tally
from app.realtime.node import current_node
from tests.unit.chat.client import ADA, BOB, EVE, Client, client
from tests.unit.chat.streams.rooms import give, join

pytestmark = pytest.mark.django_db(transaction=True)


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
