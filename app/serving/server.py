"""uvicorn's server with what a node of many needs: signs of life, and an end that no client can delay."""

import asyncio
import gc
import logging
import signal
import socket
from random import random
from time import monotonic, thread_time
from types import FrameType
from typing import Final, cast

from django.conf import settings
from uvicorn.server import Server

from app.database.pool import watch_pool
from app.observability import metrics
from app.observability.health import health
from app.realtime.connection import CLOSE_SECONDS
from app.realtime.node import current_node
from app.serving.admission import TICK_SECONDS, admission
from app.serving.deadlines import unfinished
from app.serving.delivery_desk import desk
from app.serving.direct_connection import DirectConnection
from app.serving.drain import Drain
from app.serving.headroom import Headroom
from app.serving.http_protocol import HttpProtocol
from app.serving.pace import SPREAD_SECONDS, Pace
from app.serving.release import STEP_SECONDS, Releasable, Release
from app.serving.unsent import watch_unsent
from app.serving.watch import Watch

_PINGS_PER_TURN: Final = 500

HAND_OVER_SECONDS: Final = 20.0
"""A deaf node closes its connections over so long: a proxy needs two looks at /readyz, up to 10 s, to
notice, and whoever it sends here until then is closed once more."""

logger = logging.getLogger(__name__)


class NodeServer(Server):
    """One node's server."""

    _drain: Drain | None = None

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
        node = self._node = current_node()
        admission.connections = lambda: len(self.server_state.connections)
        self._headroom = Headroom(settings.ACCEPT_PER_SECOND)
        beacons = node.start_beacons()
        beacons.accepts = self._accepts
        self._drain = Drain(beacons, self._connections)
        self._watch = Watch(node, self._leave, self._come_back)
        desk.open(node.questions)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by a signal to end: from here on nobody new is welcome. SIGTERM leaves time to drain; a
        second one, and any other signal, does not. What has to be stored is stored all the same."""
        self._captured_signals.append(sig)
        if self.should_exit or sig != signal.SIGTERM:
            self.hurry()
        health.accepting = False
        self.should_exit = True

    def hurry(self) -> None:
        """End, and let all connections go at once."""
        health.accepting = False
        self.should_exit = True
        if self._drain is not None:
            self._drain.hurry()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Let every connection go politely, cut off what is left, then end the application."""
        health.accepting = False
        self.should_exit = True
        loop = asyncio.get_running_loop()
        drain = self._drain
        assert drain is not None  # made in `startup`
        self._end_handing_over()
        ticking = loop.create_task(self._go_on_ticking(drain))
        await drain.wait_for_notice()
        self._close_doors(sockets or [])
        await drain.let_go()
        desk.close()
        self._pinging.cancel()
        cut_off = loop.call_later(settings.SHUTDOWN_SECONDS, self._cut_off_all)
        leaving = loop.create_task(self._watch.stop())
        try:
            await super().shutdown()
            await leaving
        finally:
            cut_off.cancel()
            ticking.cancel()

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second."""
        health.beat()
        admission.tick()
        self._end_unfinished()
        if counter % 10 == 0:
            self._headroom.sample(monotonic(), thread_time(), self._node.connections_taken)
            metrics.accept_seconds.set(self._headroom.cost)
        return await super().on_tick(counter)

    def _end_unfinished(self) -> None:
        """Whoever did not say in time what they want. What fails in here would end the node."""
        for one in unfinished.begun_until(asyncio.get_running_loop().time() - settings.REQUEST_SECONDS):
            try:
                one.out_of_time()
            except Exception:
                logger.exception("a connection could not be ended")

    async def _go_on_ticking(self, drain: Drain) -> None:
        """uvicorn does not, once it is to end; gunicorn would think the loop stands still."""
        counter = 0
        while True:
            counter += 1
            await self.on_tick(counter)
            drain.tick()
            await asyncio.sleep(TICK_SECONDS)

    def _close_doors(self, sockets: list[socket.socket]) -> None:
        """Nobody new comes in, and requests get no further one behind them."""
        for server in self.servers:
            server.close()
        for listener in sockets:
            listener.close()
        for connection in self._plain_http():
            connection.shutdown()

    def _plain_http(self) -> list[HttpProtocol]:
        found = [one for one in self.server_state.connections if isinstance(one, HttpProtocol)]
        return [one for one in found if not one.releasable]

    def _connections(self) -> list[Releasable]:
        return cast(list[Releasable], list(self.server_state.connections))

    def _cut_off_all(self) -> None:
        for connection in list(self.server_state.connections):
            if isinstance(connection, DirectConnection):
                connection.cut_off()
            else:
                connection.transport.abort()

    def _accepts(self, loop_lag: float) -> float:
        ready, _ = health.ready()
        welcome = ready and admission.refusal(admission.connections()) is None
        accepts = self._headroom.accepts(loop_lag) if welcome else 0.0
        metrics.accepts.set(accepts)
        return accepts

    def _leave(self, why: str) -> None:
        """The watch found this node deaf: its clients go to where they hear each other."""
        if self.should_exit:
            return
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
        """Let every connection go, those that still come here too."""
        now = asyncio.get_running_loop().time
        until = now() + HAND_OVER_SECONDS
        release = Release("deaf", self._connections, Pace(now(), HAND_OVER_SECONDS, even=True), lambda: 0.0)
        told = set(self._plain_http())
        for connection in told:
            connection.shutdown()
        while now() < until:
            release.step()
            await asyncio.sleep(STEP_SECONDS)
        release.step()
        await asyncio.sleep(CLOSE_SECONDS)
        for connection in told & self.server_state.connections:
            connection.transport.close()  # a response without an end that is not ours

    def _direct_connections(self) -> list[DirectConnection]:
        return [one for one in self.server_state.connections if isinstance(one, DirectConnection)]

    async def _ping_all(self) -> None:
        """Ping every connection once in PING_SECONDS, a slice at a time: one task for all, no timer each."""
        while True:
            round_started = asyncio.get_running_loop().time()
            connections = self._direct_connections()
            pause = settings.PING_SECONDS / (len(connections) // _PINGS_PER_TURN + 1)
            for start in range(0, len(connections), _PINGS_PER_TURN):
                now = asyncio.get_running_loop().time()
                for connection in connections[start : start + _PINGS_PER_TURN]:
                    if connection.leaves_at > now:
                        connection.ping()
                    elif connection.releasable:
                        connection.release(SPREAD_SECONDS * random())  # noqa: S311  # it spreads clients
                        metrics.connections_released.labels("age").inc()
                await asyncio.sleep(pause)
            rest = round_started + settings.PING_SECONDS - asyncio.get_running_loop().time()
            await asyncio.sleep(max(rest, 0.05))
