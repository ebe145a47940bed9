"""How old events are at a stage."""

from time import time

import pytest
from prometheus_client import REGISTRY

from app.observability import event_ages
from app.observability.event_ages import BUS, HUB, SOCKET


def seen(stage: str, origin: str, le: str = "+Inf") -> float:
    labels = {"stage": stage, "origin": origin, "le": le}
    return REGISTRY.get_sample_value("carillon_event_seconds_bucket", labels) or 0


def test_an_age_counts_once_for_each_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_ages, "time", lambda: 1_000.75)
    late, soon = seen("socket", "remote"), seen("socket", "remote", "0.5")
    SOCKET.reached(1_000.0, local=False, times=7)
    SOCKET.reached(1_000.5, local=False, times=2)
    assert seen("socket", "remote") == late + 9
    assert seen("socket", "remote", "0.5") == soon + 2


def test_a_clock_that_is_behind_makes_nothing_younger_than_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_ages, "time", lambda: 1_000.0)
    before = seen("bus", "remote", "0.001")
    BUS.reached(1_001.0, local=False)
    assert seen("bus", "remote", "0.001") == before + 1


def test_what_nobody_knows_the_age_of_is_not_counted() -> None:
    before = seen("hub", "local")
    HUB.reached(0.0, local=True)
    HUB.reached(time(), local=True, times=0)
    assert seen("hub", "local") == before
