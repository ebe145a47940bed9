"""The journal of one node: its writer, its reader, and their way to the node's streams."""

from asyncio import Future

from app.journal.databases import own_backend
from app.journal.entry import Entry, Stored
from app.journal.reader import Reader
from app.journal.traced_backend import TracedBackend
from app.journal.writer import Writer
from app.realtime.node import Node


class Journal:
    """Begins when it is made, ends with its node."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._reader = Reader()
        backend = own_backend()
        self._writer = Writer(
            node.streams.committed, TracedBackend(backend, node.traces) if node.traces else backend
        )
        self._writer.start()
        node.streams.start(self._reader.read)
        node.before_stop(self._stop)

    def append(self, entry: Entry) -> "Future[Stored]":
        """Store `entry`: as `Writer.append` says."""
        return self._writer.append(entry)

    async def _stop(self) -> None:
        """What waits is stored, and told to the other nodes while the bus is there."""
        await self._writer.stop()
        await self._node.streams.stop()
        await self._reader.stop()


def journal_of(node: Node) -> Journal:
    """The journal of `node`, made when it is first asked for."""
    return node.part(Journal)
