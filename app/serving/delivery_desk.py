"""What became of one event on this node, for people and their tools: `/deliveries` on the internal port.

Asked in the port's thread, looked up on the loop: nothing of the loop is touched from elsewhere.
"""

import asyncio
from asyncio import AbstractEventLoop
from concurrent.futures import Future
from typing import Final
from urllib.parse import parse_qs

import msgspec

from app.realtime.delivery_questions import DeliveryQuestions, NodeTally

LOOK_SECONDS: Final = 1.0
"""A loop that takes longer has something worse to tell."""

EXPECTED: Final = b"expected /deliveries?stream=room.lobby&sequence=7\n"


class Desk:
    """Closed where no node is."""

    def __init__(self) -> None:
        self._opened: tuple[AbstractEventLoop, DeliveryQuestions] | None = None

    def open(self, questions: DeliveryQuestions) -> None:
        """Answer from now on; called on the loop."""
        self._opened = asyncio.get_running_loop(), questions

    def close(self) -> None:
        self._opened = None

    def answer(self, query: str) -> tuple[str, bytes]:
        """The status and the body, for the query of a URL; any thread but the loop's."""
        fields = parse_qs(query)
        stream, sequence = fields.get("stream", [""])[-1], fields.get("sequence", [""])[-1]
        if not stream or not (sequence.isascii() and sequence.isdecimal() and len(sequence) <= 16):
            return "400 Bad Request", EXPECTED
        if self._opened is None:
            return "404 Not Found", b"this is no node\n"
        loop, questions = self._opened
        found: Future[NodeTally | None] = Future()
        try:
            loop.call_soon_threadsafe(lambda: found.set_result(questions.own(stream, int(sequence))))
            tally = found.result(LOOK_SECONDS)
        except (TimeoutError, RuntimeError):  # it stands still, or has ended
            return "503 Service Unavailable", b"the event loop does not answer\n"
        if tally is None:
            return "404 Not Found", b"nothing is known of this event here\n"
        return "200 OK", msgspec.json.encode(tally)


desk: Final = Desk()
