"""What a node does otherwise while traces are on: the same, and then it tells of it.

Chosen when the node is made: with TRACES_RATIO at 0 nothing of this is there, and nobody asks for it.
"""

from collections.abc import Callable
from time import time_ns
from typing import TYPE_CHECKING

from app.realtime.delivery_account import DeliveryAccount
from app.realtime.hub import Hub, Job
from app.realtime.stream import StreamEvent

if TYPE_CHECKING:
    from app.observability.traces import Trace, Traces


def publishing(
    traces: "Traces", to_bus: Callable[[str, StreamEvent], bool]
) -> Callable[[str, StreamEvent], bool]:
    """`to_bus`, and a word about it."""

    def publish(stream: str, event: StreamEvent) -> bool:
        began = time_ns()
        queued = to_bus(stream, event)
        if trace := traces.of(stream, event.epoch, event.sequence):
            trace.published(began, queued=queued)
        return queued

    return publish


def receiving(
    traces: "Traces", arrived: Callable[[str, StreamEvent], None]
) -> Callable[[str, StreamEvent], None]:
    """`arrived` for what comes by the bus, and a word about it."""

    def receive(stream: str, event: StreamEvent) -> None:
        began = time_ns()
        if trace := traces.of(stream, event.epoch, event.sequence):
            trace.received(began)
        arrived(stream, event)

    return receive


class FanOut:
    """One event on its way to the connections: takes how many it was written to, as `written` does."""

    def __init__(self, trace: "Trace", written: Callable[[int], None], expected: int, local: bool) -> None:
        self._trace = trace
        self._written = written
        self._expected = expected
        self._local = local
        self._began = time_ns()
        self._connections = 0

    def __call__(self, connections: int) -> None:
        self._written(connections)
        self._connections += connections

    def end(self) -> None:
        """It was written to the last one."""
        self._trace.fanned_out(
            self._began, local=self._local, recipients=self._expected, written=self._connections
        )


class TracedAccount(DeliveryAccount):
    """Makes a `FanOut` of each event that is traced."""

    def __init__(self, clock: Callable[[], float], traces: "Traces") -> None:
        super().__init__(clock)
        self._traces = traces

    def given(
        self, stream: str, epoch: int, sequence: int, expected: int, *, at: float = 0.0, local: bool = False
    ) -> Callable[[int], None]:
        written = super().given(stream, epoch, sequence, expected, at=at, local=local)
        trace = self._traces.of(stream, epoch, sequence)
        return FanOut(trace, written, expected, local) if trace else written


class TracedHub(Hub):
    """Ends each `FanOut`."""

    def _write(self, job: Job, budget: int) -> int:
        writes = super()._write(job, budget)
        if job.written == len(job.recipients):
            for event in job.batch.events:
                if isinstance(event.written, FanOut):
                    event.written.end()
        return writes
