"""How long the disk takes to flush a page: the least that any durable answer waits."""

import os
import time
from pathlib import Path
from typing import Final

PAGE: Final = bytes(8192)
FILE_BYTES: Final = 16 * 2**20
"""As large as a segment of PostgreSQL's log: written over, as that is."""
PAUSE_SECONDS: Final = 0.002


def flushes(folder: Path, count: int) -> list[float]:
    """Seconds that each of `count` pages takes to be flushed (`fdatasync`), at a moderate pace."""
    file = folder / "flushed"
    descriptor = os.open(file, os.O_CREAT | os.O_RDWR)
    try:
        os.write(descriptor, bytes(FILE_BYTES))
        os.fsync(descriptor)
        took = []
        for number in range(count):
            os.pwrite(descriptor, PAGE, number * len(PAGE) % FILE_BYTES)
            began = time.perf_counter()
            os.fdatasync(descriptor)
            took.append(time.perf_counter() - began)
            time.sleep(PAUSE_SECONDS)
        return took
    finally:
        os.close(descriptor)
        file.unlink()
