"""`python -m tests.failure.own_network …`: pytest on WORKERS workers, each in a network of its own.

There packets may be dropped, and nobody else takes a port. As root in a new network; otherwise in a new user
namespace, too. Outside of it nothing changes.
"""

import os
import shlex
import sys

import pytest

from tests.failure.checker.place import OWN_NETWORK
from tests.failure.plan import SEED, WORKERS

START = 'ip link set lo up && exec "$0" "$@"'


def python() -> str:
    """The command of a Python in a new network."""
    users = [] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]
    return shlex.join(["unshare", "--net", *users, "sh", "-c", START, sys.executable])


def main(arguments: list[str]) -> int:
    """pytest's exit code."""
    os.environ |= {OWN_NETWORK: "yes", "SEED": str(SEED)}
    workers = f"{WORKERS}*popen//python={python()}"
    return pytest.main(["--tx", workers, "--dist", "loadscope", *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
