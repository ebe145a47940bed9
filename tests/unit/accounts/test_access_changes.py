"""What Django code does to accounts and sessions ends the connections that rest on them, by every way."""

import asyncio
from collections.abc import AsyncIterator, Callable
from functools import partial
from importlib import import_module
from typing import Any

import pytest
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import update_last_login
from django.contrib.sessions.models import Session
from django.db import connections, transaction
from django.utils import timezone

from app.accounts import rechecks
from app.accounts.events import ACCESS_CHANGES
from app.accounts.middleware import IdentityMiddleware
from app.accounts.models import User
from app.accounts.selectors import claim_of_user, claims_of_sessions
from app.accounts.services import access_changed, purge_expired_sessions
from app.accounts.stock_connection import StockConnection
from app.accounts.tickets import Claim, issue
from app.accounts.verification import verification_of
from app.database.thread import in_database_thread
from app.journal.models import OutboxEntry
from app.journal.services import renew_epochs
from app.realtime.close_codes import IDENTITY_REVOKED, PASSWORD_CHANGED, SESSION_ENDED
from app.realtime.node import current_node, stop_node
from tests.unit.accounts.conftest import MakeSession, MakeUser, wait_until
from tests.unit.accounts.test_verification import Connection

GUEST = {"guest": {"id": "g1", "name": "Grace"}}


@pytest.fixture(autouse=True)
async def node(transactional_db: None, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[None]:
    """The test's own, on which nothing is looked at in rounds."""
    monkeypatch.setattr(rechecks, "ROUND_SECONDS", 3600.0)
    monkeypatch.setattr(rechecks, "SOON_SECONDS", 0.01)
    yield
    await stop_node()
    await in_database_thread(connections.close_all)


async def following() -> None:
    """The node follows the stream, and everybody was looked at for that."""
    node = current_node()
    await wait_until(lambda: node.hub.members(ACCESS_CHANGES))
    await wait_until(lambda: verification_of(node)._checking is None)


class People:
    """Ada twice, with a session each, and a guest; all of them connected."""

    def __init__(self, make_user: MakeUser, make_session: MakeSession) -> None:
        self.ada = make_user("Ada")
        self.keys = [make_session(self.ada), make_session(self.ada), make_session(**GUEST)]
        self.claims: dict[str, Claim] = claims_of_sessions(self.keys)
        self.connections = [Connection() for _ in self.keys]

    def connect(self) -> None:
        for key, connection in zip(self.keys, self.connections, strict=True):
            verification_of(current_node()).watch(connection, self.claims[key])

    @property
    def closed(self) -> list[int | None]:
        return [connection.closed_with for connection in self.connections]

    def session(self, number: int) -> Any:
        return import_module(settings.SESSION_ENGINE).SessionStore(self.keys[number])


@pytest.fixture
async def people(make_user: MakeUser, make_session: MakeSession) -> People:
    people = await in_database_thread(partial(People, make_user, make_session))
    people.connect()
    await following()
    return people


def save(user: User, **changes: Any) -> None:
    for name, value in changes.items():
        setattr(user, name, value)
    user.save()


def changes_the_password_in_the_first_session(people: People) -> None:
    """As `update_session_auth_hash` does, for the request that changes it."""
    save(people.ada, password="another hash")
    session = people.session(0)
    session[SESSION_KEY], session[BACKEND_SESSION_KEY] = str(people.ada.pk), "django"
    session.cycle_key()
    session[HASH_SESSION_KEY] = people.ada.get_session_auth_hash()
    session.save()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda people: save(people.ada, is_active=False), [IDENTITY_REVOKED, IDENTITY_REVOKED, None]),
        (lambda people: save(people.ada, password="x"), [PASSWORD_CHANGED, PASSWORD_CHANGED, None]),
        (
            changes_the_password_in_the_first_session,
            [SESSION_ENDED, PASSWORD_CHANGED, None],
        ),
        (lambda people: people.ada.delete(), [IDENTITY_REVOKED, IDENTITY_REVOKED, None]),
        (lambda people: User.objects.all().delete(), [IDENTITY_REVOKED, IDENTITY_REVOKED, None]),
        (lambda people: people.session(1).flush(), [None, SESSION_ENDED, None]),
        (lambda people: people.session(2).flush(), [None, None, SESSION_ENDED]),
        (
            lambda people: Session.objects.filter(pk__in=people.keys[1:]).delete(),
            [None, SESSION_ENDED, SESSION_ENDED],
        ),
    ],
)
async def test_a_connection_ends_with_what_it_rests_on(
    people: People, change: Callable[[People], object], expected: list[int | None]
) -> None:
    await in_database_thread(lambda: change(people))
    await wait_until(lambda: people.closed == expected)


async def test_what_is_rolled_back_ends_nothing_and_is_told_nobody(people: People) -> None:
    def change() -> None:
        with transaction.atomic():
            save(people.ada, is_active=False)
            transaction.set_rollback(True)

    await in_database_thread(change)
    await in_database_thread(partial(people.session(2).flush))
    await wait_until(lambda: people.closed == [None, None, SESSION_ENDED])


def told() -> list[str]:
    """What was published and not moved yet: no node runs."""
    return [entry.payload for entry in OutboxEntry.objects.order_by("id")]


@pytest.mark.django_db
def test_what_ends_nobodys_access_is_told_nobody(make_user: MakeUser, make_session: MakeSession) -> None:
    ada = make_user("Ada")
    update_last_login(User, ada)
    session = import_module(settings.SESSION_ENGINE).SessionStore(make_session(ada))
    session["theme"] = "dark"
    session.save()
    assert told() == []
    ada.save(update_fields=["password"])
    assert len(told()) == 1 and f"account.u{ada.pk}" in told()[0]


def test_expired_sessions_are_purged_without_a_word_and_the_others_stay(make_session: MakeSession) -> None:
    keys = [make_session(**GUEST) for _ in range(3)]
    Session.objects.filter(pk__in=keys[:2]).update(expire_date=timezone.now())
    purge_expired_sessions()
    assert list(Session.objects.values_list("pk", flat=True)) == keys[2:]
    assert told() == []


def test_no_key_of_a_session_gets_into_the_journal(make_session: MakeSession) -> None:
    key = make_session(**GUEST)
    Session.objects.all().delete()
    (payload,) = told()
    assert key not in payload and "session." in payload


async def test_when_nobody_knows_what_was_missed_everybody_is_looked_at(people: People) -> None:
    def change() -> None:
        User.objects.update(is_active=False)  # nobody is told
        renew_epochs()
        access_changed("account.u0")

    await in_database_thread(change)
    await wait_until(lambda: people.closed == [IDENTITY_REVOKED, IDENTITY_REVOKED, None])


async def test_a_database_that_is_away_at_first_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, make_user: MakeUser, make_session: MakeSession
) -> None:
    people = await in_database_thread(partial(People, make_user, make_session))
    tried: list[str] = []

    def away(stream: str) -> Any:
        tried.append(stream)
        raise ZeroDivisionError

    with monkeypatch.context() as broken:
        broken.setattr("app.accounts.access_changes.open_stream", away)
        broken.setattr("app.accounts.access_changes.RETRY_SECONDS", 0.01)
        people.connect()
        await wait_until(lambda: len(tried) > 1)
    await in_database_thread(partial(save, people.ada, is_active=False))
    await wait_until(lambda: people.closed == [IDENTITY_REVOKED, IDENTITY_REVOKED, None])
    assert set(tried) == {ACCESS_CHANGES}
    await asyncio.sleep(0)


class Stock(AsyncWebsocketConsumer):  # type: ignore[misc]  # untyped library
    """As tutorials write them: knows nothing of accounts, and answers."""

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.send(text_data)


@pytest.mark.usefixtures("database_thread")
async def test_a_stock_consumer_loses_its_client_likewise(make_user: MakeUser) -> None:
    ada = await in_database_thread(partial(make_user, "Ada"))
    door = IdentityMiddleware(Stock.as_asgi())
    protocols = ["carillon.v1", f"carillon.ticket.{issue(claim_of_user(ada))}"]
    client = WebsocketCommunicator(door, "/stock/", subprotocols=protocols)
    assert (await client.connect(10))[0]
    await following()
    await client.send_to("ding")
    assert await client.receive_from(10) == "ding"
    await in_database_thread(partial(save, ada, is_active=False))
    closed = await client.receive_output(10)
    assert (closed["type"], closed["code"]) == ("websocket.close", IDENTITY_REVOKED)
    await client.send_to("is anybody there?")
    assert await client.receive_nothing()
    await client.disconnect(timeout=10)


async def test_a_consumer_whose_close_a_server_does_not_take_may_say_another() -> None:
    taken: list[Any] = []

    async def send(message: Any) -> None:
        if message.get("code") == 1012:
            raise ValueError("daphne takes 1000, and what begins with 3 or 4")
        taken.append(message["type"])

    connection = StockConnection(send, [])
    with pytest.raises(ValueError, match="daphne"):
        await connection.send({"type": "websocket.close", "code": 1012})
    await connection.send({"type": "websocket.close"})
    await connection.send({"type": "websocket.send", "text": "too late"})
    connection.close(IDENTITY_REVOKED)
    assert taken == ["websocket.close"]
