"""A connection to PostgreSQL that asks, while it waits for the server, whether to go on.

psycopg itself waits for ever: a server that stands still keeps its TCP connections alive.
"""

from time import monotonic
from typing import Any, Final, TypeVar

import psycopg
from psycopg.abc import PQGen

LOOK_SECONDS: Final = 0.1

Answer = TypeVar("Answer")


class PatientConnection(psycopg.Connection[Any]):
    """Asks `go_on` ten times a second while the server owes an answer."""

    def go_on(self, waited: float) -> None:
        """The server has said nothing for `waited` seconds. `psycopg.OperationalError` gives up: then the
        connection is closed, and nobody knows whether what was asked was done."""

    def wait(
        self, gen: PQGen[Answer], interval: float = LOOK_SECONDS, timeout: float | None = None
    ) -> Answer:
        return super().wait(self._asking(gen), interval, timeout)

    def _asking(self, waits: PQGen[Answer]) -> PQGen[Answer]:
        try:
            wanted = next(waits)
            since = monotonic()
            while True:
                ready = yield wanted
                if ready:
                    since = monotonic()
                else:
                    self._ask(monotonic() - since)
                wanted = waits.send(ready)
        except StopIteration as end:
            answer: Answer = end.value
            return answer

    def _ask(self, waited: float) -> None:
        try:
            self.go_on(waited)
        except psycopg.OperationalError:
            self.close()
            raise
