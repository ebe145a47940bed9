"""Away or not: asked by one for all, told once."""

import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator

import pytest
from django.contrib.auth import get_user_model
from django.db import IntegrityError, OperationalError, ProgrammingError, connection
from django.test import Client

from app.database import outage as module
from app.database.outage import DatabaseAway, Outage, is_of_the_database
from app.database.thread import OutageLog
from deploy.local.processes import wait_until


class Database:
    """Somebody to ask."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked = 0
        self.begun = 0
        self.well = threading.Event()
        self.answers = threading.Event()
        self.answers.set()
        self.outage = Outage(self._probe)
        self.outage.on_begin = self._begin
        self.outage.watch()
        monkeypatch.setattr(module, "RETRY_SECONDS", 0.001)

    def _probe(self) -> None:
        self.asked += 1
        self.answers.wait(10)
        if not self.well.is_set():
            raise ConnectionError("gone\nfor lunch")

    def _begin(self) -> None:
        self.begun += 1

    def until(self, condition: Callable[[], bool]) -> None:
        assert wait_until(condition, 10)


@pytest.fixture
def database(monkeypatch: pytest.MonkeyPatch) -> Iterator[Database]:
    database = Database(monkeypatch)
    yield database
    database.well.set()
    database.until(lambda: not database.outage.away)


def test_an_outage_begins_once_for_all_who_meet_it_and_ends_when_the_database_answers(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    for _ in range(5):
        database.outage.suspect("no answer")
    database.until(lambda: database.asked > 3)
    with pytest.raises(DatabaseAway):
        database.outage.raise_if_away()
    database.well.set()
    database.until(lambda: "is back" in caplog.text)
    database.outage.raise_if_away()
    assert [record.getMessage() for record in caplog.records] == [
        "the database is away: gone for lunch",
        "the database is back, after 0 s",
    ]
    assert database.begun == 1


def test_a_database_that_answers_is_not_away_and_what_somebody_met_is_told(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    database.well.set()
    database.outage.suspect("deadlock\ndetected")
    database.until(lambda: caplog.messages == ["the database failed somebody: deadlock detected"])
    assert not database.outage.away and not database.begun


def test_somebody_who_only_waits_is_no_news(database: Database, caplog: pytest.LogCaptureFixture) -> None:
    database.well.set()
    database.outage.suspect()
    database.until(lambda: database.asked == 1)
    database.outage.suspect("told")
    database.until(lambda: bool(caplog.messages))
    assert caplog.messages == ["the database failed somebody: told"]


def test_a_command_has_nobody_ask_and_gives_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    def probe() -> None:
        raise AssertionError("asked")

    outage = Outage(probe)
    outage.suspect("no answer")
    assert not outage.away and "no answer" in caplog.text
    assert outage.is_news(logging.makeLogRecord({"msg": "error connecting in %r: %s"}))


def test_of_what_the_pool_logs_only_the_attempts_of_an_outage_are_left_out(database: Database) -> None:
    def is_news(text: str) -> bool:
        return database.outage.is_news(logging.makeLogRecord({"msg": text}))

    assert not is_news("error connecting in %r: %s")
    assert is_news("rolling back returned connection: %s")


def test_a_known_outage_is_not_told_again_by_each_who_asks(caplog: pytest.LogCaptureFixture) -> None:
    log = OutageLog(logging.getLogger("test"), "looking up sessions")
    log.failed(DatabaseAway("the database is away"))
    log.worked()
    assert not caplog.messages


@pytest.mark.parametrize(
    ("error", "cause", "expected"),
    [
        (OperationalError("no connection"), None, True),
        (DatabaseAway("the database is away"), None, True),
        (ProgrammingError("no such column"), None, False),
        (IntegrityError("not unique"), None, False),
        (ValueError("wrong"), None, False),
        (OperationalError("database is locked"), sqlite3.SQLITE_BUSY, True),
        (OperationalError("no such table"), sqlite3.SQLITE_ERROR, False),
    ],
)
def test_what_is_the_databases_own_trouble(error: Exception, cause: int | None, expected: bool) -> None:
    if cause is not None:
        error.__cause__ = sqlite3.OperationalError()
        error.__cause__.sqlite_errorcode = cause
    assert is_of_the_database(error) is expected


@pytest.mark.skipif(connection.vendor != "sqlite", reason="PostgreSQL has no lock of the whole database")
@pytest.mark.django_db(transaction=True)
def test_who_writes_while_sqlite_is_locked_is_told_to_come_back(
    caplog: pytest.LogCaptureFixture, client: Client
) -> None:
    connection.ensure_connection()
    connection.connection.execute("PRAGMA busy_timeout = 0")
    other = sqlite3.connect(connection.settings_dict["NAME"], isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        page = client.post("/accounts/guest/", {"name": "Ada"}, headers={"accept": "text/html"})
        program = client.post("/accounts/guest/", {"name": "Ada"})
        reader = client.get("/accounts/guest/")
    finally:
        other.close()
    assert (page.status_code, page.headers["Retry-After"]) == (503, "1")
    assert "Back in a moment" in page.text and "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert (program.status_code, program.json()["error"]["code"]) == (503, "unavailable")
    assert reader.status_code == 200, "who reads waits for nobody"
    assert "Traceback" not in caplog.text


@pytest.mark.django_db
def test_a_mistake_of_ours_is_no_outage(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> None:
        raise ProgrammingError("no such column")

    client.raise_request_exception = False
    client.force_login(get_user_model().objects.create_user("Ada"))
    monkeypatch.setattr("app.chat.views.rooms", wrong)
    assert client.get("/").status_code == 500
