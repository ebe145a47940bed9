"""TCP ports on 127.0.0.1: which are free. Holds none of them."""

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


def is_free(port: int) -> bool:
    """Whether a server could listen there. Raises PermissionError for a port this user may not have."""
    with socket.socket() as probe:
        # As servers do it, so that connections which ended a moment ago do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except PermissionError:
            raise
        except OSError:
            return False
    return True
