"""The reference for connects: a uvloop protocol that answers the upgrade from one task, and no more.

It parses nothing and knows nobody: what it costs is the least that any server on this loop costs.
"""

import asyncio
import sys

import uvloop

from loadtest.bench.servers.bare import ANSWER


class UpgradeOnly(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """The request follows."""
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """The request; requests of the bench come in one piece."""
        self.task = asyncio.get_running_loop().create_task(self._answer())

    async def _answer(self) -> None:
        self.transport.write(ANSWER)


async def serve(port: int) -> None:
    """Serve for ever."""
    server = await asyncio.get_running_loop().create_server(UpgradeOnly, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
