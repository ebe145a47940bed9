"""The node's internal port: /metrics, /livez, /readyz, /peers and /deliveries, never on the public one.

A thread of its own answers, so that a loop that stands still is reported and not merely silent.
"""

import logging
import socket
import threading
from collections.abc import Callable, Iterable
from socketserver import TCPServer, ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import make_wsgi_app

from app.observability.health import health
from app.serving.delivery_desk import desk
from app.serving.peers import board

logger = logging.getLogger(__name__)

_metrics: Callable[..., Iterable[bytes]] = make_wsgi_app()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """WSGI: five paths, 404 for anything else."""
    path = environ["PATH_INFO"]
    if path == "/metrics":
        return _metrics(environ, start_response)
    if path == "/peers" and board.text:
        start_response("200 OK", [("Content-Type", "application/json")])
        return [board.text]
    if path == "/deliveries":
        status, body = desk.answer(environ["QUERY_STRING"])
        kind = "application/json" if body.startswith(b"{") else "text/plain"
        start_response(status, [("Content-Type", kind)])
        return [body]
    if path == "/livez":
        good, text = health.live()
    elif path == "/readyz":
        good, text = health.ready()
    else:
        start_response("404 Not Found", [("Content-Type", "text/plain")])
        return [b"expected /metrics, /livez, /readyz or, on a node, /peers and /deliveries\n"]
    start_response("200 OK" if good else "503 Service Unavailable", [("Content-Type", "text/plain")])
    return [text.encode() + b"\n"]


class _QuietHandler(WSGIRequestHandler):
    timeout = 5  # seconds; one scraper that does not talk must not block the probes for ever

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # the base class' name for it
        logger.debug(format, *args)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = 128
    allow_reuse_port = True

    def server_bind(self) -> None:
        # Without the base class' look-up of the machine's name, which may wait for a name server.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]
        self.setup_environ()


class _ServerOnIPv6(_Server):
    address_family = socket.AF_INET6


class InternalPort:
    """The server thread. Port 0 takes any free port; `port` tells which.

    `beside`: another process of this node may have the port still. Else a port that is taken is an error.
    """

    def __init__(self, host: str, port: int, *, beside: bool = False) -> None:
        kind = _ServerOnIPv6 if ":" in host else _Server
        if not beside:
            with socket.socket(kind.address_family) as alone:
                alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                alone.bind((host, port))
        self._server = kind((host, port), _QuietHandler)
        self._server.set_app(application)
        self._thread = threading.Thread(target=self._server.serve_forever, name="internal-port", daemon=True)
        self.port = self._server.server_port

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread and free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
