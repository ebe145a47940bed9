"""A node as its starter sees it: ports, readiness, a worker in its group, and an end when it is asked to.

The tests of the starter run it, so that they say nothing about the application. STAND_IN=broken never comes
up, STAND_IN=stubborn never ends.
"""

import os
import signal
import socket
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Handler(BaseHTTPRequestHandler):
    """Always ready; says who answers."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(os.environ["NODE_NAME"].encode())

    def log_message(self, *_: object) -> None:
        pass


class SharedServer(ThreadingHTTPServer):
    """Shares its port, as nodes do."""

    def server_bind(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        super().server_bind()


def main() -> None:
    """As gunicorn does it, the worker inherits the ports: they are free when both processes are gone."""
    kind = os.environ.get("STAND_IN")
    if kind == "broken":
        sys.exit("the stand-in was told to be broken")
    ports = [int(os.environ[name]) for name in ("PUBLIC_PORT", "NODE_PORT", "INTERNAL_PORT")]
    servers = [SharedServer(("127.0.0.1", port), Handler) for port in ports]
    worker = os.fork()
    if worker == 0:
        for server in servers:
            threading.Thread(target=server.serve_forever).start()
        return
    sys.stderr.write("up\n")
    signal.sigwait([signal.SIGTERM])
    if kind == "stubborn":
        signal.sigwait([signal.SIGUSR1])
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
    host, _, port = os.environ["REDIS_SENTINELS"].split(",")[0].rpartition(":")
    socket.create_connection((host, int(port)), timeout=5).close()
    sys.stderr.write("left politely, before Redis\n")


if __name__ == "__main__":
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGUSR1])
    main()
