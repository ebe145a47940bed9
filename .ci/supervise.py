"""Run one command with a time limit, and let nothing that it started outlive it.

`supervise.py SECONDS COMMAND...` exits as the command did; 124 past the limit; 125 when the command passed
but left processes behind, which are named and ended. Orphans become this process' children (Linux'
subreaper), so neither a new session nor a rewritten process title hides one.
"""

import ctypes
import os
import signal
import subprocess
import sys
import time
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


def main(limit: float, command: list[str]) -> int:
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stopped)
    try:
        try:
            status = subprocess.run(
                command, stdin=subprocess.DEVNULL, start_new_session=True, timeout=limit, check=False
            ).returncode
        except subprocess.TimeoutExpired:
            print(f"NOT DONE after {limit:.0f} s: {' '.join(command)}", flush=True)
            return 124
        if wait_until_alone(GRACE_SECONDS):
            return status
        for pid, line in descendants().items():
            print(f"LEFT BEHIND: {pid} {line[:160]}", flush=True)
        return status or 125
    finally:
        end_all()


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1]), sys.argv[2:]))
