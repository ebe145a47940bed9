"""What nodes note in the database, and the turn that one at a time may take."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from django.db import connection
from django.db.models import F
from django.db.models.functions import Now
from django.test.utils import CaptureQueriesContext

from app.realtime.hearing import WITNESS_SECONDS, Beacon, is_deaf
from app.serving import witness
from app.serving.models import NodeNote, Turn

pytestmark = pytest.mark.django_db(transaction=True)


def beacon(node: str, *misses: str) -> Beacon:
    return Beacon(incarnation=node, name=f"node-{node}", version="1", bus="x", misses=misses)


def age(node: str, seconds: float) -> None:
    NodeNote.objects.filter(pk=node).update(noted_at=Now() - timedelta(seconds=seconds))


def test_each_reads_whom_all_live_ones_hear() -> None:
    witness.note(beacon("a", "a", "b"), "deaf", live=3)
    witness.note(beacon("c"), "hearing", live=3)
    noted = {one.note.incarnation: one for one in witness.note(beacon("b", "a"), "hearing", live=3)}
    assert {node: one.note.misses for node, one in noted.items()} == {"a": {"a", "b"}, "b": {"a"}, "c": set()}
    assert (noted["a"].name, noted["a"].version, noted["a"].bus, noted["a"].state) == (
        "node-a",
        "1",
        "x",
        "deaf",
    )
    assert is_deaf("a", [one.note for one in noted.values()])


def test_who_hears_nobody_is_read_so_by_all_and_costs_one_character() -> None:
    witness.note(beacon("b"), "hearing", live=2)
    noted = witness.note(beacon("a", "a", "b"), "deaf", live=2)
    assert next(one for one in noted if one.note.incarnation == "a").note.misses == {"a", "b"}
    assert NodeNote.objects.get(pk="a").misses == "*"


def test_a_note_is_one_statement_and_one_more_reads_all() -> None:
    witness.note(beacon("a"), "hearing", live=1)
    with CaptureQueriesContext(connection) as queries:
        witness.note(beacon("a"), "hearing", live=1)
    assert [query["sql"].split()[0] for query in queries] == ["UPDATE", "SELECT"]


def test_old_notes_say_nothing_and_are_deleted() -> None:
    witness.note(beacon("a"), "hearing", live=1)
    age("a", WITNESS_SECONDS + 1)
    assert [one.name for one in witness.note(beacon("b"), "hearing", live=1)] == ["node-b"]
    witness.forget_old()
    assert NodeNote.objects.count() == 2
    age("a", 61)
    witness.forget_old()
    assert list(NodeNote.objects.values_list("pk", flat=True)) == ["b"]


def test_one_node_at_a_time_has_the_turn() -> None:
    assert witness.take_turn("a")
    assert not witness.take_turn("b")
    assert witness.take_turn("a"), "again, for longer"
    witness.give_turn_back("b")
    assert not witness.take_turn("b"), "it was not b's to give back"
    witness.give_turn_back("a")
    assert witness.take_turn("b")


def test_the_turn_of_who_died_is_free_after_a_while() -> None:
    assert witness.take_turn("a")
    Turn.objects.update(until=F("until") - 2 * witness.TURN)
    assert witness.take_turn("b")
    assert not witness.take_turn("a")


def test_who_leaves_is_forgotten_and_its_turn_is_free() -> None:
    witness.note(beacon("a"), "hearing", live=1)
    assert witness.take_turn("a")
    witness.forget("a")
    assert not NodeNote.objects.exists()
    assert witness.take_turn("b")


def test_of_many_that_ask_at_once_one_gets_the_turn() -> None:
    def ask(node: str) -> bool:
        try:
            return witness.take_turn(node)
        finally:
            connection.close()

    for _ in range(5):
        Turn.objects.all().delete()
        with ThreadPoolExecutor(8) as threads:
            assert sum(threads.map(ask, "abcdefgh")) == 1
