"""`python -m loadtest.bench.pinned CORE COMMAND…`: becomes the command, on that core."""

import os
import sys

from loadtest.bench.machine import prepare

if __name__ == "__main__":
    prepare(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])  # noqa: S606  # the bench's own command
