"""What is told of an event, by whom, and of which events."""

import asyncio
import subprocess
import sys
from collections.abc import Sequence
from threading import Event
from time import time_ns

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from app.observability import traces as module
from app.observability.traces import Traces


def chosen(traces: Traces, stream: str = "room.lobby") -> set[int]:
    return {sequence for sequence in range(2_000) if traces.of(stream, 7, sequence)}


def test_all_nodes_choose_the_same_events_and_about_as_many_as_asked_for() -> None:
    one, two = (Traces(name, 0.1, InMemorySpanExporter()) for name in ("node-1", "node-2"))
    assert chosen(one) == chosen(two) != chosen(one, "room.cellar")
    assert 150 < len(chosen(one)) < 250


def test_who_asks_for_less_chooses_from_what_the_others_choose() -> None:
    few, many = Traces("node-1", 0.1, InMemorySpanExporter()), Traces("node-2", 0.5, InMemorySpanExporter())
    assert chosen(few) < chosen(many) < set(range(2_000))
    assert len(chosen(Traces("node-3", 1, InMemorySpanExporter()))) == 2_000


def test_what_the_environment_says_of_the_service_comes_before_what_we_say(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ours = Traces("node-1", 1, InMemorySpanExporter()).resource.attributes
    assert (ours["service.name"], ours["service.instance.id"]) == ("carillon", "node-1")
    assert ours["telemetry.sdk.name"] == "opentelemetry"
    monkeypatch.setenv("OTEL_SERVICE_NAME", "chat")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "service.instance.id=pod-1,zone=a")
    theirs = Traces("node-1", 1, InMemorySpanExporter()).resource.attributes
    assert (theirs["service.name"], theirs["service.instance.id"], theirs["zone"]) == ("chat", "pod-1", "a")


def test_what_the_bus_brought_and_nobody_was_given_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "RECEIVED_LIMIT", 3)
    traces = Traces("node-1", 1, InMemorySpanExporter())
    for sequence in range(10):
        trace = traces.of("room.lobby", 7, sequence)
        assert trace is not None
        trace.received(time_ns())
    assert len(traces.received) == 3


async def test_a_node_that_stops_sends_what_waits() -> None:
    taken = InMemorySpanExporter()
    traces = Traces("node-1", 1, taken)
    trace = traces.of("room.lobby", 7, 1)
    assert trace is not None
    trace.published(time_ns(), queued=True)
    await traces.stop()
    [span] = taken.get_finished_spans()
    assert span.name == "publish"


async def test_a_node_that_stops_does_not_wait_for_one_who_never_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked, ended = Event(), Event()

    class Stuck(SpanExporter):
        def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
            asked.set()
            ended.wait()
            return SpanExportResult.SUCCESS

    monkeypatch.setattr(module, "STOP_SECONDS", 0.05)
    traces = Traces("node-1", 1, Stuck())
    trace = traces.of("room.lobby", 7, 1)
    assert trace is not None
    trace.published(time_ns(), queued=True)
    try:
        async with asyncio.timeout(20):
            await traces.stop()
        assert asked.wait(20)
    finally:
        ended.set()


def test_a_node_without_traces_needs_none_of_their_libraries() -> None:
    tried = """
import sys
sys.modules["opentelemetry"] = None  # whoever imports it fails
import app.asgi, asyncio
from app.realtime.node import current_node
async def start():
    return current_node().traces
assert asyncio.run(start()) is None
"""
    subprocess.run([sys.executable, "-c", tried], check=True)
