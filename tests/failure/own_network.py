"""`python -m tests.failure.own_network …`: pytest in a network of its own, where packets may be dropped.

As root in a new network; otherwise in a new user namespace, too. Outside of it nothing changes.
"""

import os
import subprocess
import sys
from typing import NoReturn

import pytest

from tests.failure.checker.place import OWN_NETWORK


def main(arguments: list[str]) -> int:
    """pytest's exit code."""
    if not os.environ.get(OWN_NETWORK):
        _move(arguments)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    return pytest.main(arguments)


def _move(arguments: list[str]) -> NoReturn:
    """Become this program in another network."""
    users = [] if os.geteuid() == 0 else ["--user", "--map-current-user", "--keep-caps"]
    command = [sys.executable, "-m", __spec__.name, *arguments]
    os.environ[OWN_NETWORK] = "yes"
    os.execvp("unshare", ["unshare", "--net", *users, *command])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
