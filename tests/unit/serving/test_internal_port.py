"""Probes and metrics of one node: what they say when the loop stands still or the node leaves."""

import asyncio
import json
from collections.abc import Iterator
from http.client import HTTPConnection
from time import monotonic

import pytest

from app.observability import health as health_module
from app.observability import metrics
from app.observability.health import LOOP_STALL_SECONDS, Health
from app.realtime.delivery_account import DeliveryAccount
from app.realtime.delivery_questions import DeliveryQuestions
from app.serving import delivery_desk, internal_port
from app.serving.delivery_desk import EXPECTED, Desk
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


def test_a_port_that_is_taken_is_an_error_but_for_a_worker_that_follows_another(port: int) -> None:
    with pytest.raises(OSError, match="in use"):
        InternalPort("127.0.0.1", port)
    beside = InternalPort("127.0.0.1", port, beside=True)
    assert beside.port == port
    beside.start()
    beside.stop()


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


async def test_what_became_of_an_event_is_looked_up_on_the_loop(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = Desk()
    monkeypatch.setattr(internal_port, "desk", desk)
    account = DeliveryAccount(lambda: 0.0)
    account.given("room.lobby", 1, 7, 3)(2)

    async def ask(query: str) -> tuple[int, str]:
        return await asyncio.to_thread(get, port, f"/deliveries?{query}")

    assert (await ask("stream=room.lobby&sequence=7"))[0] == 404, "this is no node yet"
    desk.open(DeliveryQuestions("node-1", "51", account, lambda group, payload: True))
    status, text = await ask("stream=room.lobby&sequence=7")
    assert status == 200
    assert json.loads(text) == {
        "node": "node-1",
        "expected": 3,
        "written": 2,
        "confirmed": 0,
        "recovered": 0,
    }
    assert (await ask("stream=room.lobby&sequence=8"))[0] == 404
    for query in (
        "",
        "stream=room.lobby",
        "sequence=7",
        "stream=room.lobby&sequence=-7",
        "stream=a&sequence=x",
    ):
        assert await ask(query) == (400, EXPECTED.decode()), query
    monkeypatch.setattr(delivery_desk, "LOOK_SECONDS", 0.1)
    assert get(port, "/deliveries?stream=room.lobby&sequence=7")[0] == 503, (
        "the loop stands still: we block it"
    )
    desk.close()
    assert (await ask("stream=room.lobby&sequence=7"))[0] == 404


def test_the_port_is_free_after_the_end(health: Health) -> None:
    first = InternalPort("127.0.0.1", 0)
    first.start()
    first.stop()
    second = InternalPort("127.0.0.1", first.port)
    second.start()
    assert get(second.port, "/livez")[0] == 200
    second.stop()
