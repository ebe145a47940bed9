"""The one connection over which the bench tells a server what to do and hears what that took."""

import json
import socket
from typing import Any, Final

from loadtest.bench import wire

CONNECT_SECONDS: Final = 5.0


class Control:
    """A WebSocket that asks one thing at a time. Blocking."""

    def __init__(self, port: int, request: bytes) -> None:
        self._number = 0
        self._unread = b""
        self._socket = socket.create_connection(("127.0.0.1", port), CONNECT_SECONDS)
        try:
            self._socket.sendall(request)
            while not (end := wire.opened(self._unread)):
                self._receive()
        except BaseException:
            self._socket.close()
            raise
        self._unread = self._unread[end:]

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def ask(self, name: str, *, seconds: float = 30.0, **data: Any) -> dict[str, Any]:
        """The reply to a command."""
        self.tell(name, **data)
        return self.reply(seconds)

    def tell(self, name: str, **data: Any) -> None:
        """Send a command whose reply is read later."""
        self._number += 1
        self._socket.sendall(wire.command(self._number, name, data))

    def reply(self, seconds: float) -> dict[str, Any]:
        """The reply to the last command. Raises `WireError` if it was refused, TimeoutError if none came."""
        self._socket.settimeout(seconds)
        while "id" not in (answer := self._next()):
            pass  # an event: the bench's own connection is told of the bus like any other
        if answer["id"] != self._number or "reply" not in answer:
            raise wire.WireError(f"expected the reply to command {self._number}, got {answer}")
        reply: dict[str, Any] = answer["reply"]
        return reply

    def _next(self) -> dict[str, Any]:
        while True:
            while not (end := wire.frame_end(self._unread, 0, (wire.TEXT_FRAME, wire.PING))):
                self._receive()
            frame, self._unread = self._unread[:end], self._unread[end:]
            if frame[0] == wire.TEXT_FRAME:
                message: dict[str, Any] = json.loads(wire.payload(frame, 0, end))
                return message
            # A ping: the next command is a sign of life, too.

    def _receive(self) -> None:
        data = self._socket.recv(65536)
        if not data:
            raise wire.WireError("the server hung up on the control connection")
        self._unread += data
