"""Who is let in, by a clock that the test winds."""

import pytest
from pytest_django import Settings

from app.serving import admission as module
from app.serving.admission import TICK_SECONDS, Admission


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "monotonic", clock)
    return clock


@pytest.fixture
def admission(clock: Clock) -> Admission:
    one = Admission()
    one.tick()
    return one


def turn(admission: Admission, clock: Clock, seconds: float) -> None:
    for _ in range(round(seconds / TICK_SECONDS)):
        clock.now += TICK_SECONDS
        admission.tick()


def test_a_node_that_keeps_up_takes_whoever_comes(admission: Admission, clock: Clock) -> None:
    turn(admission, clock, 5)
    assert admission.refusal(0) is None


def test_who_comes_before_the_loop_has_started_is_welcome() -> None:
    assert Admission().refusal(0) is None


def test_a_loop_that_is_late_takes_nobody_until_it_keeps_up_again(admission: Admission, clock: Clock) -> None:
    clock.now += 3
    assert admission.refusal(0) == "late", "also before the loop has noticed itself"
    admission.tick()
    assert admission.refusal(0) == "late"
    turn(admission, clock, 1)
    assert admission.refusal(0) is None


def test_a_loop_that_is_a_little_late_takes_people(admission: Admission, clock: Clock) -> None:
    clock.now += 0.8
    assert admission.refusal(0) is None


def test_a_node_takes_as_many_as_it_may(admission: Admission, settings: Settings) -> None:
    settings.CONNECTIONS_LIMIT = 10
    assert admission.refusal(9) is None
    assert admission.refusal(10) == "full"


def test_a_node_keeps_files_for_everything_else(
    admission: Admission, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DESCRIPTORS_RESERVED = 256
    monkeypatch.setattr("resource.getrlimit", lambda kind: (1_024, 4_096))
    assert admission.refusal(767) is None
    assert admission.refusal(768) == "descriptors"
