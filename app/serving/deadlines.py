"""Who has to say something, or to be told, within a time that is the same for all.

No timer each: who began first is first, so only those whose time is over are looked at.
"""

from collections.abc import Iterator
from typing import Final, Protocol


class Unfinished(Protocol):
    """A connection that neither has a whole request behind it nor an answer to its upgrade."""

    def out_of_time(self) -> None:
        """End it."""


class Deadlines:
    """Times are in seconds of the caller's clock."""

    def __init__(self) -> None:
        self._since: dict[Unfinished, float] = {}

    def __len__(self) -> int:
        return len(self._since)

    def begin(self, one: Unfinished, now: float) -> None:
        """From now on; who has begun already goes on."""
        self._since.setdefault(one, now)

    def end(self, one: Unfinished) -> None:
        """It is done, or gone."""
        self._since.pop(one, None)

    def begun_until(self, moment: float) -> Iterator[Unfinished]:
        """Take out whoever began then or earlier."""
        while self._since:
            one, since = next(iter(self._since.items()))
            if since > moment:
                return
            del self._since[one]
            yield one


unfinished: Final = Deadlines()
"""Of this process."""
