"""TCP ports of this machine: which are free, and no other process is given. Holds none of them."""

import errno
import socket
from collections.abc import Iterator
from functools import cache
from itertools import cycle, islice
from random import SystemRandom
from typing import Final

HOST: Final = "127.0.0.1"

QUIET_PORTS: Final = range(10_000, 32_000)
"""Below those that kernels give to outgoing connections. A client that calls a dead server again and again
could otherwise be given that very port, talk to itself, and keep the server from coming back.
"""

BLOCK: Final = 250
"""So many ports belong to one process, so that servers started beside each other never meet on one."""


def free_ports(count: int) -> list[int]:
    """That many different ports which nobody uses right now, and which no other process finds here.

    Raises OSError when there are not so many.
    """
    found: list[int] = []
    for port in islice(_own_ports(), BLOCK):
        if is_free(port):
            found.append(port)
        if len(found) == count:
            return found
    raise OSError(errno.EADDRINUSE, f"no {count} free ports")


@cache
def _own_ports() -> Iterator[int]:
    """Around and around this process' block, so that a port comes again as late as can be."""
    firsts = range(QUIET_PORTS.start, QUIET_PORTS.stop, BLOCK)
    for first in SystemRandom().sample(firsts, len(firsts)):
        claim = socket.socket(type=socket.SOCK_DGRAM)
        try:
            claim.bind((HOST, first))
        except OSError:
            claim.close()
        else:
            claim.detach()  # bound until this process ends, however it ends
            return cycle(SystemRandom().sample(range(first, first + BLOCK), BLOCK))
    raise OSError(errno.EADDRINUSE, "all ports are given to other processes")


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
