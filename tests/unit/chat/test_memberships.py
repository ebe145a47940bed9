"""Who belongs to a room: by name, and to whom it is told."""

from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from pytest_django import Settings

from app.accounts.models import User
from app.chat import memberships
from app.chat.models import Membership, Role, Room
from app.chat.services import close_room, open_room
from app.database.thread import in_database_thread
from app.realtime.identity import Identity
from tests.unit.chat.client import ADA, BOB, Client, client

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def lobby(node: None, transactional_db: None) -> None:
    close_room("lobby")  # the first test finds what the migrations opened
    open_room("lobby", "Lobby", opener=BOB)


async def account(name: str) -> Identity:
    user = await in_database_thread(lambda: User.objects.create_user(name))
    return Identity(f"u{user.pk}", name)


async def members(one: Client, room: str = "lobby") -> list[tuple[str, str | None, bool]]:
    reply = await one.command("chat.members", room=room)
    assert reply["count"] == len(reply["members"])
    return [(member["name"], member["role"], member["muted"]) for member in reply["members"]]


async def test_members_are_named_owners_first() -> None:
    eve, carl = await account("Eve"), await account("Carl")
    async with client(BOB) as bob:
        for person, role in ((eve, "member"), (carl, "moderator")):
            assert "sequence" in await bob.do("chat.set_member", person=person.id, role=role)
        reply = await bob.command("chat.members", room="lobby")
    assert reply == {
        "room": "lobby",
        "count": 3,
        "members": [
            {"id": BOB.id, "name": "bob", "guest": True, "role": "owner", "muted": False},
            {"id": carl.id, "name": "Carl", "guest": False, "role": "moderator", "muted": False},
            {"id": eve.id, "name": "Eve", "guest": False, "role": "member", "muted": False},
        ],
    }


async def test_who_is_muted_or_banned_only_moderators_see() -> None:
    eve, carl, dora = await account("Eve"), await account("Carl"), await account("Dora")
    async with client(BOB) as bob, client(eve) as someone:
        await bob.do("chat.set_member", person=eve.id, role="member")
        await bob.do("chat.set_member", person=carl.id, role=None, muted=True)
        await bob.do("chat.set_member", person=dora.id, role="banned")
        await bob.command("chat.mark_read", room="lobby", sequence=1)
        assert await members(someone) == [("bob", "owner", False), ("Eve", "member", False)]
        everybody = [("bob", "owner", False), ("Eve", "member", False)]
        assert await members(bob) == [*everybody, ("Carl", None, True), ("Dora", "banned", False)]
        assert (await bob.do("chat.set_member", person=eve.id, role="moderator"))["sequence"]
        assert len(await members(someone)) == 4


async def test_a_guest_is_named_as_they_were_when_they_were_there() -> None:
    gil = Identity("g77", "Gil", guest=True)
    async with client(BOB) as bob:
        async with client(gil) as guest:
            await guest.command("chat.join_room", room="lobby")
            await bob.do("chat.set_member", person=gil.id, role="member")
        await bob.command("chat.join_room", room="lobby")
        await bob.do("chat.set_member", person="g78", role="member")
        assert ("Gil", "member", False) in await members(bob)
        assert ("", "member", False) in await members(bob), "nobody knows who that is"
        # What is not known now does not undo what was.
        await in_database_thread(lambda: give_name("g78", "Hal"))
        await bob.do("chat.set_member", person="g78", role="moderator")
        assert ("Hal", "moderator", False) in await members(bob)


def give_name(person: str, name: str) -> None:
    Membership.objects.filter(person=person).update(name=name)


async def test_an_account_is_shown_by_its_name_of_today() -> None:
    eve = await account("Eve")
    async with client(BOB) as bob:
        await bob.do("chat.set_member", person=eve.id, role="member")
        await in_database_thread(lambda: User.objects.filter(pk=int(eve.id[1:])).update(username="Evelyn"))
        assert ("Evelyn", "member", False) in await members(bob)


async def test_somebody_is_found_by_a_name_that_reads_alike() -> None:
    eve = await account("Eve")

    async def find(one: Client, name: str) -> Any:
        return await one.command("chat.find_person", room="lobby", name=name)

    async with client(BOB) as bob, client(ADA) as ada:
        found = {"id": eve.id, "name": "Eve", "guest": False, "role": None, "muted": False}
        assert await find(bob, " eVE") == found
        await bob.do("chat.set_member", person=eve.id, role="member", muted=True)
        assert await find(bob, "Eve") == found | {"role": "member", "muted": True}
        assert (await find(bob, "Nobody"))["code"] == "not_found"
        await in_database_thread(lambda: User.objects.update(is_active=False))
        assert (await find(bob, "Eve"))["code"] == "not_found", "may not log in any more"
        assert (await find(ada, "Eve"))["code"] == "not_allowed", "she looks after nothing here"
        assert (await find(bob, "x" * 65))["code"] == "invalid_data"


async def test_who_comes_first_is_listed_and_all_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def crowd() -> None:
        room = Room.objects.get(slug="lobby")
        Membership.objects.bulk_create(
            Membership(room=room, person=f"g9{number}", role=role)
            for number, role in enumerate([Role.MEMBER, Role.MODERATOR, Role.VISITOR, Role.MEMBER])
        )

    await in_database_thread(crowd)
    monkeypatch.setattr(memberships, "LISTED_LIMIT", 3)
    async with client(ADA) as ada:
        reply = await ada.command("chat.members", room="lobby")
    assert [member["role"] for member in reply["members"]] == ["owner", "moderator", "member"]
    assert reply["count"] == 4
    monkeypatch.setattr(memberships, "COUNTED_LIMIT", 2)
    async with client(ADA) as ada:
        assert (await ada.command("chat.members", room="lobby"))["count"] == 2


async def test_as_many_are_listed_as_a_connection_is_sent_at_once(settings: Settings) -> None:
    def crowd() -> None:
        room = Room.objects.get(slug="lobby")
        Membership.objects.bulk_create(
            Membership(room=room, person=f"g9{number}", name=name, role=Role.MEMBER)
            for number, name in enumerate(["ü" * 64, "x", "y"])
        )

    await in_database_thread(crowd)
    async with client(ADA) as ada:
        settings.UNSENT_LIMIT_BYTES = 2 * 200
        reply = await ada.command("chat.members", room="lobby")
        assert [member["name"] for member in reply["members"]] == ["bob"]
        assert reply["count"] == 4
        settings.UNSENT_LIMIT_BYTES = 2
        assert len((await ada.command("chat.members", room="lobby"))["members"]) == 1


async def test_on_postgresql_whoever_only_read_there_is_not_looked_at() -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite does not see that this index is enough")

    def explained() -> list[str]:
        room = Room.objects.get(slug="lobby")
        Membership.objects.bulk_create(
            Membership(room=room, person=f"g9{number}", role=Role.VISITOR) for number in range(2000)
        )
        with CaptureQueriesContext(connection) as asked:
            memberships.members_of("lobby", BOB.id)
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE chat_membership")
            plans = []
            for query in asked:
                if 'FROM "chat_membership"' in query["sql"]:
                    cursor.execute(f"EXPLAIN {query['sql']}")
                    plans.append(str(cursor.fetchall()))
        return plans

    plans = await in_database_thread(explained)
    assert len(plans) == 10
    assert all("chat_members_of_a_room" in plan for plan in plans), plans


# --- Who there is -----------------------------------------------------------------------------------------


async def test_nobody_gets_a_role_who_is_not_there() -> None:
    async with client(BOB) as bob:
        for person in ("u88888", "u999999999999999999", "u", "u12x", "zzz", "system"):
            for role in ("owner", "member", "banned", None):
                refused = await bob.do("chat.set_member", person=person, role=role, muted=role is None)
                assert refused == {"code": "not_found", "message": f"there is nobody with the id {person}"}
        assert await members(bob) == [("bob", "owner", False)]


async def test_an_account_has_one_id_and_must_be_active() -> None:
    eve = await account("Eve")
    async with client(BOB) as bob:
        padded = f"u0{eve.id[1:]}"
        assert (await bob.do("chat.set_member", person=padded, role="member"))["code"] == "not_found"
        await in_database_thread(lambda: User.objects.update(is_active=False))
        assert (await bob.do("chat.set_member", person=eve.id, role="member"))["code"] == "not_found"


async def test_of_a_member_whose_account_is_gone_everything_can_be_changed_but_they_get_no_room() -> None:
    eve = await account("Eve")
    async with client(BOB) as bob:
        await bob.do("chat.set_member", person=eve.id, role="moderator")
        await in_database_thread(lambda: User.objects.all().delete())
        refused = await bob.do("chat.set_member", person=eve.id, role="owner")
        assert refused["code"] == "not_allowed"
        assert "sequence" in await bob.do("chat.set_member", person=eve.id, role="member", muted=True)
        assert "sequence" in await bob.do("chat.remove_member", person=eve.id)
        assert (await bob.do("chat.set_member", person=eve.id, role="member"))["code"] == "not_found"


async def test_a_guest_may_be_anything_but_made_an_owner() -> None:
    async with client(BOB) as bob:
        for role in ("member", "moderator", "banned", None):
            assert "sequence" in await bob.do("chat.set_member", person="g77", role=role, muted=True)
            refused = await bob.do("chat.set_member", person="g77", role="owner")
            assert refused["message"] == "only somebody with an account becomes an owner"
        muted = await bob.do("chat.set_member", person=BOB.id, role="owner", muted=True)
        assert "sequence" in muted, "he opened the room"


@pytest.mark.parametrize("gone", ["deleted", "inactive"])
async def test_the_last_owner_who_is_there_stays(gone: str) -> None:
    eve, carl = await account("Eve"), await account("Carl")
    await in_database_thread(lambda: open_room("cellar", "Cellar", opener=eve, public=False))

    def leave() -> None:
        found = User.objects.filter(pk=int(carl.id[1:]))
        found.delete() if gone == "deleted" else found.update(is_active=False)

    async with client(eve) as one:
        assert "sequence" in await one.do("chat.set_member", room="cellar", person=carl.id, role="owner")
        await in_database_thread(leave)
        for refused in (
            await one.do("chat.remove_member", room="cellar", person=eve.id),
            await one.do("chat.set_member", room="cellar", person=eve.id, role="member"),
            await one.do("chat.set_member", room="cellar", person=eve.id, role="banned"),
        ):
            assert refused["message"] == "the last owner of a room stays its owner"
        assert "sequence" in await one.do("chat.remove_member", room="cellar", person=carl.id)


async def test_a_guest_who_opened_a_room_may_hand_it_over_to_an_account() -> None:
    eve = await account("Eve")
    async with client(BOB) as bob, client(eve) as one:
        assert (await bob.do("chat.remove_member", person=BOB.id))["code"] == "not_allowed"
        assert "sequence" in await bob.do("chat.set_member", person=eve.id, role="owner")
        refused = await one.do("chat.remove_member", person=eve.id)
        assert refused["code"] == "not_allowed", "he may be gone"
        assert "sequence" in await bob.do("chat.remove_member", person=BOB.id)
        assert await members(one) == [("Eve", "owner", False)]
