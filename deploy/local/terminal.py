"""What a person sees of a run: what is being done, a table, and one stream of all logs. Decides nothing."""

import os
import re
import signal
import sys
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from threading import Lock
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

OWN_NAME: Final = "carillon"
COLOURS: Final = (
    "cyan",
    "green",
    "magenta",
    "yellow",
    "blue",
    "bright_cyan",
    "bright_green",
    "bright_magenta",
)
STAMPS: Final = re.compile(
    r"^(?:\d+:[A-Z] \d+ \w+ \d{4} [\d:.]+ [.*#-] "  # 123:M 21 Nov 2026 05:04:18.123 *
    r"|\[\d{4}-\d\d-\d\d [^\]]*\] \[\d+\] )"  # [2026-11-21 05:04:18 +0000] [123]
)
"""What Redis and gunicorn begin their lines with: here time and name stand before them already."""

LEVELS: Final = {"WARNING": "yellow", "ERROR": "red", "CRITICAL": "bold red"}


class Terminal:
    """Lines come from many threads; whatever comes while something is starting waits until that is shown."""

    def __init__(self) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._lock = Lock()
        self._held: list[tuple[str, str]] | None = []
        self._muted: Container[str] = ()
        self._gone = False
        self._colours: dict[str, str] = {OWN_NAME: "bold"}

    def line(self, name: str, text: str) -> None:
        """One line of a child's log."""
        with self._lock:
            if self._held is not None:
                self._held.append((name, text))
            elif name not in self._muted:
                self._print(name, text)

    def say(self, text: str) -> None:
        """One line of the starter's own, in the same stream."""
        self.line(OWN_NAME, text)

    def release(self, *, without: Container[str]) -> None:
        """From now on lines are shown at once; first those that waited, but for the named ones'."""
        with self._lock:
            held, self._held = self._held or [], None
            for name, text in held:
                if name not in without:
                    self._print(name, text)

    def mute(self, names: Container[str]) -> None:
        """From now on these have nothing to say that anybody wants to know."""
        with self._lock:
            self._muted = names

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Something that takes a while is being done."""
        if not self._console.is_terminal:
            self._console.print(text)
            yield
            return
        with self._console.status(text):
            yield
        self._console.print(f"[green]✓[/] {text}")

    def table(self, rows: Sequence[Sequence[str]]) -> None:
        """What runs where; each row as in `COLUMNS`."""
        show_table(rows)

    def text(self, text: str) -> None:
        """A paragraph beside the stream."""
        self._console.print(text, markup=False)

    def _print(self, name: str, text: str) -> None:
        """Once nobody reads any more, that is a closed terminal: the run is asked to end."""
        colour = self._colours.setdefault(name, COLOURS[len(self._colours) % len(COLOURS)])
        said = Text.from_ansi(STAMPS.sub("", text))
        said.stylize(LEVELS.get(said.plain.partition(" ")[0].strip("[]"), ""))
        line = Text.assemble(
            (f"{datetime.now():%H:%M:%S} ", "dim"), (f"{name:<10}", colour), (" │ ", "dim"), said
        )
        try:
            self._console.print(line)
        except (OSError, SystemExit):  # SystemExit: rich's answer to a closed pipe
            if not self._gone:
                self._gone = True
                os.kill(os.getpid(), signal.SIGHUP)


COLUMNS: Final = ("what", "address", "pid", "")
TABLE_WIDTH: Final = 160
"""Characters at most. A narrower terminal breaks lines by itself, which loses nothing of an address."""


def show_table(rows: Sequence[Sequence[str]]) -> None:
    """Rows of what, address, pid and a remark."""
    made = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="dim")
    for column in COLUMNS:
        made.add_column(column, no_wrap=True, justify="right" if column == "pid" else "left")
    for row in rows:
        made.add_row(*row)
    Console(highlight=False, width=TABLE_WIDTH).print(made)


def complain(text: str) -> None:
    """To standard error, the first line with the project's name before it."""
    print(f"{OWN_NAME}: {text}", file=sys.stderr)
