"""One round of publishes on one server, seen by the server and by the client."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Final

from loadtest.bench import wire
from loadtest.bench.client import Crowd
from loadtest.bench.processes import Kind, Server, Stage
from loadtest.bench.report import RATIO, Row, ratios

PATIENCE_SECONDS: Final = 30.0


@dataclass(frozen=True)
class Round:
    """What one round took. `server_seconds` is what the server says: first publish to last byte written."""

    deliveries: int
    server_seconds: float
    client_seconds: float
    cpu_seconds: float
    segments_per_delivery: float

    @property
    def per_second(self) -> float:
        """Deliveries, by the server's clock."""
        return self.deliveries / self.server_seconds

    @property
    def received_per_second(self) -> float:
        """Deliveries, by the client's clock: from asking to the last byte read."""
        return self.deliveries / self.client_seconds

    @property
    def per_cpu_second(self) -> float:
        """Deliveries, for each second of the server's CPU: what others take from it is not in it."""
        return self.deliveries / self.cpu_seconds

    @property
    def cpu_microseconds(self) -> float:
        """Of the server, per delivery."""
        return self.cpu_seconds / self.deliveries * 1e6


@dataclass(frozen=True)
class Publishes:
    """What one round asks of a server: `per_tick` in one turn of its loop, or `per_second`."""

    count: int
    per_tick: int = 1
    per_second: float = 0.0


def publish(server: Server, crowd: Crowd, publishes: Publishes) -> Round:
    """Have `server` publish to `crowd`. Raises `WireError` unless everybody got exactly these events."""
    assert server.control is not None
    expected = [wire.event(wire.FIRST_NUMBER + number) for number in range(publishes.count)]
    paced_seconds = publishes.count / publishes.per_second if publishes.per_second else 0.0
    patience = PATIENCE_SECONDS + paced_seconds
    segments = crowd.segments()
    cpu, started = server.cpu_seconds(), perf_counter()
    server.control.tell("bench.publish", **asdict(publishes))
    received = crowd.receive(expected, patience)
    reply = server.control.reply(patience)
    cpu = server.cpu_seconds() - cpu
    server.settle()
    if reply["recipients"] != len(crowd):
        raise wire.WireError(f"{server.kind.name} has {reply['recipients']} recipients, not {len(crowd)}")
    segments = (crowd.segments() - segments) / publishes.count
    return Round(publishes.count * len(crowd), reply["seconds"], received - started, cpu, segments)


def in_turns(
    stage: Stage, connections: int, rounds: int, plan: Mapping[Kind, Publishes]
) -> dict[Kind, list[Round]]:
    """All servers of the plan run at once, and every round asks one after the other (A B A B)."""
    results: dict[Kind, list[Round]] = {kind: [] for kind in plan}
    with ExitStack() as exits:
        servers = exits.enter_context(stage.running(*plan))
        crowds = [exits.enter_context(server.crowd(connections)) for server in servers]
        for server in servers:
            server.settle()
        for number in range(-1, rounds):  # the first warms up and is not counted
            for server, crowd in zip(servers, crowds, strict=True):
                one = publish(server, crowd, plan[server.kind])
                if number >= 0:
                    results[server.kind].append(one)
    return results


def rate(row: Callable[..., Row], what: str, kind: Kind, results: Mapping[Kind, list[Round]]) -> Row:
    """How fast one server was."""
    return row(f"{kind.name}, {what}", "deliveries/s", **_by_each_clock(results[kind]))


def rate_ratio(
    row: Callable[..., Row],
    what: str,
    kinds: tuple[Kind, Kind],
    results: Mapping[Kind, list[Round]],
    at_least: float,
) -> Row:
    """How fast the first was, in terms of the second."""
    above, below = (_by_each_clock(results[kind]) for kind in kinds)
    clocks = {clock: ratios(above[clock], below[clock]) for clock in above}
    return row(f"{kinds[0].name} ÷ {kinds[1].name}, {what}", RATIO, **clocks, at_least=at_least)


def _by_each_clock(rounds: list[Round]) -> dict[str, list[float]]:
    return {
        "samples": [one.per_second for one in rounds],
        "heard": [one.received_per_second for one in rounds],
        "by_cpu": [one.per_cpu_second for one in rounds],
    }
