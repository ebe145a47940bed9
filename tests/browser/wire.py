"""A network cable between one browser and a node, to be cut, held and mended."""

import socket
import threading
from contextlib import suppress
from types import TracebackType
from typing import Final, Self

HOST: Final = "127.0.0.1"
CHUNK_BYTES: Final = 65536


class Wire:
    """Forwards its own port to `port`. `cut` resets all connections, `hold` goes silent."""

    def __init__(self, port: int) -> None:
        self._target = (HOST, port)
        self._connections: set[socket.socket] = set()
        self._flowing = threading.Event()
        self._flowing.set()
        self._is_cut = False
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.close()
        self.cut()

    def cut(self) -> None:
        """Every connection is reset, and so is every new one."""
        self._is_cut = True
        for connection in list(self._connections):
            _end(connection)
        self._flowing.set()

    def hold(self) -> None:
        """Nothing that a node says arrives any more, and nobody is told."""
        self._flowing.clear()

    def mend(self) -> None:
        """As new. What was held goes on."""
        self._is_cut = False
        self._flowing.set()

    def _accept(self) -> None:
        while True:
            try:
                browser, _ = self._listener.accept()
            except OSError:
                return
            if self._is_cut:
                _end(browser)
                continue
            try:
                node = socket.create_connection(self._target)
            except OSError:
                _end(browser)
                continue
            self._connections |= {browser, node}
            for source, sink, may_be_held in ((browser, node, False), (node, browser, True)):
                arguments = (source, sink, may_be_held)
                threading.Thread(target=self._forward, args=arguments, daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket, may_be_held: bool) -> None:
        with suppress(OSError):
            while data := source.recv(CHUNK_BYTES):
                if may_be_held:
                    self._flowing.wait()
                sink.sendall(data)
        for end in (source, sink):
            _end(end)
            self._connections.discard(end)


def _end(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
