"""Metrics of real nodes: each moves when what it tells of happens, and nothing makes a new one.

The tests stand in the order in which they run: the failover comes last.
"""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from http.client import HTTPConnection
from itertools import count
from math import isnan

import pytest
from websockets.exceptions import ConnectionClosed

from app.journal.keys import new_key
from deploy.local.ports import HOST
from deploy.local.processes import wait_until
from tests.failure.checker.place import Node, Place
from tests.monitoring.conftest import PATIENCE
from tests.monitoring.traffic import Traffic
from tests.visitor import Door, Visitor

SERIES_LIMIT = 500
BY_TALK = [
    'carillon_connections_opened_total{path="fast"}',
    *(f'carillon_connections_closed_total{{code="{code}"}}' for code in (1000, 4000, "other")),
    'carillon_connections_refused_total{reason="ticket_invalid"}',
    *(f'carillon_commands_total{{outcome="{outcome}"}}' for outcome in ("ok", "unknown_command")),
    "carillon_publishes_total",
    "carillon_fanout_recipients_count",
    "carillon_fanout_deliveries_total",
    "carillon_fanout_bytes_total",
    "carillon_fanout_seconds_count",
    *(f'carillon_deliveries_total{{stage="{stage}"}}' for stage in ("expected", "written", "confirmed")),
    'carillon_deliveries_total{stage="recovered"}',
    'carillon_resumes_total{outcome="resumed"}',
    *(
        f'carillon_event_seconds_count{{origin="{origin}",stage="{stage}"}}'
        for origin, stages in {
            "local": ("commit", "bus", "hub", "socket"),
            "remote": ("bus", "hub", "socket"),
        }.items()
        for stage in stages
    ),
    'carillon_stream_sweeps_total{outcome="nothing"}',
    'carillon_stream_reads_total{outcome="ok"}',
    'carillon_bus_published_total{outcome="written"}',
    *(f'carillon_bus_received_total{{outcome="{outcome}"}}' for outcome in ("heard", "echo")),
    'carillon_journal_entries_total{outcome="stored"}',
    "carillon_journal_batch_entries_count",
    *(f'carillon_journal_seconds_count{{stage="{stage}"}}' for stage in ("wait", "store")),
    "carillon_loop_lag_seconds_count",
    "process_cpu_seconds_total",
]
THERE_WHILE_PEOPLE_TALK = [
    'carillon_connections{path="fast"}',
    "carillon_subscriptions",
    "carillon_accept_seconds",
    "carillon_groups",
    "carillon_streams",
    "carillon_bus_connected",
    "carillon_bus_healthy",
    'carillon_peers{state="live"}',
    *(f'carillon_database_pool{{state="{state}"}}' for state in ("open", "allowed")),
    "carillon_clock_seconds",
    "process_open_fds",
    "process_max_fds",
]
BY_FAILOVER = [
    "carillon_bus_failovers_total",
    "carillon_stream_fills_total",
    'carillon_stream_sweeps_total{outcome="found"}',
]


def scrape(node: Node) -> dict[str, float]:
    """The page: each series with its value."""
    http = HTTPConnection(HOST, node.internal_port, timeout=30)
    try:
        http.request("GET", "/metrics")
        text = http.getresponse().read().decode()
    finally:
        http.close()
    return {name: float(value) for name, value in re.findall(r"^([^#\n]+) (\S+)$", text, re.M)}


def on_all(place: Place) -> dict[str, float]:
    """Of all nodes together."""
    total: dict[str, float] = {}
    for node in place.nodes:
        for name, value in scrape(node).items():
            total[name] = total.get(name, 0) + value
    return total


def moved(place: Place, names: list[str], before: dict[str, float], check: Callable[[], None]) -> list[str]:
    """Those that still stand where they stood when patience is at its end."""
    still = set(names)

    def none_is_left() -> bool:
        check()
        now = on_all(place)
        still.difference_update({name for name in still if now[name] > before[name]})
        return not still

    wait_until(none_is_left, PATIENCE)
    return sorted(still)


@pytest.fixture(scope="module")
def at_rest(place: Place) -> dict[str, float]:
    """Before anybody came."""
    return on_all(place)


@pytest.fixture(scope="module")
def talk(at_rest: dict[str, float], traffic: Traffic) -> Traffic:
    return traffic


def test_each_moves_while_people_talk_come_back_and_leave_oddly(
    place: Place, at_rest: dict[str, float], talk: Traffic
) -> None:
    assert moved(place, BY_TALK, at_rest, talk.check) == []


def test_gauges_say_what_is_there(place: Place, at_rest: dict[str, float], talk: Traffic) -> None:
    nothing = dict.fromkeys(at_rest, 0.0)
    assert moved(place, THERE_WHILE_PEOPLE_TALK, nothing, talk.check) == []
    for node in place.nodes:
        [built] = [name for name in scrape(node) if name.startswith("carillon_build_info{")]
        assert 'version="' in built and 'python="' in built


def test_nothing_that_happens_makes_a_new_series(
    place: Place, at_rest: dict[str, float], talk: Traffic
) -> None:
    for node in place.nodes:
        now = scrape(node)
        assert now.keys() == at_rest.keys()
        assert len(now) <= SERIES_LIMIT


def test_at_info_nothing_is_said_of_a_connection_or_a_message(place: Place, talk: Traffic) -> None:
    opened = 'carillon_connections_opened_total{path="fast"}'
    stored = 'carillon_journal_entries_total{outcome="stored"}'
    log = place.folder / "nodes.log"
    before, said = on_all(place), log.read_text()

    def enough() -> bool:
        talk.check()
        now = on_all(place)
        return now[opened] > before[opened] + 10 and now[stored] > before[stored] + 100

    assert wait_until(enough, PATIENCE)
    assert log.read_text().removeprefix(said) == ""


@pytest.fixture
def silent(place: Place) -> Iterator[Callable[[], None]]:
    """Somebody who posts and never reads what comes of it: each call is another post."""
    node = place.nodes[0]
    visitor = Visitor(Door(f"http://{HOST}:{node.port}", (HOST, node.port)))
    visitor.enter_as_guest("silent")
    numbers = count(1)
    with (
        suppress(ConnectionClosed),
        visitor.connect(origin=visitor.door.origin, cookie=True) as connection,
    ):

        def ask(name: str, **data: object) -> None:
            connection.send(json.dumps({"id": next(numbers), "command": name, "data": data}))

        ask("chat.join_room", room="lobby")
        yield lambda: ask("chat.post_message", room="lobby", key=str(new_key()), text="x" * 4_000)


def test_what_a_client_does_not_read_is_counted_and_then_the_client_is_closed(
    place: Place, talk: Traffic, silent: Callable[[], None]
) -> None:
    closed = 'carillon_slow_consumers_total{policy="closed"}'
    before, most = on_all(place), 0.0

    def is_closed() -> bool:
        nonlocal most
        with suppress(ConnectionClosed):
            for _ in range(5):
                silent()
        now = scrape(place.nodes[0])
        most = max(most, now["carillon_unsent_bytes"])
        return now[closed] > before[closed]

    assert wait_until(is_closed, PATIENCE)
    assert most > 0


def test_a_node_that_stands_still_is_missed_by_the_others(place: Place) -> None:
    missed = 'carillon_peers{state="missed"}'
    place.pause(place.nodes[2])
    try:
        assert wait_until(lambda: scrape(place.nodes[0])[missed] == 1, PATIENCE)
        assert scrape(place.nodes[0])["carillon_bus_healthy"] == 0
    finally:
        place.go_on(place.nodes[2])
    assert wait_until(lambda: scrape(place.nodes[0])[missed] == 0, PATIENCE)


def test_a_failover_is_counted_and_what_the_bus_did_not_bring(place: Place, talk: Traffic) -> None:
    before = on_all(place)
    place.redis.kill("primary")
    assert wait_until(
        lambda: any(scrape(node)["carillon_bus_connected"] == 0 for node in place.nodes), PATIENCE
    )
    assert moved(place, BY_FAILOVER, before, talk.check) == []
    lost = [name for name in before if name.startswith("carillon_bus_reconnects_total")]
    now = on_all(place)
    assert sum(now[name] - before[name] for name in lost) >= len(place.nodes)
    assert not any(isnan(value) for value in now.values())
