import asyncio
import gc
from collections.abc import Awaitable, Callable, Iterable
from functools import partial
from typing import Any, cast

import pytest
from django.db import OperationalError

from app.accounts import rechecks, verification
from app.accounts.access_changes import Listener
from app.accounts.events import account_subject, session_subject
from app.accounts.middleware import IdentityMiddleware
from app.accounts.models import User
from app.accounts.selectors import claim_of_user
from app.accounts.tickets import Claim, issue
from app.accounts.verification import Verification
from app.database.thread import in_database_thread
from app.realtime.close_codes import IDENTITY_REVOKED
from app.realtime.connection import Batch
from app.realtime.identity import Identity
from app.realtime.node import Node, stop_node
from tests.unit.accounts.conftest import MakeUser, wait_until
from tests.unit.accounts.wire import Arrived, outcome, websocket

ADA = Claim(Identity("u1", "Ada"), "ab" * 8, "key of Ada")
BOB = Claim(Identity("u2", "Bob"), "cd" * 8, "key of Bob")
BOB_ELSEWHERE = Claim(Identity("u2", "Bob"), "cd" * 8, "another key of Bob")


class Connection:
    """One that only remembers how it was closed."""

    def __init__(self) -> None:
        self.closing = False
        self.closed_with: int | None = None

    def close(self, code: int, reason: str = "") -> None:
        self.closed_with = code
        self.closing = True

    def deliver(self, batch: Batch) -> None: ...
    def send(self, payload: bytes) -> None: ...
    def release(self, retry_after: float) -> None: ...
    def abort(self, code: int) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Accounts:
    """Says which claims no longer hold, and keeps what it was asked; and a node where nothing changes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[set[Claim]] = []
        self.revoked: set[Claim] = set()
        self.failures = 0
        self.ending: list[Callable[[], Awaitable[None]]] = []
        monkeypatch.setattr(rechecks, "in_database_thread", asyncio.to_thread)
        monkeypatch.setattr(rechecks, "access_changes_of", lambda node: self)
        for name in ("SOON_SECONDS", "RETRY_SECONDS"):
            monkeypatch.setattr(rechecks, name, 0.01)
        monkeypatch.setattr(verification, "claims_that_no_longer_hold", self.claims_that_no_longer_hold)

    def claims_that_no_longer_hold(self, claims: Iterable[Claim]) -> dict[Claim, int]:
        self.asked.append(set(claims))
        if self.failures:
            self.failures -= 1
            raise OperationalError("the database is starting up")
        return dict.fromkeys(self.asked[-1] & self.revoked, IDENTITY_REVOKED)

    def listen(self, listener: Listener) -> None: ...

    def before_stop(self, end: Callable[[], Awaitable[None]]) -> None:
        self.ending.append(end)


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch) -> Accounts:
    return Accounts(monkeypatch)


@pytest.fixture
async def verified(accounts: Accounts) -> Any:
    yield Verification(cast(Node, accounts))
    for end in accounts.ending:
        await end()


async def test_only_the_revoked_are_closed_and_all_of_a_batch_cost_one_question(
    accounts: Accounts, verified: Verification
) -> None:
    accounts.revoked = {BOB}
    connections = [Connection() for _ in range(4)]
    for claim, connection in zip((ADA, BOB, ADA, BOB), connections, strict=True):
        verified.watch(connection, claim, soon=True)
    await wait_until(lambda: connections[1].closed_with and connections[3].closed_with)
    assert [connection.closed_with for connection in connections] == [
        None,
        IDENTITY_REVOKED,
        None,
        IDENTITY_REVOKED,
    ]
    assert accounts.asked == [{ADA, BOB}]


async def test_nothing_runs_for_a_connection_of_its_own_nor_for_none(
    accounts: Accounts, verified: Verification, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rechecks, "ROUND_SECONDS", 0.01)
    connections = [Connection() for _ in range(100)]
    tasks = len(asyncio.all_tasks())
    for connection in connections:
        verified.watch(connection, ADA, soon=True)
    assert len(asyncio.all_tasks()) == tasks + 2
    connections.clear()
    del connection
    gc.collect()
    await wait_until(lambda: len(asyncio.all_tasks()) == tasks)
    again = Connection()
    verified.watch(again, ADA)
    await wait_until(lambda: accounts.asked)


async def test_a_connection_that_is_gone_is_neither_kept_nor_asked_about(
    accounts: Accounts, verified: Verification
) -> None:
    stays, closing = Connection(), Connection()
    verified.watch(stays, ADA, soon=True)
    verified.watch(Connection(), BOB, soon=True)
    verified.watch(closing, BOB, soon=True)
    closing.closing = True
    gc.collect()
    await wait_until(lambda: accounts.asked)
    assert accounts.asked == [{ADA}]


async def test_a_database_that_fails_postpones_the_question(
    accounts: Accounts, verified: Verification
) -> None:
    accounts.failures, accounts.revoked = 2, {ADA}
    connection = Connection()
    verified.watch(connection, ADA, soon=True)
    await wait_until(lambda: connection.closed_with == IDENTITY_REVOKED)
    assert len(accounts.asked) == 3


@pytest.mark.parametrize(
    ("subjects", "asked"),
    [
        ({account_subject("u2")}, {BOB, BOB_ELSEWHERE}),
        ({session_subject(BOB.session)}, {BOB}),
        ({session_subject(BOB.session), account_subject("u1")}, {ADA, BOB}),
        (None, {ADA, BOB, BOB_ELSEWHERE}),
    ],
)
async def test_a_change_has_those_looked_at_whom_it_concerns_with_one_question(
    accounts: Accounts, verified: Verification, subjects: set[str] | None, asked: set[Claim]
) -> None:
    accounts.revoked = {BOB}
    connections = {claim: Connection() for claim in (ADA, BOB, BOB_ELSEWHERE)}
    for claim, connection in connections.items():
        verified.watch(connection, claim)
    verified.changed({account_subject("u3"), "room.u2"})
    verified.changed(subjects)
    await wait_until(lambda: accounts.asked)
    await wait_until(lambda: bool(connections[BOB].closed_with) == (BOB in asked))
    assert accounts.asked == [asked]


async def test_who_comes_in_by_what_was_true_before_a_change_is_looked_at(
    accounts: Accounts, verified: Verification
) -> None:
    accounts.revoked = {BOB}
    verified.changed({account_subject("u2")})  # while the session was looked up
    await wait_until(lambda: verified._checking is None)  # and nobody was here yet
    ada, bob = Connection(), Connection()
    verified.watch(ada, ADA)
    verified.watch(bob, BOB)
    await wait_until(lambda: bob.closed_with)
    assert accounts.asked == [{BOB}]


async def test_everybody_is_looked_at_in_rounds_of_which_each_question_is_a_part(
    accounts: Accounts, verified: Verification, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rechecks, "ROUND_SECONDS", 0.05)
    monkeypatch.setattr(rechecks, "PART", 2)
    claims = [Claim(Identity(f"u{number}", "somebody")) for number in range(5)]
    connections = [Connection() for _ in claims]
    for claim, connection in zip(claims, connections, strict=True):
        verified.watch(connection, claim)
    await wait_until(lambda: len(accounts.asked) >= 3)
    assert accounts.asked[:3] == [set(claims[:2]), set(claims[2:4]), set(claims[4:])]
    accounts.revoked = {claims[3]}
    await wait_until(lambda: connections[3].closed_with)
    assert [connection.closed_with for connection in connections].count(None) == 4


@pytest.mark.usefixtures("database_thread")
async def test_who_is_deactivated_between_ticket_and_connect_is_closed(make_user: MakeUser) -> None:
    user = await in_database_thread(partial(make_user, "Ada"))
    ticket = issue(claim_of_user(user))
    inner, connection = Arrived(), Connection()
    await outcome(IdentityMiddleware(inner), websocket(ticket=ticket))
    await in_database_thread(lambda: User.objects.filter(pk=user.pk).update(is_active=False))
    assert inner.scope is not None
    for callback in inner.scope["on_accept"]:
        callback(connection)
    await wait_until(lambda: connection.closed_with == IDENTITY_REVOKED)
    await stop_node()
