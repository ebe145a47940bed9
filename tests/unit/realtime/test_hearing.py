"""The rules of hearing, tried with everything that they can be given."""

from collections.abc import Iterator
from itertools import product

import pytest

from app.realtime.hearing import (
    FORGET_SECONDS,
    HEARD_SECONDS,
    WITNESS_SECONDS,
    Beacon,
    Hearing,
    Note,
    View,
    is_deaf,
    missed,
    why_unwell,
)

NODES = ("a", "b", "c")
LONG = HEARD_SECONDS + 0.1
AGES = {"now": 0.0, "just within": HEARD_SECONDS, "long ago": LONG, "never": None}
NOW = 1000.0


def a_view(
    own: float | None, peer: float | None, buses: frozenset[str], failed: float | None, known: float
) -> View:
    """Of node a, which has known of itself and of b for `known` seconds; ages in seconds."""
    heard = {node: NOW - age for node, age in (("a", own), ("b", peer)) if age is not None}
    return View(
        NOW,
        "a",
        {"a": NOW - known, "b": NOW - known},
        heard,
        buses,
        None if failed is None else NOW - failed,
    )


@pytest.mark.parametrize("buses", [frozenset[str](), frozenset({"x"}), frozenset({"x", "y"})])
@pytest.mark.parametrize("known", [0.0, HEARD_SECONDS, LONG])
def test_a_node_is_well_that_heard_itself_and_all_others_on_one_bus_without_a_failed_publish(
    buses: frozenset[str], known: float
) -> None:
    recent = {0.0, HEARD_SECONDS}
    for own, peer, failed in product(AGES.values(), repeat=3):
        hears_itself = own in recent or known <= HEARD_SECONDS
        hears_peer = peer in recent or known <= HEARD_SECONDS
        well = hears_itself and hears_peer and len(buses) < 2 and failed not in recent
        view = a_view(own, peer, buses, failed, known)
        assert (why_unwell(view) == "") == well, view
        assert missed(view) == {node for node, hears in (("a", hears_itself), ("b", hears_peer)) if not hears}


@pytest.mark.parametrize(
    ("own", "peer", "buses", "failed", "why"),
    [
        (None, None, {"x", "y"}, 0.0, "does not hear itself"),
        (0.0, None, {"x", "y"}, 0.0, "does not hear 1 of 2 nodes"),
        (0.0, 0.0, {"x", "y"}, 0.0, "the nodes are on 2 different buses"),
        (0.0, 0.0, {"x"}, 0.0, "a publish failed"),
    ],
)
def test_a_node_says_the_worst_that_it_knows(
    own: float | None, peer: float | None, buses: set[str], failed: float, why: str
) -> None:
    assert why_unwell(a_view(own, peer, frozenset(buses), failed, LONG)) == why


def every_situation() -> Iterator[dict[str, frozenset[str]]]:
    """Whom each of three nodes misses: all 512 possibilities."""
    subsets = [
        frozenset(node for node, picked in zip(NODES, bits, strict=True) if picked)
        for bits in product((False, True), repeat=3)
    ]
    for misses in product(subsets, repeat=3):
        yield dict(zip(NODES, misses, strict=True))


def deaf_ones(misses: dict[str, frozenset[str]]) -> set[str]:
    notes = [Note(node, missing) for node, missing in misses.items()]
    return {node for node in misses if is_deaf(node, notes)}


def test_never_are_all_deaf_and_who_misses_nobody_is_not() -> None:
    for misses in every_situation():
        deaf = deaf_ones(misses)
        assert deaf < set(NODES)
        assert not any(node in deaf for node in NODES if not misses[node]), misses


def test_nobody_is_deaf_where_nobody_hears_itself() -> None:
    """Redis is gone for all, whatever else they still believe."""
    for misses in every_situation():
        if all(node in misses[node] for node in NODES):
            assert deaf_ones(misses) == set()


def test_who_does_not_hear_itself_is_deaf_as_soon_as_somebody_else_does() -> None:
    for misses in every_situation():
        for node in NODES:
            others_hear = any(other not in misses[other] for other in NODES if other != node)
            if node in misses[node]:
                assert (node in deaf_ones(misses)) == others_hear, misses


def test_that_others_hear_less_never_makes_a_node_deaf() -> None:
    for misses in every_situation():
        deaf = deaf_ones(misses)
        for node, other, also_missed in product(NODES, repeat=3):
            if node != other and node not in deaf:
                worse = misses | {other: misses[other] | {also_missed}}
                assert node not in deaf_ones(worse), (misses, worse)


def test_of_two_halves_that_hear_only_themselves_neither_is_deaf_but_the_smaller_part_is() -> None:
    def deaf(*parts: str) -> set[str]:
        everybody = set("".join(parts))
        return deaf_ones({node: frozenset(everybody - set(part)) for part in parts for node in part})

    assert deaf("ab", "cd") == set()
    assert deaf("a", "b") == set()
    assert deaf("abc", "de") == {"d", "e"}
    assert deaf("a", "b", "cd") == {"a", "b"}


def test_who_is_unknown_to_the_witness_is_not_deaf_and_who_is_gone_is_missed_by_nobody() -> None:
    assert not is_deaf("a", [])
    assert not is_deaf("a", [Note("b", frozenset())])
    assert not is_deaf("a", [Note("a", frozenset({"gone"})), Note("b", frozenset())])


def beacon(node: str, bus: str = "x", leaving: bool = False) -> Beacon:
    return Beacon(incarnation=node, name=node, bus=bus, leaving=leaving)


def misses_at(hearing: Hearing, now: float) -> frozenset[str]:
    return missed(hearing.view(now, "x"))


def test_a_node_has_to_be_heard_from_when_it_became_known() -> None:
    hearing = Hearing("a", 0.0)
    hearing.heard(beacon("a"), 10.0)
    hearing.noted(["a", "b"], 10.0)
    assert misses_at(hearing, 10.0) == set()
    assert misses_at(hearing, 10.0 + HEARD_SECONDS) == set()
    assert misses_at(hearing, 10.0 + LONG) == {"a", "b"}


def test_the_witness_says_who_is_dead_and_without_it_only_time_does() -> None:
    hearing = Hearing("a", 0.0)
    hearing.heard(beacon("b"), 0.0)
    assert "b" in misses_at(hearing, LONG)
    hearing.noted(["a"], LONG)
    assert set(hearing.view(LONG, "x").live) == {"a"}

    hearing = Hearing("a", 0.0)
    hearing.heard(beacon("b"), 0.0)
    assert "b" in misses_at(hearing, FORGET_SECONDS)
    assert set(hearing.view(FORGET_SECONDS + 0.1, "x").live) == {"a"}
    assert hearing.beacons == {}


def test_who_speaks_lives_though_the_witness_does_not_know_it() -> None:
    hearing = Hearing("a", 0.0)
    hearing.noted(["a"], 10.0)
    hearing.heard(beacon("b"), 10.0)
    assert set(hearing.view(10.0, "x").live) == {"a", "b"}


def test_an_old_word_of_the_witness_counts_for_nothing() -> None:
    hearing = Hearing("a", 0.0)
    hearing.noted(["a", "b"], 0.0)
    assert "b" in hearing.view(WITNESS_SECONDS, "x").live
    assert "b" not in hearing.view(WITNESS_SECONDS + 0.1, "x").live


def test_who_said_good_bye_is_missed_by_nobody_though_the_witness_still_has_it() -> None:
    hearing = Hearing("a", 0.0)
    hearing.heard(beacon("b"), 0.0)
    hearing.heard(beacon("b", leaving=True), 1.0)
    hearing.noted(["a", "b"], 1.0)
    assert set(hearing.view(1.0, "x").live) == {"a"}


def test_who_could_not_listen_misses_nobody_for_it() -> None:
    hearing = Hearing("a", 0.0)
    hearing.noted(["a", "b"], 100.0)
    hearing.view(100.0, "x")
    hearing.excuse(104.0)
    assert misses_at(hearing, 104.0) == set()
    assert misses_at(hearing, 104.0 + LONG) >= {"a"}


def test_another_bus_is_seen_in_the_beacons_of_who_lives() -> None:
    hearing = Hearing("a", 0.0)
    hearing.heard(beacon("a", bus="of before"), 0.0)
    hearing.heard(beacon("b", bus=""), 0.0)
    assert hearing.view(0.0, "x").buses == {"x"}
    hearing.heard(beacon("b", bus="y"), 1.0)
    assert hearing.view(1.0, "x").buses == {"x", "y"}
    assert hearing.view(1.0, "").buses == {"y"}
