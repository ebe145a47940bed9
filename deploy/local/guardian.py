"""Starts child processes, and sees to it that none of them outlives its parent, however that one ends.

A second small process, the guardian, reads a pipe whose write end only the parent holds. At its end it
kills every group it was told of. Run as a script this file is that process: standard library only.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Final

# The child announces its own group before it becomes the command, and holds the pipe until then: there is
# no moment in which a child lives that the guardian does not know of.
ANNOUNCE_THEN_RUN: Final = 'echo $$ >&0 && exec "$@" </dev/null'


class Guardian:
    """Every child is spawned in a session of its own, so its process group is its pid."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__], stdin=subprocess.PIPE, start_new_session=True
        )

    @property
    def pid(self) -> int:
        """The guardian's own."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """False: it was killed. Nothing can be spawned any more, and nothing is guarded."""
        return self._process.poll() is None

    def spawn(
        self, command: Sequence[str], *, environment: Mapping[str, str] | None = None, cwd: Path | None = None
    ) -> "subprocess.Popen[str]":
        """Start `command`; its standard output and error come joined, as text, from `stdout`."""
        return subprocess.Popen(
            ["/bin/sh", "-c", ANNOUNCE_THEN_RUN, "carillon", *command],
            stdin=self._pipe,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=cwd,
            start_new_session=True,
            text=True,
            encoding="utf-8",
            errors="replace",
        )

    def forget(self, group: int) -> None:
        """`group` has ended: its number may soon be somebody else's."""
        with suppress(BrokenPipeError):
            self._pipe.write(b"-%d\n" % group)
            self._pipe.flush()

    def close(self) -> None:
        """Kill what is still there."""
        with suppress(BrokenPipeError):
            self._pipe.close()
        self._process.wait()

    @property
    def _pipe(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin


def guard(lines: Iterable[bytes]) -> None:
    """Read announcements (`12`) and farewells (`-12`) to the end, then kill the groups that are left."""
    groups: set[int] = set()
    for line in lines:
        number = int(line)
        if number > 0:
            groups.add(number)
        else:
            groups.discard(-number)
    for group in groups:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    # What ends the parent politely (Ctrl-C, a closed terminal) must not end the guardian before it.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    guard(sys.stdin.buffer)
