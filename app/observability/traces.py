"""Traces of the events of streams over all nodes, by OpenTelemetry (docs/tracing.md).

Nothing travels with an event for them: trace and spans are named after its place in its stream, which every
node knows, and by that name all nodes choose the same events. Imported only where TRACES_RATIO is above 0:
the libraries are optional. Must never hold up an event, nor tell what it says.
"""

import asyncio
from collections import OrderedDict
from contextlib import suppress
from datetime import datetime
from enum import Enum
from hashlib import blake2b
from threading import Thread
from time import time_ns
from typing import Final
from uuid import UUID

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import (
    SERVICE_INSTANCE_ID,
    SERVICE_NAME,
    SERVICE_VERSION,
    OTELResourceDetector,
    Resource,
)
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import SpanContext, SpanKind, TraceFlags

from app import VERSION

STOP_SECONDS: Final = 2.0
"""How long a node that stops waits until the last spans are taken."""
RECEIVED_LIMIT: Final = 4_096

_SAMPLED: Final = TraceFlags(TraceFlags.SAMPLED)
_SCOPE: Final = InstrumentationScope("carillon", VERSION)


class _Step(Enum):
    """A step of an event's way: the name and the kind of its span."""

    ACCEPT = ("accept", SpanKind.SERVER)
    COMMIT = ("commit", SpanKind.CLIENT)
    PUBLISH = ("publish", SpanKind.PRODUCER)
    RECEIVE = ("receive", SpanKind.CONSUMER)
    FAN_OUT = ("fan_out", SpanKind.INTERNAL)


_ON_EACH_NODE: Final = (_Step.RECEIVE, _Step.FAN_OUT)
"""The other ones are those of the node that stores the event."""


class Trace:
    """Of one event. Each method tells of a step that is over; times are nanoseconds of Unix time."""

    __slots__ = ("_id", "_place", "_traces")

    def __init__(self, traces: "Traces", trace_id: int, stream: str, epoch: int, sequence: int) -> None:
        self._traces = traces
        self._id = trace_id
        self._place: dict[str, str | int] = {
            "carillon.stream": stream,
            "carillon.epoch": epoch,
            "carillon.sequence": sequence,
        }

    def stored(self, kind: str, key: UUID, at: datetime, began: int, batch: int) -> None:
        """Accepted `at`, and now stored, in a transaction of `batch` events."""
        accepted, now = int(at.timestamp() * 1e9), time_ns()
        self._tell(_Step.ACCEPT, None, accepted, now, event=kind, key=str(key))
        self._tell(_Step.COMMIT, _Step.ACCEPT, began, now, batch=batch)

    def published(self, began: int, *, queued: bool) -> None:
        """Handed to the bus, which took it or not."""
        self._tell(_Step.PUBLISH, _Step.COMMIT, began, time_ns(), queued=queued)

    def received(self, began: int) -> None:
        """Read from the bus."""
        self._tell(_Step.RECEIVE, _Step.PUBLISH, began, time_ns())
        received = self._traces.received
        received[self._id] = None
        if len(received) > RECEIVED_LIMIT:
            received.popitem(last=False)

    def fanned_out(self, began: int, *, local: bool, recipients: int, written: int) -> None:
        """Written to all of this node's connections that were to get it; `local`: this node stored it."""
        way, parent = "database", _Step.COMMIT
        if local:
            way = "local"
        elif self._id in self._traces.received:
            del self._traces.received[self._id]
            way, parent = "bus", _Step.RECEIVE
        self._tell(_Step.FAN_OUT, parent, began, time_ns(), way=way, recipients=recipients, written=written)

    def _tell(
        self, step: _Step, parent: _Step | None, began: int, ended: int, **attributes: str | int
    ) -> None:
        name, kind = step.value
        told: dict[str, str | int] = {f"carillon.{key}": value for key, value in attributes.items()}
        self._traces.processor.on_end(
            ReadableSpan(
                name,
                context=self._context(step),
                parent=self._context(parent) if parent else None,
                kind=kind,
                attributes=self._place | told,
                resource=self._traces.resource,
                instrumentation_scope=_SCOPE,
                start_time=min(began, ended),  # clocks are set back, now and then
                end_time=ended,
            )
        )

    def _context(self, step: _Step) -> SpanContext:
        name = f"{step.name} {self._traces.node}" if step in _ON_EACH_NODE else step.name
        digest = blake2b(name.encode(), digest_size=8, key=self._id.to_bytes(16, "big")).digest()
        return SpanContext(self._id, int.from_bytes(digest, "big"), False, _SAMPLED)


class Traces:
    """What one node tells: of `ratio` of all events (above 0; 1: of all), the same ones on every node.

    Spans wait in a bounded queue and are sent by a thread; what does not fit is dropped. The libraries read
    their own settings from the environment (OTEL_…).
    """

    def __init__(self, node: str, ratio: float, exporter: SpanExporter | None = None) -> None:
        self.node = node
        self.resource = _resource(node)
        self.received: OrderedDict[int, None] = OrderedDict()
        """The traces of what the bus brought and was not given out yet."""
        self.processor = BatchSpanProcessor(exporter or OTLPSpanExporter())
        self._bound = TraceIdRatioBased.get_bound_for_rate(ratio)

    def of(self, stream: str, epoch: int, sequence: int) -> Trace | None:
        """The trace of the event at this place; None: it is not among the chosen ones."""
        digest = blake2b(f"{epoch} {sequence} {stream}".encode(), digest_size=16).digest()
        trace_id = int.from_bytes(digest, "big")
        if trace_id & TraceIdRatioBased.TRACE_ID_LIMIT >= self._bound:
            return None
        return Trace(self, trace_id, stream, epoch, sequence)

    async def stop(self) -> None:
        """Send what waits, for a moment at most."""
        loop = asyncio.get_running_loop()
        sent = asyncio.Event()

        def send() -> None:
            self.processor.shutdown()  # type: ignore[no-untyped-call]
            with suppress(RuntimeError):  # nobody waited for so long, the loop is closed
                loop.call_soon_threadsafe(sent.set)

        # No thread of the loop's own: the process would not end before it.
        Thread(target=send, name="last traces", daemon=True).start()
        with suppress(TimeoutError):
            async with asyncio.timeout(STOP_SECONDS):
                await sent.wait()


def _resource(node: str) -> Resource:
    """Who tells; what OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES say comes first."""
    ours = {SERVICE_NAME: "carillon", SERVICE_INSTANCE_ID: node, SERVICE_VERSION: VERSION}
    return Resource.create(ours).merge(OTELResourceDetector().detect())
