"""How far somebody has read, on every device."""

import pytest

from app.chat.read_markers import markers_of
from app.realtime.node import current_node
from tests.unit.chat.client import ADA, BOB, client
from tests.unit.chat.streams.rooms import join

pytestmark = pytest.mark.django_db(transaction=True)


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


async def test_a_mark_that_waits_is_counted_from_like_one_that_is_written() -> None:
    async with client(ADA) as ada, client(BOB) as bob:
        for number in range(5):
            await ada.post(str(number))
        await bob.command("chat.mark_read", room="lobby", sequence=2)
        joined = await join(bob)
        assert (joined["last_read"], joined["unread"]) == (2, 3)
        await markers_of(current_node()).flush()
        await bob.command("chat.mark_read", room="lobby", sequence=4)
        joined = await join(bob)
        assert (joined["last_read"], joined["unread"]) == (4, 1)


async def test_no_mark_goes_beyond_what_is_there() -> None:
    async with client(ADA) as ada, client(BOB) as bob:
        await ada.post("one")
        await bob.command("chat.mark_read", room="lobby", sequence=1000)
        assert (await join(bob))["last_read"] == 1
        await markers_of(current_node()).flush()
        await ada.post("two")
        joined = await join(bob)
        assert (joined["last_read"], joined["unread"]) == (1, 1)
