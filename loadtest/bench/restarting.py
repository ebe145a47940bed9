"""Nodes behind one port that are restarted one after the other, politely, while somebody notes what their
beacons say. Knows nothing of who is connected.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from threading import Event, Thread
from typing import Final

from deploy.local.ports import HOST, free_ports
from deploy.local.processes import StartFailed
from loadtest.bench.processes import Home, Kind, Server, Stage

NODES: Final = 3
LEAVE_SECONDS: Final = 60.0
"""More than any of them takes to end by itself."""
PAUSE_SECONDS: Final = 4.0
"""From a node's start to the end of the next: the others have heard of it twice."""
LOOK_SECONDS: Final = 0.5


class Nodes:
    """All of one kind, on one database, behind `port`."""

    def __init__(self, stage: Stage, kind: Kind, home: Home) -> None:
        [self.port] = free_ports(1)
        self.servers: list[Server] = []
        self.told: list[tuple[float, str, float]] = []
        """When (`perf_counter`) which node said that it takes how many connections a second."""
        self.kind = kind
        self._stage, self._home = stage, home
        self._ended = Event()

    @contextmanager
    def running(self) -> Iterator["Nodes"]:
        """Answering; ended afterwards."""
        listener = Thread(target=self._listen, name="what beacons say")
        try:
            for number in range(1, NODES + 1):
                self.servers.append(self._start(number))
            listener.start()
            yield self
        finally:
            self._ended.set()
            if listener.ident is not None:
                listener.join()
            for server in self.servers:
                server.stop()

    def restart_all(self) -> None:
        """One after the other. Raises `StartFailed` also for one that does not end, or does not end well."""
        for number, server in enumerate(self.servers, 1):
            server.leave()
            if server.process.wait(LEAVE_SECONDS) is None:
                raise StartFailed(
                    f"{server.kind.name} did not end in {LEAVE_SECONDS:g} s:\n{server.process.tail()}"
                )
            server.stop()
            if server.process.exit_code:
                raise StartFailed(f"{server.kind.name} ended badly:\n{server.process.tail()}")
            self.servers[number - 1] = self._start(number)
            self._ended.wait(PAUSE_SECONDS)

    def _start(self, number: int) -> Server:
        return self._stage.start(self.kind, number, self._home, self.port)

    def _listen(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            for server in list(self.servers):
                for name, accepts in _told(server.internal_port):
                    self.told.append((time.perf_counter(), name, accepts))


def _told(port: int) -> list[tuple[str, float]]:
    """What the node's peers have told it; nothing where nobody answers."""
    http = HTTPConnection(HOST, port, timeout=5)
    try:
        http.request("GET", "/peers")
        response = http.getresponse()
        peers = json.loads(response.read()) if response.status == 200 else {"nodes": []}
    except (OSError, HTTPException):
        return []
    finally:
        http.close()
    return [
        (one["name"], one["accepts"]) for one in peers["nodes"][1:] if one["accepts"] and not one["draining"]
    ]
