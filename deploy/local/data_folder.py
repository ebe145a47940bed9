"""The one folder in which a run keeps its data: one run at a time, and forgotten on request."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from deploy.local.plan import PlanError

LOCK_FILE: Final = "run.lock"
OWNED: Final = ("carillon.sqlite3*", "attachments", "redis", "control.sock", LOCK_FILE)
"""All that a run leaves there. Nothing else is deleted: DATA_FOLDER may name a folder of other things."""


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Have `folder` for this process alone. The kernel lets go of it however the process ends.

    Raises `PlanError` when somebody else has it, or nobody may write there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / LOCK_FILE).open("a+")
    except OSError as error:
        raise PlanError(
            f"cannot write to {folder} ({error.strerror}): choose another with DATA_FOLDER="
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            raise PlanError(
                f"already running with its data in {folder} (pid {lock.read().strip() or 'unknown'}): "
                "see `make status`, or end it with Ctrl-C in its terminal"
            ) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield


def forget(folder: Path) -> list[str]:
    """Delete what runs have left in `folder`, and the folder if nothing else is in it. Returns the names."""
    if not folder.is_dir():
        return []
    with held(folder):
        found = sorted(path for pattern in OWNED for path in folder.glob(pattern))
        for path in found:
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
    with suppress(OSError):  # somebody else's files are in it
        folder.rmdir()
    return [path.name for path in found if path.name not in ("control.sock", LOCK_FILE)]
