"""One WebSocket under gevent that speaks docs/protocol.md: commands with answers, and what comes by itself.

It hands on every frame as it came and decides nothing.
"""

import json
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Any, Final

import gevent
import websocket
from gevent.event import AsyncResult

from loadtest.waits import told

PATIENCE: Final = 10.0
"""Seconds until a connect or a command is given up."""

Data = dict[str, Any]


class ConnectFailed(Exception):
    """No connection; the text says why. `retry_after`: in how many seconds to come, if the node said so."""

    def __init__(self, text: str, retry_after: float | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class Lost(Exception):
    """The connection ended. `code` is its close code, 1006 where there was none."""

    def __init__(self, code: int, reason: str = "") -> None:
        super().__init__(f"closed with {code} {reason}")
        self.code = code


class Unanswered(Exception):
    """A command had no answer within `PATIENCE`, or the connection ended before it."""


class Rejected(Exception):
    """The node refused a command."""

    def __init__(self, error: Data) -> None:
        super().__init__(f"{error['code']}: {error['message']}")
        self.code: str = error["code"]
        self.retry_after: float = error.get("retry_after") or 0.0


class Connection:
    """Open when it is made, and `hello` has come. `listen` has to run for anything else to come."""

    def __init__(self, url: str, path: str, ticket: str, name: str) -> None:
        """`url` as of a page, `name` for the `Host` header. Raises `ConnectFailed`."""
        address = url.replace("http", "ws", 1) + path
        subprotocols = ["carillon.v1", f"carillon.ticket.{ticket}"]
        try:
            self._socket = websocket.create_connection(
                address, host=name, subprotocols=subprotocols, suppress_origin=True, timeout=PATIENCE
            )
            self.hello: Data = json.loads(self._socket.recv())["data"]
            self._socket.settimeout(None)
        except (websocket.WebSocketException, OSError, ValueError, LookupError) as error:
            refusal = getattr(error, "resp_headers", None) or {}
            raise ConnectFailed(f"{address}: {error}", told(refusal.get("retry-after"))) from error
        self._ids = count(1)
        self._answers: dict[int, AsyncResult] = {}

    @property
    def node(self) -> str:
        """As its hello says."""
        return str(self.hello["node"])

    def command(self, name: str, **data: Any) -> Data:
        """The reply. Raises `Unanswered`, `Rejected`."""
        number = next(self._ids)
        answer = self._answers[number] = AsyncResult()
        try:
            self.send({"id": number, "command": name, "data": data})
            message: Data = answer.get(timeout=PATIENCE)
        except (gevent.Timeout, Lost) as error:
            raise Unanswered(f"{name}: {error}") from error
        finally:
            del self._answers[number]
        if "error" in message:
            raise Rejected(message["error"])
        reply: Data = message["reply"]
        return reply

    def send(self, message: Any) -> None:
        """One frame. Raises `Lost`."""
        try:
            self._socket.send(json.dumps(message))
        except (websocket.WebSocketException, OSError) as error:
            raise Lost(1006, str(error)) from error

    def listen(self, take: Callable[[Data, int], None]) -> None:
        """Hand every event to `take`, with its bytes, until the connection ends. Raises `Lost`, always.

        An answer is taken before whoever waits for it runs: what follows it in the same breath is not missed
        if they say in `take` what they make of it.
        """
        try:
            while True:
                code, frame = self._socket.recv_data()
                if code == websocket.ABNF.OPCODE_CLOSE:
                    ending = int.from_bytes(frame[:2]) or 1005
                    raise Lost(ending, frame[2:].decode(errors="replace"))
                message = json.loads(frame)
                if "event" in message:
                    take(message, len(frame))
                elif (answer := self._answers.get(message["id"])) is not None:
                    if "reply" in message:
                        take(message, len(frame))
                    answer.set(message)
        except (websocket.WebSocketException, OSError) as error:
            raise Lost(1006, str(error)) from error
        finally:
            for answer in self._answers.values():
                answer.set_exception(Lost(1006))

    def close(self) -> None:
        """End it, whatever it is at."""
        with suppress(websocket.WebSocketException, OSError):
            self._socket.close(timeout=0)

    def shutdown(self) -> None:
        """End it without a good-bye."""
        with suppress(websocket.WebSocketException, OSError):
            self._socket.shutdown()
