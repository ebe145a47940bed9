"""The starter's control socket: one connection, one request, one answer. For this user only."""

import json
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from deploy.local.plan import PlanError

REQUEST_BYTES: Final = 1024
TALK_SECONDS: Final = 5.0
"""How long the starter waits for a client that has connected and says nothing."""

ANSWER_SECONDS: Final = 120.0
"""How long a client waits: a failover right after another one, or a node's start, takes its time."""


@dataclass(frozen=True)
class Answer:
    """What happened, in one line; `rows` only where a table was asked for."""

    done: bool
    text: str
    rows: list[list[str]] = field(default_factory=list)


Handler = Callable[[str], Answer]


class NotRunning(Exception):
    """Nobody answers on the socket."""


class ControlServer:
    """Answers one request at a time, on the thread that calls `serve_one`."""

    def __init__(self, path: Path, handlers: Mapping[str, Handler]) -> None:
        self._path = path
        self._handlers = handlers
        self._socket = socket.socket(socket.AF_UNIX)
        path.unlink(missing_ok=True)  # a killed starter left it; the folder's lock says that none is alive
        try:
            self._socket.bind(str(path))
        except OSError as error:
            self._socket.close()
            raise PlanError(
                f"no control socket at {path} ({error}): choose a shorter DATA_FOLDER="
            ) from error
        path.chmod(0o600)
        self._socket.listen()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def serve_one(self, seconds: float) -> None:
        """Wait up to `seconds` for a request, and answer it."""
        self._socket.settimeout(seconds)
        try:
            connection, _ = self._socket.accept()
        except TimeoutError:
            return
        # A client that does not talk, or leaves before its answer, is nobody else's trouble.
        with connection, suppress(OSError):
            connection.settimeout(TALK_SECONDS)
            command, _, argument = connection.recv(REQUEST_BYTES).decode("utf-8", "replace").partition(" ")
            handler = self._handlers.get(command)
            answer = handler(argument) if handler else Answer(False, f"unknown command {command!r}")
            connection.sendall(json.dumps([answer.done, answer.text, answer.rows]).encode())


def ask(path: Path, command: str, argument: str = "") -> Answer:
    """Send one request to the starter. Raises `NotRunning`."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_SECONDS)
        try:
            connection.connect(str(path))
            connection.sendall(f"{command} {argument}".encode())
            data = b"".join(iter(lambda: connection.recv(65536), b""))
            return Answer(*json.loads(data))
        except (OSError, ValueError) as error:
            raise NotRunning from error
