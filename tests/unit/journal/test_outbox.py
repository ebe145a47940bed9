"""Events of foreign code: in the journal when its transaction has committed, and then once and in order."""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import uuid4

import pytest
from django.db import connection, transaction
from pytest_django import Settings

from app.journal import kinds
from app.journal.databases import own_backend
from app.journal.entry import EventKind, Refused
from app.journal.keys import KEY_HOURS, new_key
from app.journal.kinds import register
from app.journal.models import OutboxEntry
from app.journal.outbox import LATER_RELEASE_SECONDS
from app.journal.services import publish_on_commit, try_again
from app.journal.writer import Writer
from app.realtime.event import Delivery, Event
from tests.unit.journal.conftest import BOUNDS, Ask, Committed
from tests.unit.journal.notes import PLAIN, WRITTEN, banned, note

PATIENCE = 20


class Noticed(Event):
    name: ClassVar[str] = PLAIN.name
    delivery: ClassVar[Delivery] = Delivery.DURABLE

    text: str


class Written(Event):
    name: ClassVar[str] = WRITTEN.name
    delivery: ClassVar[Delivery] = Delivery.DURABLE

    text: str


class WrittenAgain(Event):
    """The same note, with something beside its content."""

    name: ClassVar[str] = WRITTEN.name
    delivery: ClassVar[Delivery] = Delivery.DURABLE

    text: str
    tries: int


class Sealed(Event):
    name: ClassVar[str] = register(EventKind("notes.sealed", alone=True)).name
    delivery: ClassVar[Delivery] = Delivery.DURABLE


class UnheardOf(Event):
    name: ClassVar[str] = "notes.unheard_of"
    delivery: ClassVar[Delivery] = Delivery.DURABLE


async def in_thread(work: Callable[[], Any]) -> Any:
    """As a request of Django's does it, in a thread with a connection of its own."""

    def run() -> Any:
        try:
            return work()
        finally:
            connection.close()

    return await asyncio.to_thread(run)


async def until_committed(committed: Committed, count: int) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if len(committed) >= count:
                return
            await asyncio.sleep(0.01)


async def until_empty(ask: Ask) -> None:
    async with asyncio.timeout(PATIENCE):
        while True:
            if not await asyncio.to_thread(ask, "SELECT 1 FROM journal_outbox WHERE failure = ''"):
                return
            await asyncio.sleep(0.01)


def texts(committed: Committed, stream: str = "notes.a") -> list[str]:
    payloads = [event.payload.decode() for name, event in committed if name == stream]
    return [payload.partition('"text":"')[2].rstrip('"}') for payload in payloads]


async def test_what_a_transaction_publishes_is_in_its_streams_after_the_commit_in_its_order(
    writer: Writer, committed: Committed, ask: Ask
) -> None:
    @transaction.atomic
    def work() -> None:
        for number in range(5):
            publish_on_commit("notes.a", Noticed(str(number)))
        publish_on_commit("notes.b", Written("ding"), sender="u9")

    await in_thread(work)
    await until_committed(committed, 6)
    assert texts(committed) == ["0", "1", "2", "3", "4"]
    assert committed.sequences("notes.a") == [1, 2, 3, 4, 5]
    await until_empty(ask)
    rows = await asyncio.to_thread(ask, "SELECT stream, sequence, sender, text FROM notes_note")
    assert rows == [("notes.b", 1, "u9", "ding")]
    times = "SELECT count(*) FROM journal_event WHERE at IS NOT NULL AND sender <> ''"
    assert await asyncio.to_thread(ask, times) == [(6,)]


async def test_a_transaction_that_is_rolled_back_publishes_nothing(
    writer: Writer, committed: Committed, ask: Ask
) -> None:
    def work() -> None:
        with transaction.atomic():
            publish_on_commit("notes.a", Noticed("never"))
            transaction.set_rollback(True)
        with transaction.atomic():
            publish_on_commit("notes.a", Noticed("after all"))

    await in_thread(work)
    await until_committed(committed, 1)
    assert texts(committed) == ["after all"]
    assert await asyncio.to_thread(ask, "SELECT count(*) FROM journal_event") == [(1,)]


async def test_a_kind_that_no_feature_registered_fails_in_the_transaction(streams: None) -> None:
    def work() -> None:
        with pytest.raises(TypeError), transaction.atomic():
            publish_on_commit("notes.a", UnheardOf())

    await in_thread(work)


async def test_what_a_later_release_published_waits_for_its_nodes_and_holds_up_its_stream_alone(
    writer: Writer,
    committed: Committed,
    ask: Ask,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As in the middle of a roll that got stuck for two hours, or after one back."""
    later = EventKind(UnheardOf.name)
    two_hours_ago = datetime.now(UTC) - timedelta(hours=2)

    @transaction.atomic
    def publish() -> None:
        publish_on_commit("notes.a", Noticed("before"))
        with pytest.MonkeyPatch.context() as next_release:
            next_release.setitem(kinds._kinds, later.name, later)
            next_release.setattr("django.utils.timezone.now", lambda: two_hours_ago)
            publish_on_commit("notes.a", UnheardOf())
        publish_on_commit("notes.a", Noticed("behind"))
        publish_on_commit("notes.b", Noticed("elsewhere"))

    await in_thread(publish)
    await until_committed(committed, 2)
    assert (texts(committed), texts(committed, "notes.b")) == (["before"], ["elsewhere"])
    await in_thread(lambda: publish_on_commit("notes.b", Noticed("and again")))
    await until_committed(committed, 3)
    assert await asyncio.to_thread(ask, "SELECT kind, failure FROM journal_outbox ORDER BY id") == [
        (UnheardOf.name, ""),
        (PLAIN.name, ""),
    ]
    assert caplog.text.count("wait for a node of a later release") == 1
    monkeypatch.setitem(kinds._kinds, later.name, later)  # a node of the later release has come
    await until_committed(committed, 5)
    assert texts(committed) == ["before", "", "behind"]


async def test_what_no_release_knows_is_given_up_when_a_roll_must_be_over(
    writer: Writer, committed: Committed, ask: Ask
) -> None:
    long_ago = datetime.now(UTC) - timedelta(seconds=LATER_RELEASE_SECONDS + 1)

    @transaction.atomic
    def publish() -> None:
        with pytest.MonkeyPatch.context() as another_release:
            another_release.setitem(kinds._kinds, UnheardOf.name, EventKind(UnheardOf.name))
            another_release.setattr("django.utils.timezone.now", lambda: long_ago)
            publish_on_commit("notes.a", UnheardOf())
        publish_on_commit("notes.a", Noticed("behind"))

    await in_thread(publish)
    await until_committed(committed, 1)
    assert texts(committed) == ["behind"]
    await until_empty(ask)
    [(failure,)] = await asyncio.to_thread(ask, "SELECT failure FROM journal_outbox")
    assert failure == "no feature registered the kind 'notes.unheard_of'"


async def test_nobody_has_to_be_nudged(
    writer: Writer, committed: Committed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.journal.nudges.nudge", lambda: None)  # it was another process' transaction
    await in_thread(lambda: publish_on_commit("notes.a", Noticed("ding")))
    await until_committed(committed, 1)


async def test_what_was_there_before_the_writer_is_moved_when_it_starts(
    streams: None, committed: Committed
) -> None:
    await in_thread(lambda: publish_on_commit("notes.a", Noticed("ding")))
    writer = Writer(committed.extend, bounds=BOUNDS)
    writer.start()
    await until_committed(committed, 1)
    await writer.stop()


async def test_two_writers_move_each_event_once_and_in_order(streams: None, ask: Ask) -> None:
    def work() -> None:
        with transaction.atomic():
            for number in range(450):
                publish_on_commit("notes.a", Noticed(str(number)))
                if number % 150 == 75:
                    publish_on_commit("notes.a", Sealed())

    await in_thread(work)
    committed = [Committed(), Committed()]
    writers = [Writer(handed_on.extend, bounds=BOUNDS) for handed_on in committed]
    for writer in writers:
        writer.start()
    await until_empty(ask)
    for writer in writers:
        await writer.stop()
    events = sorted((event.sequence, event.payload) for both in committed for _, event in both)
    assert [sequence for sequence, _ in events] == list(range(1, 454))
    plain = Committed(("notes.a", event) for both in committed for _, event in both)
    plain.sort(key=lambda pair: pair[1].sequence)
    assert [text for text in texts(plain) if text.isdecimal()] == [str(number) for number in range(450)]


async def test_a_row_whose_event_is_stored_already_only_goes(
    writer: Writer, committed: Committed, ask: Ask
) -> None:
    """As when a node was killed, or two nodes read the same rows."""
    key = new_key()
    await in_thread(lambda: publish_on_commit("notes.a", Noticed("ding"), key=key))
    await until_committed(committed, 1)
    await in_thread(lambda: publish_on_commit("notes.a", Noticed("ding"), key=key))
    await until_empty(ask)
    assert len(committed) == 1


async def test_a_row_with_the_key_of_another_text_is_kept_and_one_of_the_same_text_goes(
    writer: Writer, committed: Committed, ask: Ask
) -> None:
    key = new_key()
    await in_thread(lambda: publish_on_commit("notes.a", Written("ding"), key=key))
    await until_committed(committed, 1)

    def work() -> None:
        publish_on_commit("notes.a", Written("dong"), key=key)
        publish_on_commit("notes.a", WrittenAgain("ding", tries=2), key=key)

    await in_thread(work)
    await until_empty(ask)
    failures = await asyncio.to_thread(ask, "SELECT failure FROM journal_outbox")
    assert failures == [("this key belongs to another entry",)]
    assert len(committed) == 1


async def test_what_gets_into_no_stream_is_kept_with_its_reason_and_holds_nothing_up(
    writer: Writer, committed: Committed, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    await writer.append(banned("u2"))

    @transaction.atomic
    def work() -> None:
        publish_on_commit("notes.nowhere", Noticed("a"))
        publish_on_commit("notes.a", Written("b"), sender="u2")
        publish_on_commit("notes.a", Written("too long for the column" * 3))
        publish_on_commit("notes.a", Written("fine"))

    await in_thread(work)
    await until_committed(committed, 2)
    await until_empty(ask)
    failures = await asyncio.to_thread(ask, "SELECT failure FROM journal_outbox ORDER BY id")
    assert [(failure.partition(":")[0],) for (failure,) in failures] == [
        ("there is no such stream",),
        ("you may not write here",),
        ("this cannot be stored",),
    ]
    assert caplog.text.count("gets into no stream") == 3
    assert caplog.text.count("cannot be stored") == 1
    assert texts(committed)[1:] == ["fine"]


async def test_what_was_refused_is_told_by_one_node(
    streams: None, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    await in_thread(lambda: publish_on_commit("notes.nowhere", Noticed("a")))
    backends = [own_backend() for _ in range(3)]
    [(row, _)] = await backends[0].outbox(10)
    assert [await backend.give_up(row, "why") for backend in backends] == [True, False, False]
    assert await asyncio.to_thread(ask, "SELECT failure FROM journal_outbox") == [("why",)]
    assert await backends[0].give_up(row + 1, "gone meanwhile") is False
    for backend in backends:
        await backend.close()


@pytest.mark.parametrize(
    ("stream", "text", "why"),
    [
        (
            "notes.a",
            "x" * 10_000,
            "an event has 9744 bytes at most .half of UNSENT_LIMIT_BYTES., this one has 10",
        ),
        ("notes.a", "a\0b", "no text of an event has a NUL character"),
        ("notes.a", "a\\\0b", "no text of an event has a NUL character"),
        ("notes.a", "a\ud800b", "no text of an event has half of a surrogate pair"),
    ],
)
async def test_what_could_never_be_stored_or_sent_fails_in_the_transaction(
    settings: Settings, ask: Ask, stream: str, text: str, why: str
) -> None:
    settings.UNSENT_LIMIT_BYTES = 20_000

    def work() -> None:
        with pytest.raises(Refused, match=why), transaction.atomic():
            publish_on_commit(stream, Noticed(text))
        publish_on_commit("notes.a", Noticed("x" * 9_000))
        publish_on_commit("notes.a", Noticed("\\u0000, as it is written"))

    await in_thread(work)
    assert await asyncio.to_thread(ask, "SELECT count(*) FROM journal_outbox") == [(2,)]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(
            (field, value)
            for field in ("stream", "sender", "removes")
            for value in ("a" * 129, "\0", "\udfff")
        ),
        ("stream", ""),
        ("sender", ""),
    ],
    ids=ascii,
)
async def test_a_name_that_no_stream_takes_fails_before_it_harms_the_transaction(
    ask: Ask, field: str, value: str
) -> None:
    names: dict[str, Any] = {"stream": "notes.a"} | {field: value}

    @transaction.atomic
    def work() -> None:
        with pytest.raises(Refused, match=f"^{field} "):
            publish_on_commit(event=Noticed("x"), **names)
        publish_on_commit("notes.a", Noticed("fine"))

    await in_thread(work)
    assert await asyncio.to_thread(ask, "SELECT count(*) FROM journal_outbox") == [(1,)]


@pytest.mark.parametrize(
    ("hours", "why"), [(KEY_HOURS + 0.1, "the key is older than 24 hours"), (-1, "in the future")]
)
async def test_a_key_whose_event_may_be_purged_already_fails_in_the_transaction(
    ask: Ask, hours: float, why: str
) -> None:
    keys = [new_key(int((time.time() - age * 3600) * 1000)) for age in (hours, KEY_HOURS - 0.1)]

    def work() -> None:
        with pytest.raises(Refused, match=why), transaction.atomic():
            publish_on_commit("notes.a", Noticed("x"), key=keys[0])
        with pytest.raises(Refused, match="no UUIDv7"), transaction.atomic():
            publish_on_commit("notes.a", Noticed("x"), key=uuid4())
        publish_on_commit("notes.a", Noticed("x"), key=keys[1])

    await in_thread(work)
    assert await asyncio.to_thread(ask, "SELECT count(*) FROM journal_outbox") == [(1,)]


async def test_a_row_that_is_too_large_by_now_is_refused_and_can_be_tried_again(
    writer: Writer, committed: Committed, settings: Settings, ask: Ask
) -> None:
    """As after a change of UNSENT_LIMIT_BYTES."""
    limit, settings.UNSENT_LIMIT_BYTES = settings.UNSENT_LIMIT_BYTES, 1000
    large = note(text="x" * 1000, kind=PLAIN)
    with pytest.raises(Refused, match="bytes at most"):
        writer.append(large)
    row = {"stream": large.stream, "kind": large.kind, "key": large.key, "sender": large.sender}
    row |= {"payload": large.payload.decode(), "created_at": large.at}
    await in_thread(lambda: OutboxEntry.objects.create(**row))
    await until_empty(ask)
    [(failure,)] = await asyncio.to_thread(ask, "SELECT failure FROM journal_outbox")
    assert "bytes at most" in failure
    settings.UNSENT_LIMIT_BYTES = limit
    await in_thread(lambda: try_again(OutboxEntry.objects.all()))
    await until_committed(committed, 1)
