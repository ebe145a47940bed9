"""One child process with its log, for whoever starts and stops it. Knows nothing of what the child does."""

import os
import signal
import subprocess
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from threading import Thread
from time import monotonic, sleep
from typing import Final

from deploy.local.guardian import Guardian
from deploy.local.ports import HOST

TAIL_LINES: Final = 15
"""How much of a log an error shows: a traceback's end, not its story."""

POLL_SECONDS: Final = 0.05

READY_SECONDS: Final = 90.0
"""Imports and first connections; far more than a small machine with many nodes needs."""

OnLine = Callable[[str, str], None]
"""Called with (process name, line without its end), on a thread of the process."""


class StartFailed(Exception):
    """Something did not come up. The text names what, and ends with its log's last lines."""


class Process:
    """A running child. Signals go to its whole process group."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        guardian: Guardian,
        *,
        environment: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        on_line: OnLine | None = None,
    ) -> None:
        self.name = name
        self._guardian = guardian
        self._on_line = on_line
        self._lines: deque[str] = deque(maxlen=TAIL_LINES)
        self._forgotten = False
        self._popen = guardian.spawn(command, environment=environment, cwd=cwd)
        self._reader = Thread(target=self._read, name=f"log of {name}", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """Also the number of its process group."""
        return self._popen.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative when a signal ended it."""
        return self._popen.poll()

    @property
    def alive(self) -> bool:
        """Whether it runs (or is paused)."""
        return self.exit_code is None

    def tail(self) -> str:
        """The log's last lines."""
        if not self.alive:
            self._reader.join(timeout=1)
        return "\n".join(f"  {line}" for line in self._lines) or "  (it said nothing)"

    def signal(self, number: int) -> None:
        """Send `number` to the whole group, as long as the group is surely this one's."""
        if not self._forgotten:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, number)

    def kill(self) -> None:
        """End the whole group now, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.bury()

    def terminate(self) -> None:
        """Ask it to end, also when it is paused. Returns at once.

        Only the process itself is asked, as a container's would be: its workers are its own affair.
        """
        self._popen.terminate()
        self.signal(signal.SIGCONT)

    def wait(self, seconds: float) -> int | None:
        """Its exit code, or None when it still runs after `seconds`."""
        with suppress(subprocess.TimeoutExpired):
            return self._popen.wait(seconds)
        return None

    def stop(self, seconds: float) -> None:
        """Ask it to end; whatever of its group is there after `seconds` is killed."""
        self.terminate()
        self.wait(seconds)
        self.kill()

    def bury(self) -> None:
        """After its end: take along what is left of the group, and close its log."""
        if self._forgotten:
            return
        self._popen.wait()
        self.signal(signal.SIGKILL)
        self._forgotten = True
        self._guardian.forget(self.pid)
        self._reader.join(timeout=1)

    def _read(self) -> None:
        assert self._popen.stdout is not None
        with self._popen.stdout as log:
            for line in log:
                text = line.rstrip()
                self._lines.append(text)
                if self._on_line is not None:
                    self._on_line(self.name, text)


def stop_all(processes: Sequence[Process], seconds: float) -> None:
    """End them together: all are asked first, then all have until the same deadline.

    Each is asked twice, which makes a node hurry: where all end, none takes over its people.
    """
    deadline = monotonic() + seconds
    for process in processes:
        process.terminate()
    for process in processes:
        process.stop(max(0.0, deadline - monotonic()))


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether `condition` came true within `seconds`."""
    deadline = monotonic() + seconds
    while not condition():
        if monotonic() > deadline:
            return False
        sleep(POLL_SECONDS)
    return True


def wait_until_ready(process: Process, port: int) -> None:
    """Wait until the process says on its internal port that it is ready. Raises `StartFailed`."""
    if not wait_until(lambda: not process.alive or _is_ready(port), READY_SECONDS):
        raise StartFailed(f"{process.name} is not ready after {READY_SECONDS:g} s:\n{process.tail()}")
    if not process.alive:
        code, tail = process.exit_code, process.tail()
        raise StartFailed(f"{process.name} ended with code {code} before it was ready:\n{tail}")


def _is_ready(port: int) -> bool:
    connection = HTTPConnection(HOST, port, timeout=1)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()
