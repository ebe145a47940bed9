"""Run one command with a time limit, and let nothing that it started outlive it.

`supervise.py SECONDS TIDY_SECONDS COMMAND...` exits as the command did; 124 past the limit; 125 when it
passed but left processes behind, which are named and ended. A command that is ended early has TIDY_SECONDS
to put away what it made. Orphans become this process' children (Linux' subreaper): neither a new session
nor another title hides one.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import FrameType

PR_SET_CHILD_SUBREAPER = 36
GRACE_SECONDS = 5.0


def reap() -> None:
    """Collect orphans that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return


def descendants() -> dict[int, str]:
    """Every process below this one: pid to command line."""
    parents: dict[int, int] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except (OSError, ValueError):
            continue
        if state != "Z":
            parents[int(stat.parent.name)] = int(parent)
    found: dict[int, str] = {}
    for pid, parent_pid in parents.items():
        above: int | None = parent_pid
        while above and above != os.getpid():
            above = parents.get(above)
        if above:
            try:
                found[pid] = Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ").strip()
            except OSError:
                continue
    return found


def wait_until_alone(seconds: float) -> bool:
    """Whether all descendants ended within `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        reap()
        if not descendants():
            return True
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)


def wait(process: subprocess.Popen[bytes], seconds: float) -> int | None:
    """The command's status, or None when it still runs after `seconds`.

    Orphans that end meanwhile are collected at once: whoever stops a daemon waits until it is gone.
    """
    deadline = time.monotonic() + seconds
    while True:
        with suppress(ChildProcessError):
            # Looks before it takes: the command's own status belongs to `process`.
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if ended.si_pid == process.pid:
                    break
                os.waitpid(ended.si_pid, 0)
        if process.poll() is not None:
            return process.returncode
        if time.monotonic() > deadline:
            return None
        time.sleep(0.05)


def end(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Ask the command itself to end, while all that it started still works."""
    if process.poll() is None:
        process.terminate()
        wait(process, seconds)


def end_all() -> None:
    """Ask every descendant to end, then make it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        for pid in descendants():
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue
        if wait_until_alone(GRACE_SECONDS):
            return


def stopped(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def main(limit: float, tidy: float, command: list[str]) -> int:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stopped)
    try:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            status = wait(process, limit)
        finally:
            end(process, tidy)
        if status is None:
            print(f"NOT DONE after {limit:.0f} s: {' '.join(command)}", flush=True)
            return 124
        if wait_until_alone(GRACE_SECONDS):
            return status
        for pid, line in descendants().items():
            print(f"LEFT BEHIND: {pid} {line[:160]}", flush=True)
        return status or 125
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        end_all()


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
