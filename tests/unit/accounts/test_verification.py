import asyncio
import gc
from collections.abc import Iterable
from functools import partial

import pytest
from django.db import OperationalError

from app.accounts import verification
from app.accounts.middleware import IdentityMiddleware
from app.accounts.models import User
from app.accounts.selectors import claim_of_user
from app.accounts.tickets import Claim, issue
from app.accounts.verification import Verification
from app.database.thread import in_database_thread
from app.realtime.close_codes import IDENTITY_REVOKED
from app.realtime.connection import Batch
from app.realtime.identity import Identity
from tests.unit.accounts.conftest import MakeUser, wait_until
from tests.unit.accounts.wire import Arrived, outcome, websocket

ADA = Claim(Identity("u1", "Ada"), "ab" * 8)
BOB = Claim(Identity("u2", "Bob"), "cd" * 8)


class Connection:
    """One that only remembers how it was closed."""

    def __init__(self) -> None:
        self.closing = False
        self.closed_with: int | None = None

    def close(self, code: int, reason: str = "") -> None:
        self.closed_with = code

    def deliver(self, batch: Batch) -> None: ...
    def send(self, payload: bytes) -> None: ...
    def release(self, retry_after: float) -> None: ...
    def abort(self, code: int) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...


class Accounts:
    """Says which claims no longer hold, and keeps what it was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[set[Claim]] = []
        self.revoked: set[Claim] = set()
        self.failures = 0
        monkeypatch.setattr(verification, "in_database_thread", asyncio.to_thread)
        monkeypatch.setattr(verification, "VERIFY_SECONDS", 0.01)
        monkeypatch.setattr(verification, "claims_that_no_longer_hold", self.claims_that_no_longer_hold)

    def claims_that_no_longer_hold(self, claims: Iterable[Claim]) -> set[Claim]:
        self.asked.append(set(claims))
        if self.failures:
            self.failures -= 1
            raise OperationalError("the database is starting up")
        return self.asked[-1] & self.revoked


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch) -> Accounts:
    return Accounts(monkeypatch)


async def test_only_the_revoked_are_closed_and_all_of_a_batch_cost_one_question(accounts: Accounts) -> None:
    accounts.revoked = {BOB}
    verified = Verification()
    connections = [Connection() for _ in range(4)]
    for claim, connection in zip((ADA, BOB, ADA, BOB), connections, strict=True):
        verified.verify_later(claim, connection)
    await wait_until(lambda: connections[1].closed_with and connections[3].closed_with)
    assert [connection.closed_with for connection in connections] == [
        None,
        IDENTITY_REVOKED,
        None,
        IDENTITY_REVOKED,
    ]
    assert accounts.asked == [{ADA, BOB}]


async def test_nothing_runs_while_there_is_nothing_to_verify(accounts: Accounts) -> None:
    verified, connection = Verification(), Connection()
    tasks = len(asyncio.all_tasks())
    for _ in range(100):
        verified.verify_later(ADA, connection)
    assert len(asyncio.all_tasks()) == tasks + 1
    await wait_until(lambda: len(asyncio.all_tasks()) == tasks)
    verified.verify_later(ADA, connection)
    await wait_until(lambda: len(accounts.asked) == 2)


async def test_a_connection_that_is_gone_is_neither_kept_nor_asked_about(accounts: Accounts) -> None:
    verified = Verification()
    stays = Connection()
    verified.verify_later(ADA, stays)
    verified.verify_later(BOB, Connection())
    gc.collect()
    await wait_until(lambda: accounts.asked)
    assert accounts.asked == [{ADA}]


async def test_a_database_that_fails_postpones_the_question(accounts: Accounts) -> None:
    accounts.failures, accounts.revoked = 2, {ADA}
    verified, connection = Verification(), Connection()
    verified.verify_later(ADA, connection)
    await wait_until(lambda: connection.closed_with == IDENTITY_REVOKED)
    assert len(accounts.asked) == 3


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
