"""Streams open and close, old events go, and a restored backup begins another life."""

import asyncio
from datetime import timedelta
from io import StringIO

import pytest
from django.conf import settings
from django.core.management import call_command
from django.db import IntegrityError, transaction
from django.utils import timezone

from app.journal.consumers import JournalTasks
from app.journal.keys import KEY_HOURS, new_key
from app.journal.models import StoredEvent, StreamPosition
from app.journal.services import (
    EPOCH_LIMIT,
    KEPT_HOURS,
    close_stream,
    open_stream,
    purge,
    purge_old,
    remove_events,
    renew_epochs,
)
from app.journal.writer import Writer
from tests.unit.journal.conftest import Ask
from tests.unit.journal.notes import note
from tests.unit.journal.test_outbox import in_thread


async def store(writer: Writer, stream: str, ages: list[float]) -> None:
    """One event of each age, in hours."""
    now = timezone.now()
    entries = [note(stream) for _ in ages]
    for entry, hours in zip(entries, ages, strict=True):
        entry.at = now - timedelta(hours=hours)
    await asyncio.gather(*map(writer.append, entries))


async def state(ask: Ask, stream: str = "notes.a") -> tuple[int, int, list[int]]:
    """Floor, last sequence, and what is there."""
    [(floor, last)] = await asyncio.to_thread(
        ask, f"SELECT floor, last_sequence FROM journal_position WHERE stream = '{stream}'"
    )
    rows = await asyncio.to_thread(
        ask,
        "SELECT sequence FROM journal_event e JOIN journal_position p ON p.id = e.position_id"
        f" WHERE stream = '{stream}' ORDER BY 1",
    )
    return floor, last, [sequence for [sequence] in rows]


async def test_a_stream_is_opened_once(writer: Writer) -> None:
    await store(writer, "notes.a", [0, 0])
    first = await in_thread(lambda: open_stream("notes.new"))
    again = await in_thread(lambda: open_stream("notes.new"))
    assert first == again
    assert first.sequence == 0 and 0 < first.epoch < EPOCH_LIMIT
    assert (await in_thread(lambda: open_stream("notes.a"))).sequence == 2


async def test_a_stream_that_is_opened_again_has_another_life(writer: Writer, ask: Ask) -> None:
    await store(writer, "notes.a", [0, 0])
    await store(writer, "notes.b", [0])
    before = await in_thread(lambda: open_stream("notes.a"))
    await in_thread(lambda: close_stream("notes.a"))
    after = await in_thread(lambda: open_stream("notes.a"))
    assert after.epoch != before.epoch
    assert await state(ask) == (0, 0, [])
    assert await state(ask, "notes.b") == (0, 1, [1])
    assert (await writer.append(note())).position.sequence == 1


async def test_opening_belongs_to_the_callers_transaction(streams: None) -> None:
    def work() -> None:
        with transaction.atomic():
            open_stream("notes.new")
            transaction.set_rollback(True)
        assert not StreamPosition.objects.filter(stream="notes.new").exists()

    await in_thread(work)


async def test_purging_moves_the_floor_and_spares_what_is_young(writer: Writer, ask: Ask) -> None:
    await store(writer, "notes.a", [60, 50, 40, 1, 30, 0])
    await store(writer, "notes.b", [60])
    assert await in_thread(lambda: purge("notes.a", 2)) == 2
    assert await state(ask) == (2, 6, [3, 4, 5, 6])
    assert await in_thread(lambda: purge("notes.a", 6)) == 1  # behind a young one everything stays
    assert await state(ask) == (3, 6, [4, 5, 6])
    assert await in_thread(lambda: purge("notes.a", 6)) == 0
    assert await in_thread(lambda: purge("notes.nowhere", 6)) == 0
    assert await state(ask, "notes.b") == (0, 1, [1])
    assert (await writer.append(note())).position.sequence == 7


async def test_no_key_that_may_be_sent_again_loses_its_event(writer: Writer, ask: Ask) -> None:
    assert KEPT_HOURS > KEY_HOURS
    await store(writer, "notes.a", [KEPT_HOURS + 0.01, KEPT_HOURS - 0.01])
    assert await in_thread(lambda: purge_old(0)) == 1
    assert await state(ask) == (1, 2, [2])


async def test_old_events_of_all_streams_are_purged(writer: Writer, ask: Ask) -> None:
    await store(writer, "notes.a", [100, 90, 0])
    await store(writer, "notes.b", [100, 70])
    assert await in_thread(lambda: purge_old(80)) == 3
    assert await state(ask) == (2, 3, [3])
    assert await state(ask, "notes.b") == (1, 2, [2])


async def test_the_workers_purge_what_is_older_than_it_is_kept(writer: Writer, ask: Ask) -> None:
    kept = settings.JOURNAL_KEEP_HOURS
    await store(writer, "notes.a", [kept + 1, kept - 1])
    await in_thread(lambda: JournalTasks().purge_old_events({}))
    assert await state(ask) == (1, 2, [2])


async def test_many_events_are_removed_in_several_transactions(
    writer: Writer, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.journal.services.PURGE_ENTRIES", 2)
    await store(writer, "notes.a", [0] * 5)
    moment = timezone.now() + timedelta(minutes=1)
    assert await in_thread(lambda: remove_events("notes.a", 5, moment)) == 5
    assert await state(ask) == (5, 5, [])
    assert (await writer.append(note())).position.sequence == 6


async def test_a_purge_that_fails_leaves_floor_and_events_as_they_were(
    writer: Writer, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    await store(writer, "notes.a", [60, 50])

    def work() -> None:
        def fail(*_: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr("django.db.models.query.QuerySet.delete", fail)
        with pytest.raises(ZeroDivisionError):
            purge("notes.a", 2)

    await in_thread(work)
    monkeypatch.undo()
    assert await state(ask) == (0, 2, [1, 2])


async def test_after_a_restore_every_stream_has_another_life_and_goes_on_behind_its_last_event(
    writer: Writer, ask: Ask
) -> None:
    await store(writer, "notes.a", [0, 0])
    epochs = "SELECT epoch FROM journal_position ORDER BY id"
    before = [epoch for [epoch] in await asyncio.to_thread(ask, epochs)]
    said = StringIO()
    await in_thread(lambda: call_command("renew_epochs", stdout=said))
    assert said.getvalue().startswith(f"{len(before)} streams")
    after = [epoch for [epoch] in await asyncio.to_thread(ask, epochs)]
    assert not set(before) & set(after) and len(set(after)) == len(after)
    assert all(0 < epoch < EPOCH_LIMIT for epoch in after)
    stored = await writer.append(note())
    assert (stored.position.sequence, stored.position.epoch) == (3, after[0])


async def test_epochs_are_renewed_while_writers_write(writer: Writer, streams: None) -> None:
    futures = [writer.append(note(stream)) for _ in range(200) for stream in ("notes.a", "notes.b")]
    assert await in_thread(renew_epochs) >= 2
    answers = await asyncio.gather(*futures)
    assert sorted(answer.position.sequence for answer in answers) == sorted([*range(1, 201)] * 2)


def test_a_stored_event_says_what_it_is() -> None:
    assert str(StoredEvent(kind="notes.written", key="k")) == "notes.written k"


async def test_no_position_that_was_read_before_is_saved_over_a_later_one(streams: None) -> None:
    with pytest.raises(TypeError, match="by the writer only"):
        await in_thread(lambda: StreamPosition.objects.get(stream="notes.a").save())


async def test_nothing_is_stored_without_a_sender(streams: None) -> None:
    def store_one() -> None:
        position = StreamPosition.objects.get(stream="notes.a")
        event = StoredEvent(position=position, sequence=1, key=new_key(), payload="{}", at=timezone.now())
        event.sender = None  # type: ignore[assignment]  # what is refused
        event.save(force_insert=True)

    with pytest.raises(IntegrityError, match="sender"):
        await in_thread(store_one)
