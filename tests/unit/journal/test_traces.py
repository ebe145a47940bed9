"""What is stored on one node and written on two is one trace."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.database.thread import close_connections
from app.journal.databases import own_backend
from app.journal.journal import journal_of
from app.observability.traces import Traces
from app.realtime import hub
from app.realtime.delivery_account import DeliveryAccount
from app.realtime.memory_broker import MemoryBroker
from app.realtime.node import Node
from tests.unit.journal.notes import note
from tests.unit.journal.test_journal import STREAM, Client, DeafBroker, until

Told = dict[tuple[str, str], ReadableSpan]
"""The span of each step on each node."""


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


class Place:
    """Nodes that tell one collector."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self._exporters: list[InMemorySpanExporter] = []

    def node(self, broker: type[MemoryBroker] = MemoryBroker, *, traces: bool = True) -> Node:
        name = f"node-{len(self.nodes) + 1}"
        self._exporters.append(InMemorySpanExporter())
        told = Traces(name, 1, self._exporters[-1]) if traces else None
        self.nodes.append(Node(name, broker(), told))
        journal_of(self.nodes[-1])
        return self.nodes[-1]

    def told(self, sequence: int) -> Told:
        """What was told of this event so far."""
        for node in self.nodes:
            if node.traces:
                node.traces.processor.force_flush()
        spans = [
            span
            for exporter in self._exporters
            for span in exporter.get_finished_spans()
            if attributes(span)["carillon.sequence"] == sequence
        ]
        told = {(span.name, str(span.resource.attributes["service.instance.id"])): span for span in spans}
        assert len(told) == len(spans), "a step was told twice"
        return told


@pytest.fixture
async def place(streams: None) -> AsyncIterator[Place]:
    place = Place()
    yield place
    for node in place.nodes:
        await node.stop()
    await close_connections()


def parents(told: Told) -> dict[tuple[str, str], tuple[str, str] | None]:
    """Each span, and whose child it is."""
    assert len({span.context.trace_id for span in told.values()}) == 1
    by_id = {span.context.span_id: step for step, span in told.items()}
    assert len(by_id) == len(told)
    return {step: span.parent and by_id[span.parent.span_id] for step, span in told.items()}


async def test_an_event_is_one_trace_from_its_acceptance_to_the_last_write_on_each_node(place: Place) -> None:
    one, two = place.node(), place.node()
    nobody = place.node()
    clients = [Client() for _ in range(3)]
    at = (await journal_of(nobody).append(note())).position
    await clients[0].follow(one, at)
    await clients[1].follow(two, at)
    await clients[2].follow(two, at)
    entry = note(text="a secret")
    stored = await journal_of(one).append(entry)
    await until(lambda: all(client.got == [2] for client in clients))
    told = place.told(2)
    assert parents(told) == {
        ("accept", "node-1"): None,
        ("commit", "node-1"): ("accept", "node-1"),
        ("publish", "node-1"): ("commit", "node-1"),
        ("fan_out", "node-1"): ("commit", "node-1"),
        ("receive", "node-2"): ("publish", "node-1"),
        ("fan_out", "node-2"): ("receive", "node-2"),
    }
    place_of_it = {
        "carillon.stream": STREAM,
        "carillon.epoch": stored.position.epoch,
        "carillon.sequence": 2,
    }
    assert {step: attributes(span) for step, span in told.items()} == {
        ("accept", "node-1"): place_of_it
        | {"carillon.event": "notes.written", "carillon.key": str(entry.key)},
        ("commit", "node-1"): place_of_it | {"carillon.batch": 1},
        ("publish", "node-1"): place_of_it | {"carillon.queued": True},
        ("fan_out", "node-1"): place_of_it
        | {"carillon.way": "local", "carillon.recipients": 1, "carillon.written": 1},
        ("receive", "node-2"): place_of_it,
        ("fan_out", "node-2"): place_of_it
        | {"carillon.way": "bus", "carillon.recipients": 2, "carillon.written": 2},
    }
    for span in told.values():
        assert span.start_time is not None and span.end_time is not None
        assert entry.at.timestamp() - 0.001 < span.start_time / 1e9 <= span.end_time / 1e9


async def test_an_event_that_the_bus_lost_follows_its_commit(place: Place) -> None:
    one, deaf = place.node(), place.node(DeafBroker)
    deaf.streams.healthy = lambda: False
    at = (await journal_of(one).append(note())).position
    bob = Client()
    await bob.follow(deaf, at)
    one.broker.publish = lambda group, data: False  # type: ignore[method-assign]
    await journal_of(one).append(note())
    await until(lambda: bob.got == [2])
    told = place.told(2)
    assert parents(told)["fan_out", "node-2"] == ("commit", "node-1")
    assert attributes(told["fan_out", "node-2"])["carillon.way"] == "database"
    assert attributes(told["publish", "node-1"])["carillon.queued"] is False


async def test_a_key_that_is_sent_again_tells_nothing_again(place: Place) -> None:
    node = place.node()
    entry = note()
    await journal_of(node).append(entry)
    told = place.told(1)
    assert (await journal_of(node).append(entry)).repeated
    assert place.told(1).keys() == told.keys()


async def test_a_large_crowd_is_one_span(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "WRITES_PER_TICK", 2)
    node = place.node()
    at = (await journal_of(node).append(note())).position
    crowd = [Client() for _ in range(7)]
    for client in crowd:
        await client.follow(node, at)
    await journal_of(node).append(note())
    await until(lambda: all(client.got == [2] for client in crowd))
    span = attributes(place.told(2)["fan_out", "node-1"])
    assert (span["carillon.recipients"], span["carillon.written"]) == (7, 7)


async def test_without_traces_nothing_stands_in_the_way_of_an_event(place: Place) -> None:
    node = place.node(traces=False)
    streams = node.streams
    assert (type(node.hub), type(streams.account)) == (hub.Hub, DeliveryAccount)
    assert (node._stream_event, streams._to_bus) == (streams.arrived, node._stream_to_bus)
    assert type(journal_of(node)._writer._backend) is type(own_backend())
