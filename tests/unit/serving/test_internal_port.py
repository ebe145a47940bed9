"""Probes and metrics of one node: what they say when the loop stands still or the node leaves."""

from collections.abc import Iterator
from http.client import HTTPConnection
from time import monotonic

import pytest

from app.observability import health as health_module
from app.observability import metrics
from app.observability.health import LOOP_STALL_SECONDS, Health
from app.serving import internal_port
from app.serving.internal_port import InternalPort


@pytest.fixture
def health(monkeypatch: pytest.MonkeyPatch) -> Health:
    fresh = Health()
    monkeypatch.setattr(internal_port, "health", fresh)
    return fresh


@pytest.fixture
def port(health: Health) -> Iterator[int]:
    server = InternalPort("127.0.0.1", 0)
    server.start()
    yield server.port
    server.stop()


def get(port: int, path: str) -> tuple[int, str]:
    http = HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        http.request("GET", path)
        response = http.getresponse()
        return response.status, response.read().decode()
    finally:
        http.close()


def test_a_node_is_alive_before_it_is_ready(port: int, health: Health) -> None:
    assert get(port, "/livez") == (200, "live\n")
    assert get(port, "/readyz") == (503, "not accepting connections\n")
    health.accepting = True
    assert get(port, "/readyz") == (200, "live\n")


def test_a_node_that_left_its_clients_to_the_others_lives_and_says_why_it_is_not_ready(
    port: int, health: Health
) -> None:
    health.accepting = True
    health.away = "deaf"
    assert get(port, "/livez") == (200, "live\n")
    assert get(port, "/readyz") == (503, "deaf\n")
    health.away = ""
    assert get(port, "/readyz")[0] == 200


def test_a_loop_that_stands_still_is_neither_alive_nor_ready(
    port: int, health: Health, monkeypatch: pytest.MonkeyPatch
) -> None:
    health.accepting = True
    health.beat()
    later = monotonic() + LOOP_STALL_SECONDS + 1
    monkeypatch.setattr(health_module, "monotonic", lambda: later)
    for path in ("/livez", "/readyz"):
        status, text = get(port, path)
        assert status == 503
        assert text.startswith("the event loop has not turned for ")
    health.beat()
    assert get(port, "/readyz")[0] == 200


def test_metrics_are_there_and_nothing_else(port: int) -> None:
    status, text = get(port, "/metrics")
    assert status == 200
    assert f"{metrics.subscriptions._name} " in text
    assert get(port, "/admin/")[0] == 404


def test_the_port_is_free_after_the_end(health: Health) -> None:
    first = InternalPort("127.0.0.1", 0)
    first.start()
    first.stop()
    second = InternalPort("127.0.0.1", first.port)
    second.start()
    assert get(second.port, "/livez")[0] == 200
    second.stop()
