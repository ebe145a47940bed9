"""TCP ports of this machine: which are free. Holds none of them."""

import errno
import socket
from contextlib import ExitStack
from typing import Final

HOST: Final = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """That many different ports which nobody uses right now."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((HOST, 0))
        return [int(one.getsockname()[1]) for one in sockets]


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
