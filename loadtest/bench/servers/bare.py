"""The reference: `for sock in socks: sock.send(frame)` over blocking sockets, and no more.

It reads no frames, except commands on the control connection, and never notices that a client has gone.
"""

import json
import os
import socket
import sys
import time
from select import select
from typing import Any

from loadtest.bench import wire

ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + wire.ACCEPT + b"\r\n\r\n" + wire.frame(b'{"event":"hello","data":{}}')
)


class BareServer:
    """Serves for ever; the connection to /control commands, all others are the crowd."""

    def __init__(self, port: int) -> None:
        self.listener = socket.create_server(("127.0.0.1", port), backlog=4096)
        self.crowd: list[socket.socket] = []
        self.control: list[socket.socket] = []

    def serve(self) -> None:
        """Accept, and carry out what the control connection asks for."""
        while True:
            for ready in select([self.listener, *self.control], [], [])[0]:
                if ready is self.listener:
                    self._accept()
                elif (command := _command(ready)) is None:
                    self.control.remove(ready)
                else:
                    reply = self._run(**command["data"]) if command["command"] == "bench.publish" else {}
                    answer = {"id": command["id"], "reply": {"pid": os.getpid()} | reply}
                    ready.sendall(wire.frame(json.dumps(answer).encode()))

    def _accept(self) -> None:
        one, _ = self.listener.accept()
        # As every asyncio server does it: a frame is not kept back until the last one is acknowledged.
        one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        head = b""
        while b"\r\n\r\n" not in head:
            head += one.recv(4096)
        one.sendall(ANSWER)
        (self.control if head.startswith(b"GET /control ") else self.crowd).append(one)

    def _run(self, count: int, per_tick: int, per_second: float) -> dict[str, Any]:
        frames = [wire.frame(wire.event(wire.FIRST_NUMBER + number)) for number in range(count)]
        socks = self.crowd
        started = time.perf_counter()
        for number, frame in enumerate(frames):
            if per_second:
                time.sleep(max(0.0, started + number / per_second - time.perf_counter()))
            for sock in socks:
                sock.send(frame)
        return {"seconds": time.perf_counter() - started, "recipients": len(socks)}


def _command(control: socket.socket) -> dict[str, Any] | None:
    """The next command, which the client sends in one short frame under a mask of zeros."""
    data = control.recv(65536)
    if not data:
        return None
    command: dict[str, Any] = json.loads(data[data.index(b"{") :])
    return command


if __name__ == "__main__":
    BareServer(int(sys.argv[1])).serve()
