"""What the writer needs of a database, and the three ways in which storing a batch may fail."""

from collections.abc import Collection, Sequence
from typing import Protocol

from django.db import DatabaseError, OperationalError

from app.journal.entry import Entry, Refused, Stored


class RolledBack(OperationalError):
    """Nothing of the batch was stored, and that is certain; the same again may work."""


class StreamLocked(RolledBack):
    """Somebody holds one of the batch's streams for long."""


class BadData(DatabaseError):
    """Nothing of the batch was stored, and never will be: the database does not take one of its rows."""


class Unanswered(OperationalError):
    """The batch went out and no answer came: it may be stored, now or in a moment."""


class Backend(Protocol):
    """One connection of the journal's own. Takes one batch at a time."""

    async def store(
        self, batch: Sequence[Entry], outbox: Sequence[int] = (), *, wait: bool = True
    ) -> list[Stored | Refused | None]:
        """All of `batch` in one transaction; the answers in its order.

        `outbox` are rows whose entries are in the batch: what is stored leaves the outbox with it.
        No key may be in the batch twice. With `wait` off, entries of streams that somebody holds in this
        moment are left out: their answer is None. Raises `RolledBack`, `BadData` or `Unanswered`, and is
        usable after each.
        """

    async def outbox(self, limit: int, without: Collection[str] = ()) -> list[tuple[int, Entry]]:
        """The oldest rows of the outbox that were not given up, `without` those for these streams. Raises
        `RolledBack` or `Unanswered`."""

    async def give_up(self, row: int, failure: str) -> bool:
        """Leave this row of the outbox where it is, for people to see. False: another node did so before, or
        it is gone. Raises like `outbox`."""

    async def close(self) -> None:
        """End the connection; the next batch opens another."""
