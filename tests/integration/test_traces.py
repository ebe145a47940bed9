"""A message on two real nodes is one trace at a real end of OTLP over HTTP."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from app.journal.keys import new_key
from tests.failure.checker.place import Place
from tests.integration.test_rooms_on_nodes import Guest


class Collector:
    """Whoever collects: takes what the nodes send."""

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        collected = self.bodies

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                assert self.path == "/v1/traces"
                collected.append(self.rfile.read(int(self.headers["Content-Length"])))
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(200)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    def spans(self, key: str) -> dict[tuple[str, str], Span]:
        """Of the trace in which this key was accepted: each step on each node."""
        spans = [
            (node, span)
            for body in list(self.bodies)
            for resource in ExportTraceServiceRequest.FromString(body).resource_spans
            for node in [_texts(resource.resource.attributes)["service.instance.id"]]
            for scope in resource.scope_spans
            for span in scope.spans
        ]
        ids = {span.trace_id for _, span in spans if _texts(span.attributes).get("carillon.key") == key}
        return {(span.name, node): span for node, span in spans if span.trace_id in ids}


def _texts(attributes) -> dict[str, str]:  # type: ignore[no-untyped-def]
    return {attribute.key: attribute.value.string_value for attribute in attributes}


@pytest.fixture
def collector() -> Iterator[Collector]:
    collector = Collector()
    thread = threading.Thread(target=collector.server.serve_forever)
    thread.start()
    yield collector
    collector.server.shutdown()
    thread.join()
    collector.server.server_close()


@pytest.fixture
def place(tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("TRACES_RATIO", "1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{collector.server.server_port}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
    with Place(tmp_path, "sqlite", nodes=2) as place:
        yield place


def test_a_message_that_is_posted_on_one_node_and_written_on_another_is_one_trace(
    place: Place, collector: Collector
) -> None:
    one, two = place.nodes
    ada, bob = Guest("Adalbertine", one), Guest("Bobadilla", two)
    key, text = str(new_key()), "for nobody else"
    with ada.connected(), bob.connected():
        for guest in (ada, bob):
            guest.command("chat.join_room", room="lobby")
        ada.post(text, key)
        bob.hears(text)
    for node in place.nodes:
        place.drain(node)  # sends what waits
    spans = collector.spans(key)
    by_id = {span.span_id: step for step, span in spans.items()}
    assert {step: by_id.get(span.parent_span_id) for step, span in spans.items()} == {
        ("accept", "node-1"): None,
        ("commit", "node-1"): ("accept", "node-1"),
        ("publish", "node-1"): ("commit", "node-1"),
        ("fan_out", "node-1"): ("commit", "node-1"),
        ("receive", "node-2"): ("publish", "node-1"),
        ("fan_out", "node-2"): ("receive", "node-2"),
    }
    assert spans["accept", "node-1"].parent_span_id == b""
    told = b"".join(collector.bodies)
    cookies = [*ada.visitor.cookies.values(), *bob.visitor.cookies.values()]
    for secret in (text, "Adalbertine", "Bobadilla", *cookies):
        assert secret.encode() not in told
