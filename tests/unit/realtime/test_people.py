"""What one person may have and send, by a clock that the test winds."""

import pytest
from pytest_django import Settings

from app.realtime.people import FLOOD_SECONDS, REFUSED_BURSTS, People


@pytest.fixture
def people(settings: Settings) -> People:
    settings.COMMANDS_PER_SECOND, settings.COMMANDS_BURST = 20.0, 40
    settings.COMMANDS_PER_PERSON = 100.0
    return People()


def flood(people: People, person: str, now: float) -> int:
    """How many refusals are borne at once."""
    borne = 0
    while people.refused(person, now):
        borne += 1
    return borne


def test_connections_are_counted_by_person(people: People) -> None:
    people.came("ada")
    people.came("ada")
    people.came("bob")
    people.went("ada")
    assert [people.connections_of(one) for one in ("ada", "bob", "eve")] == [1, 1, 0]


def test_all_connections_of_a_person_together_may_send_what_a_person_may(people: People) -> None:
    now = 1_000.0
    sent = 0
    for _ in range(20):
        people.came("ada", now)
        bucket = people.bucket_for("ada")
        sent += sum(bucket.take() == 0 for _ in range(60))
    assert 200 <= sent < 220, "five connections' bursts, and what comes back meanwhile"
    people.came("bob", now)
    assert people.bucket_for("bob").take() == 0, "nobody else pays for it"


def test_who_leaves_and_comes_back_goes_on_where_they_were(people: People) -> None:
    people.came("ada", 0.0)
    first = people.bucket_for("ada")
    assert sum(first.take() == 0 for _ in range(60)) >= 40
    people.went("ada", 1.0)
    assert people.connections_of("ada") == 0
    people.came("ada", 2.0)
    assert people.bucket_for("ada")._within is first._within


def test_who_has_gone_for_long_is_forgotten(people: People) -> None:
    for person in ("ada", "bob"):
        people.came(person, 0.0)
        people.bucket_for(person)
    people.went("ada", 0.0)
    people.went("bob", 5.0)
    people.came("eve", FLOOD_SECONDS)
    assert set(people._people) == {"bob", "eve"}
    people.came("eve", FLOOD_SECONDS + 5)
    assert set(people._people) == {"eve"}


def test_who_only_listened_is_forgotten_at_once(people: People) -> None:
    people.came("ada", 0.0)
    people.went("ada", 1.0)
    assert people._people == {}


def test_who_comes_back_in_time_is_not_forgotten_while_they_are_here(people: People) -> None:
    people.came("ada", 0.0)
    people.bucket_for("ada")
    people.went("ada", 1.0)
    people.came("ada", 2.0)
    people.came("bob", 100.0)
    assert people.connections_of("ada") == 1


def test_some_refusals_are_borne_and_a_flood_is_not(people: People) -> None:
    people.came("ada", 0.0)
    assert flood(people, "ada", 0.0) == REFUSED_BURSTS * 40
    assert people.shut_for("ada", 4.0) == FLOOD_SECONDS - 4
    assert people.shut_for("ada", FLOOD_SECONDS) == 0
    assert people.shut_for("bob", 4.0) == 0


def test_who_sends_a_little_too_much_all_the_time_is_only_refused(people: People) -> None:
    people.came("ada", 0.0)
    assert all(people.refused("ada", number / 19) for number in range(5_000))


def test_who_was_closed_is_not_let_in_although_they_left(people: People) -> None:
    people.came("ada", 0.0)
    people.bucket_for("ada")
    flood(people, "ada", 0.0)
    people.went("ada", 0.0)
    people.came("bob", 3.0)
    assert people.shut_for("ada", 3.0) == FLOOD_SECONDS - 3
