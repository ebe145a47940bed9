"""The stream of access changes as one node follows it: what any process committed is here within a second.

It rests on streams alone: what the bus lost, or never brought, is read from the database. Must never decide
anything: whoever listens asks the database what became of the subjects.
"""

import asyncio
import logging
from asyncio import Future
from collections.abc import Callable
from functools import partial
from typing import Final

import msgspec

from app.accounts.events import ACCESS_CHANGES, AccessChanged
from app.database.thread import OutageLog, in_database_thread
from app.journal.entry import SYSTEM
from app.journal.journal import journal_of
from app.journal.services import open_stream
from app.realtime.connection import Batch
from app.realtime.node import Node
from app.realtime.stream_audience import Ended

logger = logging.getLogger(__name__)

RETRY_SECONDS: Final = 1.0

Listener = Callable[[set[str] | None], None]
"""Takes the subjects of one tick; None: nobody knows what was missed, so all are to be looked at."""


class _Data(msgspec.Struct):
    subject: str


class _Frame(msgspec.Struct):
    event: str
    data: msgspec.Raw


class AccessChanges:
    """One node's: begins when it is made, ends with its node."""

    def __init__(self, node: Node) -> None:
        journal_of(node)  # streams are read from it
        self._node = node
        self._listeners: list[Listener] = []
        self._outage = OutageLog(logger, "following access changes")
        self._task = asyncio.create_task(self._follow(), name="access changes")
        node.before_stop(self._stop)

    def listen(self, listener: Listener) -> None:
        """Tell `listener` from now on."""
        self._listeners.append(listener)

    def deliver(self, batch: Batch) -> None:
        """The hub's: one tick's events."""
        frames = [msgspec.json.decode(event.payload, type=_Frame) for event in batch.events]
        data = [frame.data for frame in frames if frame.event == AccessChanged.name]
        self._tell({msgspec.json.decode(one, type=_Data).subject for one in data})

    def _tell(self, subjects: set[str] | None) -> None:
        for listener in self._listeners:
            listener(subjects)

    async def _follow(self) -> None:
        """For ever: whenever the stream cannot be gone on with, begin anew and have everybody looked at."""
        while True:
            try:
                position = await in_database_thread(partial(open_stream, ACCESS_CHANGES))
                await self._node.streams.enter(ACCESS_CHANGES)
            except Exception as error:
                self._outage.failed(error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            self._outage.worked()
            ended: Future[Ended] = asyncio.get_running_loop().create_future()
            following = self._node.streams.follow(
                ACCESS_CHANGES, self, person=SYSTEM, after=position, ended=ended.set_result
            )
            self._tell(None)
            try:
                await ended
            finally:
                following.end()
                self._node.streams.leave(ACCESS_CHANGES)

    async def _stop(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


def access_changes_of(node: Node) -> AccessChanges:
    """Those of `node`, made when they are first asked for."""
    return node.part(AccessChanges)
