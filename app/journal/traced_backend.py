"""A backend of the journal while traces are on: the same, and then it tells what was stored, and when."""

from collections.abc import Sequence
from time import time_ns
from typing import TYPE_CHECKING

from app.journal.backend import Backend
from app.journal.entry import Entry, Refused, Stored

if TYPE_CHECKING:  # its libraries are optional
    from app.observability.traces import Traces


class TracedBackend:
    """`backend`, traced."""

    def __init__(self, backend: Backend, traces: "Traces") -> None:
        self._backend = backend
        self._traces = traces
        self.outbox = backend.outbox
        self.give_up = backend.give_up
        self.close = backend.close

    async def store(
        self, batch: Sequence[Entry], outbox: Sequence[int] = (), *, wait: bool = True
    ) -> list[Stored | Refused | None]:
        """As the backend does it."""
        began = time_ns()
        answers = await self._backend.store(batch, outbox, wait=wait)
        for entry, answer in zip(batch, answers, strict=True):
            if isinstance(answer, Stored) and not answer.repeated:
                place = answer.position
                if trace := self._traces.of(entry.stream, place.epoch, place.sequence):
                    trace.stored(entry.kind, entry.key, entry.at, began, len(batch))
        return answers
