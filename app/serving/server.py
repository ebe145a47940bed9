"""uvicorn's server with what a node of many needs: signs of life, and an end that no client can delay."""

import asyncio
import gc
import logging
import socket
from types import FrameType
from typing import TYPE_CHECKING, Final

from django.conf import settings
from uvicorn.server import Server

from app.database.pool import watch_pool
from app.observability.health import health
from app.realtime.connection import CLOSE_SECONDS
from app.realtime.node import current_node
from app.serving.delivery_desk import desk
from app.serving.direct_connection import DirectConnection
from app.serving.unsent import watch_unsent
from app.serving.watch import Watch

if TYPE_CHECKING:
    from uvicorn.server import Protocols

_PINGS_PER_TURN: Final = 500

HAND_OVER_SECONDS: Final = 20.0
"""A node that leaves closes its connections over so long: a proxy needs two looks at /readyz, up to 10 s, to
notice, and whoever it sends here until then is closed once more."""
HAND_OVER_SLICES: Final = 80

logger = logging.getLogger(__name__)


class NodeServer(Server):
    """One node's server."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start listening, and asking connections for signs of life."""
        for listener in sockets or ():
            # Inherited by every accepted socket: what the kernel swallows for a client that does not read
            # is bounded, so that unsent bytes are counted where the budget is.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, settings.SEND_BUFFER_BYTES)
        await super().startup(sockets=sockets)
        self._pinging = asyncio.get_running_loop().create_task(self._ping_all())
        # What start-up made stays for good: the collector need not look at it again. And thousands of
        # connections are no garbage either: it need not look at the young ones every 700 allocations.
        gc.collect()
        gc.freeze()
        gc.set_threshold(10_000, 20, 20)
        health.accepting = True
        self._handing_over: asyncio.Task[None] | None = None
        watch_pool()
        watch_unsent(self._direct_connections)
        self._watch = Watch(current_node(), self._leave, self._come_back)
        desk.open(current_node().questions)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by a signal to end: from here on nobody new is welcome."""
        health.accepting = False
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close every connection politely, cut off what is left after SHUTDOWN_SECONDS."""
        health.accepting = False
        desk.close()
        self._pinging.cancel()
        self._end_handing_over()
        cut_off = asyncio.get_running_loop().call_later(settings.SHUTDOWN_SECONDS, self._abort_all)
        leaving = asyncio.get_running_loop().create_task(self._watch.stop())
        try:
            await super().shutdown(sockets=sockets)
            await leaving
        finally:
            cut_off.cancel()

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second."""
        health.beat()
        return await super().on_tick(counter)

    def _abort_all(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    def _leave(self, why: str) -> None:
        """The watch found this node deaf: its clients go to where they hear each other."""
        logger.warning("this node leaves its clients to the others: it %s", why)
        health.away = f"deaf: this node {why}, others hear each other"
        self._handing_over = asyncio.get_running_loop().create_task(self._hand_over())

    def _come_back(self) -> None:
        logger.info("this node hears the others again: clients are welcome")
        health.away = ""
        self._end_handing_over()

    def _end_handing_over(self) -> None:
        if self._handing_over is not None:
            self._handing_over.cancel()

    async def _hand_over(self) -> None:
        """Close every connection politely, a slice at a time, those that still come here too."""
        told: set[Protocols] = set()
        for left in range(HAND_OVER_SLICES, 0, -1):
            connections = self.server_state.connections
            told &= connections
            remaining = list(connections - told)
            for connection in remaining[: -(-len(remaining) // left)]:
                told.add(connection)
                connection.shutdown()
            await asyncio.sleep(HAND_OVER_SECONDS / HAND_OVER_SLICES)
        await asyncio.sleep(CLOSE_SECONDS)
        for connection in told & self.server_state.connections:
            connection.transport.close()  # a response without an end: a stream of events

    def _direct_connections(self) -> list[DirectConnection]:
        return [one for one in self.server_state.connections if isinstance(one, DirectConnection)]

    async def _ping_all(self) -> None:
        """Ping every connection once in PING_SECONDS, a slice at a time: one task for all, no timer each."""
        while True:
            round_started = asyncio.get_running_loop().time()
            connections = self._direct_connections()
            pause = settings.PING_SECONDS / (len(connections) // _PINGS_PER_TURN + 1)
            for start in range(0, len(connections), _PINGS_PER_TURN):
                for connection in connections[start : start + _PINGS_PER_TURN]:
                    connection.ping()
                await asyncio.sleep(pause)
            rest = round_started + settings.PING_SECONDS - asyncio.get_running_loop().time()
            await asyncio.sleep(max(rest, 0.05))
