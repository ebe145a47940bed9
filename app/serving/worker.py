"""The gunicorn worker: uvicorn with our protocols, one process per node."""

import logging
import os
import sys
from typing import Any, ClassVar

from django.conf import settings
from gunicorn.arbiter import Arbiter
from uvicorn_worker import UvicornWorker

from app.serving.http_protocol import HttpProtocol, StockWebSocketProtocol
from app.serving.internal_port import InternalPort
from app.serving.server import NodeServer


class CarillonWorker(UvicornWorker):  # type: ignore[misc]
    """Runs one `NodeServer`. The class attribute is the one way to hand settings to uvicorn from here."""

    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {
        "loop": "uvloop",
        "http": HttpProtocol,
        "ws": StockWebSocketProtocol,
        "lifespan": "on",
        "ws_max_size": settings.FRAME_LIMIT_BYTES,
        "ws_per_message_deflate": False,
        "ws_ping_interval": settings.PING_SECONDS,
        "ws_ping_timeout": settings.PING_SECONDS,
        "server_header": False,
        # Both said here: gunicorn and uvicorn believe this machine, and FORWARDED_ALLOW_IPS, of themselves.
        "proxy_headers": bool(settings.TRUSTED_PROXIES),
        "forwarded_allow_ips": settings.TRUSTED_PROXIES,
        "access_log": False,
        "timeout_notify": 1,
        # Past the moment at which the server cuts connections off: only application tasks are left then.
        "timeout_graceful_shutdown": int(settings.SHUTDOWN_SECONDS) + 2,
    }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # uvicorn tells of every stock connection at INFO, query string and all: neither belongs in a log.
        told = logging.getLogger("uvicorn.error")
        told.setLevel(logging.WARNING)
        # It has gunicorn's handlers. With LOG_FORMAT=json there are none, and it would print bare lines.
        told.propagate = not told.handlers

    async def _serve(self) -> None:
        self.config.app = self.wsgi
        self._server = NodeServer(config=self.config)
        self._install_sigquit_handler()
        try:
            # A later worker takes the place of one that may still be letting its connections go.
            internal_port = InternalPort(settings.INTERNAL_HOST, settings.INTERNAL_PORT, beside=self.age > 1)
        except OSError as error:
            self.log.error("INTERNAL_PORT %d cannot be used: %s", settings.INTERNAL_PORT, error.strerror)
            sys.exit(Arbiter.WORKER_BOOT_ERROR)
        internal_port.start()
        try:
            # The sockets themselves, not gunicorn's wrappers: uvloop knows how to close those once only.
            await self._server.serve(sockets=[listener.sock for listener in self.sockets])
        finally:
            internal_port.stop()
        if not self._server.started:
            sys.exit(Arbiter.WORKER_BOOT_ERROR)

    def handle_exit(self, sig: int, frame: Any) -> None:
        """SIGQUIT, which a gunicorn that is to end quickly sends: uvicorn would not hear of it."""
        super().handle_exit(sig, frame)
        self._server.hurry()

    async def callback_notify(self) -> None:
        """Tell gunicorn that the loop turns; leave when gunicorn is gone: nobody else would end us."""
        self.notify()
        if os.getppid() != self.ppid:
            self._server.should_exit = True
