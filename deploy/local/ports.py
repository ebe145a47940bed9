"""TCP ports of this machine: which are free. Holds none of them."""

import errno
import socket
from random import SystemRandom
from typing import Final

HOST: Final = "127.0.0.1"

QUIET_PORTS: Final = range(10_000, 32_000)
"""Below those that kernels give to outgoing connections. A client that calls a dead server again and again
could otherwise be given that very port, talk to itself, and keep the server from coming back.
"""


def free_ports(count: int) -> list[int]:
    """That many different ports which nobody uses right now. Raises OSError when there are not so many."""
    found: list[int] = []
    for port in SystemRandom().sample(QUIET_PORTS, len(QUIET_PORTS)):
        if len(found) == count:
            return found
        if is_free(port):
            found.append(port)
    raise OSError(errno.EADDRINUSE, f"no {count} free ports")


def is_free(port: int, host: str = HOST) -> bool:
    """Whether a server could listen there.

    Raises OSError when that is not about others: a port this user may not have, a host that is not here.
    """
    with socket.socket() as probe:
        # As servers do it, so that connections which ended a moment ago do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise
    return True
