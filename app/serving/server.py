"""uvicorn's server with what a node of many needs: signs of life, and an end that no client can delay."""

import asyncio
import gc
import socket
from types import FrameType
from typing import Final

from django.conf import settings
from uvicorn.server import Server

from app.observability.health import health
from app.serving.direct_connection import DirectConnection

_PINGS_PER_TURN: Final = 500


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

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by a signal to end: from here on nobody new is welcome."""
        health.accepting = False
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close every connection politely, cut off what is left after SHUTDOWN_SECONDS."""
        health.accepting = False
        self._pinging.cancel()
        cut_off = asyncio.get_running_loop().call_later(settings.SHUTDOWN_SECONDS, self._abort_all)
        try:
            await super().shutdown(sockets=sockets)
        finally:
            cut_off.cancel()

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second."""
        health.beat()
        return await super().on_tick(counter)

    def _abort_all(self) -> None:
        for connection in list(self.server_state.connections):
            connection.transport.abort()

    async def _ping_all(self) -> None:
        """Ping every connection once in PING_SECONDS, a slice at a time: one task for all, no timer each."""
        while True:
            round_started = asyncio.get_running_loop().time()
            connections = [one for one in self.server_state.connections if isinstance(one, DirectConnection)]
            pause = settings.PING_SECONDS / (len(connections) // _PINGS_PER_TURN + 1)
            for start in range(0, len(connections), _PINGS_PER_TURN):
                for connection in connections[start : start + _PINGS_PER_TURN]:
                    connection.ping()
                await asyncio.sleep(pause)
            rest = round_started + settings.PING_SECONDS - asyncio.get_running_loop().time()
            await asyncio.sleep(max(rest, 0.05))
