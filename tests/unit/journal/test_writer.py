"""What every database must make true for a writer, with a feature of the tests' own."""

import asyncio
import random
from dataclasses import replace
from datetime import timedelta
from itertools import chain
from uuid import uuid4

import pytest

from app.journal.entry import Entry, EventKind, Refused, Stored
from app.journal.keys import new_key
from app.journal.writer import Writer
from tests.unit.journal.conftest import BOUNDS, Ask, Committed
from tests.unit.journal.notes import PLAIN, banned, erased, note

Outcome = Stored | BaseException


async def outcomes(writer: Writer, *entries: Entry) -> list[Outcome]:
    """Of entries appended at once, in their order."""
    return await asyncio.gather(*(writer.append(entry) for entry in entries), return_exceptions=True)


async def stored(writer: Writer, *entries: Entry) -> list[Stored]:
    return list(await asyncio.gather(*(writer.append(entry) for entry in entries)))


def code(outcome: Outcome) -> str:
    return outcome.code if isinstance(outcome, Refused) else f"not refused: {outcome!r}"


async def test_entries_get_the_next_positions_of_their_streams(
    writer: Writer, committed: Committed, ask: Ask
) -> None:
    entries = [note("notes.a"), note("notes.b"), note("notes.a")]
    answers = await stored(writer, *entries)
    assert [answer.position.sequence for answer in answers] == [1, 1, 2]
    assert [answer.at for answer in answers] == [entry.at for entry in entries]
    assert not any(answer.repeated for answer in answers)
    assert [(stream, event.sequence, event.payload) for stream, event in committed] == [
        ("notes.a", 1, entries[0].payload),
        ("notes.b", 1, entries[1].payload),
        ("notes.a", 2, entries[2].payload),
    ]
    epochs = dict(await asyncio.to_thread(ask, "SELECT stream, epoch FROM journal_position"))
    for entry, answer, (_, event) in zip(entries, answers, committed, strict=True):
        assert answer.position.epoch == event.epoch == epochs[entry.stream]


async def test_what_is_stored_is_what_was_appended(writer: Writer, ask: Ask) -> None:
    entry = note(text='"\\ ☃ \n {}')
    entry.removes = "u7"
    await stored(writer, entry)
    assert await asyncio.to_thread(
        ask, "SELECT sequence, sender, kind, subject, removes, payload FROM journal_event"
    ) == [(1, "u1", "notes.written", None, "u7", entry.payload.decode())]


async def test_the_feature_writes_its_own_row_in_the_same_transaction(writer: Writer, ask: Ask) -> None:
    await stored(writer, note(text="one"), note(text="two", sender="u2"), note("notes.b", "three"))
    rows = await asyncio.to_thread(
        ask,
        "SELECT n.stream, n.sequence, n.sender, n.text FROM notes_note n JOIN journal_event e"
        " ON e.key = n.id AND e.sequence = n.sequence AND e.at = n.at ORDER BY 1, 2",
    )
    assert rows == [("notes.a", 1, "u1", "one"), ("notes.a", 2, "u2", "two"), ("notes.b", 1, "u1", "three")]


# --- Keys --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("together", [True, False])
async def test_an_entry_sent_again_is_stored_once_and_answered_with_its_first_place(
    writer: Writer, committed: Committed, ask: Ask, together: bool
) -> None:
    first = note()
    again = replace(first, at=first.at + timedelta(seconds=3))
    if together:
        answers = await stored(writer, first, note(), again, note())
    else:
        answers = await stored(writer, first, note()) + await stored(writer, again, note())
    assert [answer.position.sequence for answer in answers] == [1, 2, 1, 3]
    assert [answer.repeated for answer in answers] == [False, False, True, False]
    assert (answers[2].position, answers[2].at) == (answers[0].position, first.at)
    assert committed.sequences("notes.a") == [1, 2, 3]
    assert await asyncio.to_thread(ask, "SELECT count(*) FROM notes_note") == [(3,)]


@pytest.mark.parametrize(("stream", "sender"), [("notes.a", "u2"), ("notes.b", "u1")])
@pytest.mark.parametrize("together", [True, False])
async def test_a_key_belongs_to_its_sender_and_stream(
    writer: Writer, ask: Ask, stream: str, sender: str, together: bool
) -> None:
    first = note("notes.a", sender="u1")
    other = note(stream, sender=sender, key=first.key)
    if together:
        _, refused = await outcomes(writer, first, other)
    else:
        await stored(writer, first)
        [refused] = await outcomes(writer, other)
    assert code(refused) == "invalid_data"
    assert await asyncio.to_thread(ask, "SELECT count(*) FROM journal_event") == [(1,)]


async def test_a_key_stands_for_one_command_and_not_for_another_one_of_its_sender(writer: Writer) -> None:
    first, second = note(), note()
    erasing = erased(first)
    await stored(writer, first, second, erasing)
    others = [
        note(key=first.key, kind=PLAIN),
        erased(second, key=erasing.key),
        note(key=first.key, subject=second.key),
    ]
    for other in others:
        [refused] = await outcomes(writer, other)
        assert code(refused) == "invalid_data"
    assert [answer.repeated for answer in await stored(writer, first, erasing)] == [True, True]


async def test_a_key_stands_for_what_was_said_with_it(writer: Writer, ask: Ask) -> None:
    first = note(text="ding")
    await stored(writer, first)
    answers = await outcomes(
        writer, note(text="dong", key=first.key), note(), note(text="ding", key=first.key)
    )
    assert code(answers[0]) == "invalid_data"
    assert isinstance(answers[2], Stored) and answers[2].repeated
    assert await asyncio.to_thread(ask, "SELECT count(*) FROM journal_event") == [(2,)]


async def test_what_a_feature_does_not_call_content_may_differ_from_one_try_to_the_next(
    writer: Writer,
) -> None:
    first = note(text="ding", kind=PLAIN)
    await stored(writer, first)
    [again] = await stored(writer, note(text="dong", kind=PLAIN, key=first.key))
    assert again.repeated


@pytest.mark.parametrize("stream", ["notes.a", "notes.b"])
async def test_who_may_not_write_learns_nothing_by_a_key_that_stands_for_something_else(
    writer: Writer, stream: str
) -> None:
    first = note(stream, sender="u2")
    await stored(writer, first, banned("u2"))
    answers = await outcomes(
        writer,
        note(sender="u2", text="dong", key=first.key),
        note(sender="u2"),
        note("notes.nowhere", sender="u2", key=first.key),
        note(sender="u3", text="dong", key=first.key),
        first,
    )
    assert [code(answer) for answer in answers[:4]] == [
        "not_allowed",
        "not_allowed",
        "not_found",
        "invalid_data",
    ]
    assert str(answers[0]) == str(answers[1])
    assert isinstance(answers[4], Stored) and answers[4].repeated


def key_of_age(seconds: float, now: float) -> Entry:
    return note(key=new_key(int((now - seconds) * 1000)))


async def test_keys_are_taken_for_a_day_and_from_clocks_that_are_minutes_ahead(streams: None) -> None:
    now = 1_800_000_000.0
    writer = Writer(lambda _: None, bounds=BOUNDS, now=lambda: now)
    writer.start()
    hours = 3600
    await stored(writer, key_of_age(24 * hours - 1, now), key_of_age(-299, now))
    for entry in (key_of_age(24 * hours + 1, now), key_of_age(-301, now), note(key=uuid4())):
        with pytest.raises(Refused) as refused:
            writer.append(entry)
        assert refused.value.code == "invalid_data"
    await writer.stop()


# --- Refusals ----------------------------------------------------------------------------------------------


async def test_nothing_is_stored_for_a_stream_that_is_not_there(writer: Writer) -> None:
    answers = await outcomes(writer, note(), note("notes.nowhere"), note())
    assert code(answers[1]) == "not_found"
    assert [answer.position.sequence for answer in answers if isinstance(answer, Stored)] == [1, 2]


async def test_a_kind_that_no_feature_registered_is_a_mistake(writer: Writer) -> None:
    with pytest.raises(TypeError, match=r"notes\.unheard_of"):
        writer.append(note(kind=EventKind("notes.unheard_of")))


async def test_what_a_feature_refuses_leaves_no_hole(writer: Writer, committed: Committed, ask: Ask) -> None:
    await stored(writer, banned("u2"))
    answers = await outcomes(writer, note(), note(sender="u2"), note(), note("notes.b", sender="u2"))
    assert code(answers[1]) == "not_allowed"
    assert committed.sequences("notes.a") == [1, 2, 3]
    assert committed.sequences("notes.b") == [1]
    assert await asyncio.to_thread(ask, "SELECT count(*) FROM notes_note") == [(3,)]


async def test_nothing_of_a_person_is_stored_behind_the_event_that_bans_them(
    writer: Writer, committed: Committed
) -> None:
    burst = [note(sender="u2"), banned("u2"), note(sender="u2"), note()]
    answers = await outcomes(writer, *burst)
    assert [isinstance(answer, Stored) for answer in answers] == [True, True, False, True]
    assert code(answers[2]) == "not_allowed"
    assert [event.payload for _, event in committed] == [burst[n].payload for n in (0, 1, 3)]


async def test_an_event_that_stands_alone_sees_what_came_before_it_in_the_same_burst(
    writer: Writer, ask: Ask
) -> None:
    first, second = note(text="secret"), note(text="fine")
    answers = await outcomes(writer, first, second, erased(first), note("notes.b"), erased(note()))
    assert [isinstance(answer, Stored) for answer in answers] == [True, True, True, True, False]
    assert code(answers[4]) == "not_found"
    rows = await asyncio.to_thread(
        ask, "SELECT text FROM notes_note WHERE stream = 'notes.a' ORDER BY sequence"
    )
    assert rows == [("",), ("fine",)]


async def test_an_erased_text_is_nowhere_in_the_journal(writer: Writer, ask: Ask) -> None:
    secret, other = note(text="secret"), note(text="other")
    about = note(kind=PLAIN, text="secret, quoted", subject=secret.key)
    foreign = note("notes.b", kind=PLAIN, text="of another stream", subject=secret.key)
    await stored(writer, secret, other, about, foreign, erased(secret))
    rows = await asyncio.to_thread(ask, "SELECT payload FROM journal_event ORDER BY position_id, sequence")
    texts = [payload.partition('"text":')[2].rstrip("}") for [payload] in rows]
    assert texts == ["", '"other"', "", '""', '"of another stream"']
    assert rows[0] == rows[2] == ("",)


# --- One bad row -------------------------------------------------------------------------------------------


async def test_an_entry_that_the_database_does_not_take_harms_only_itself(
    writer: Writer, committed: Committed, caplog: pytest.LogCaptureFixture
) -> None:
    entries = [note(text=str(number)) for number in range(20)]
    for number in (3, 11):
        entries[number] = note(text="too long for the column" * 3)
    answers = await outcomes(writer, *entries)
    bad = [number for number, answer in enumerate(answers) if code(answer) == "internal_error"]
    assert bad == [3, 11]
    assert [event.payload for _, event in committed] == [
        entry.payload for number, entry in enumerate(entries) if number not in bad
    ]
    assert committed.sequences("notes.a") == list(range(1, 19))
    assert caplog.text.count("cannot be stored") == 2
    assert "too long for the column" not in caplog.text


async def test_a_text_with_a_nul_harms_only_itself(writer: Writer) -> None:
    answers = await outcomes(writer, note(), note(text="\0"), note())
    assert isinstance(answers[0], Stored) and isinstance(answers[2], Stored)


# --- Several writers ---------------------------------------------------------------------------------------


async def test_four_writers_on_the_same_streams_leave_no_hole_and_never_wait_for_each_other_in_a_circle(
    streams: None, ask: Ask, caplog: pytest.LogCaptureFixture
) -> None:
    committed = [Committed() for _ in range(4)]
    writers = [Writer(handed_on.extend, bounds=BOUNDS._replace(batch=20)) for handed_on in committed]
    order = random.Random(5)
    for writer in writers:
        writer.start()
    answers = await asyncio.gather(
        *(writer.append(note(order.choice(["notes.a", "notes.b"]))) for writer in writers for _ in range(250))
    )
    for writer in writers:
        await writer.stop()
    assert not any(answer.repeated for answer in answers)
    for stream in ("notes.a", "notes.b"):
        sequences = [handed_on.sequences(stream) for handed_on in committed]
        for own in sequences:
            assert own == sorted(own)
        together = sorted(chain(*sequences))
        assert together == list(range(1, len(together) + 1))
        assert await asyncio.to_thread(
            ask, f"SELECT last_sequence FROM journal_position WHERE stream = '{stream}'"
        ) == [(len(together),)]
    assert sum(len(handed_on) for handed_on in committed) == 1000
    for trouble in ("deadlock", "could not serialize", "database is locked"):
        assert trouble not in caplog.text
