import asyncio
import threading
from collections.abc import Iterable
from functools import partial

import pytest
from django.db import OperationalError

from app.accounts import session_lookup
from app.accounts.middleware import IdentityMiddleware
from app.accounts.session_lookup import LookupFailed, SessionLookup
from app.accounts.tickets import Claim
from app.database import batches
from app.database.thread import in_database_thread
from app.realtime.identity import Identity
from tests.unit.accounts.conftest import MakeSession, MakeUser, wait_until
from tests.unit.accounts.wire import Arrived, outcome, websocket


class Database:
    """Answers look-ups for every key but `nobody`, one after the other, as `open` lets them through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.batches: list[set[str]] = []
        self.open = threading.Event()
        self.open.set()
        self.error: Exception | None = None
        monkeypatch.setattr(batches, "in_database_thread", asyncio.to_thread)
        monkeypatch.setattr(session_lookup, "claims_of_sessions", self.claims_of_sessions)

    def claims_of_sessions(self, session_keys: Iterable[str]) -> dict[str, Claim]:
        self.batches.append(set(session_keys))
        assert self.open.wait(10)
        if self.error is not None:
            raise self.error
        return {key: claim(key) for key in self.batches[-1] if key != "nobody"}


def claim(key: str) -> Claim:
    return Claim(Identity(f"u{key}", key), "hash", key)


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Database:
    return Database(monkeypatch)


@pytest.mark.usefixtures("database_thread")
async def test_a_page_comes_in_with_its_session_cookie(
    make_user: MakeUser, make_session: MakeSession
) -> None:
    user = await in_database_thread(partial(make_user, "Ada"))
    key = await in_database_thread(partial(make_session, user))
    inner = Arrived()
    app = IdentityMiddleware(inner)
    cookie = f"theme=dark; sessionid={key}; csrftoken=x"
    assert await outcome(app, websocket(cookie=cookie)) == ["websocket.accept"]
    assert inner.scope is not None and inner.scope["identity"] == Identity(f"u{user.pk}", "Ada")
    assert await outcome(app, websocket(cookie=f"sessionid={key}x")) == [401, "no_identity"]


async def test_what_arrives_during_one_look_up_is_answered_by_the_next_together(database: Database) -> None:
    lookup = SessionLookup()
    database.open.clear()
    first = asyncio.create_task(lookup.claim_of("1"))
    await wait_until(lambda: database.batches)
    others = [asyncio.create_task(lookup.claim_of(key)) for key in ("2", "3", "2", "nobody")]
    await asyncio.sleep(0)
    database.open.set()
    assert await first == claim("1")
    assert await asyncio.gather(*others) == [claim("2"), claim("3"), claim("2"), None]
    assert database.batches == [{"1"}, {"2", "3", "nobody"}]


async def test_a_waiter_that_leaves_harms_nobody_else(database: Database) -> None:
    lookup = SessionLookup()
    database.open.clear()
    asked = [asyncio.create_task(lookup.claim_of("1")) for _ in range(2)]
    await wait_until(lambda: database.batches)
    waiting = [asyncio.create_task(lookup.claim_of("2")) for _ in range(2)]
    await asyncio.sleep(0)
    asked[0].cancel()
    waiting[0].cancel()
    await asyncio.sleep(0)
    database.open.set()
    assert await asked[1] == claim("1")
    assert await waiting[1] == claim("2")


async def test_a_database_that_fails_refuses_for_now_and_is_logged_once(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", logger=session_lookup.__name__)
    app = IdentityMiddleware(Arrived())
    database.error = OperationalError("the database is starting up")
    together = await asyncio.gather(*(outcome(app, websocket(cookie="sessionid=1")) for _ in range(3)))
    assert together == [[503, "unavailable"]] * 3
    assert await outcome(app, websocket(cookie="sessionid=1")) == [503, "unavailable"]
    database.error = None
    for _ in range(2):
        assert await outcome(app, websocket(cookie="sessionid=1")) == ["websocket.accept"]
    assert caplog.messages == [
        "looking up sessions fails: the database is starting up",
        "looking up sessions works again",
    ]


async def test_a_fault_of_our_own_does_not_leave_anybody_waiting(database: Database) -> None:
    lookup = SessionLookup()
    database.error = ZeroDivisionError()
    with pytest.raises(LookupFailed):
        await lookup.claim_of("1")
    database.error = None
    assert await lookup.claim_of("1") == claim("1")


async def test_a_database_that_never_answers_is_not_waited_for_nor_asked_about_who_left(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    lookup = SessionLookup()
    database.open.clear()
    with monkeypatch.context() as impatient:
        impatient.setattr(batches, "ANSWER_SECONDS", 0.01)
        for key in ("1", "2", "3"):
            with pytest.raises(LookupFailed):
                await lookup.claim_of(key)
    database.open.set()
    assert await lookup.claim_of("4") == claim("4")
    assert database.batches == [{"1"}, {"4"}]
