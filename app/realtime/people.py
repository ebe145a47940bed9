"""Who has connections to this node, and how much one person may ask of it over all of them.

No task and no timer: who is gone is forgotten when somebody else comes.
"""

from time import monotonic
from typing import Final

from django.conf import settings

from app.realtime.rate_limit import TokenBucket

FLOOD_SECONDS: Final = 10.0
"""Who was closed for sending far too many commands is not let in again for so long."""
REFUSED_BURSTS: Final = 5
"""So many times what may be sent at once may be refused at once; in the long run as many as may be sent. A
client that takes `retry_after` at its word is never near that."""


class _Person:
    __slots__ = ("allowed", "borne", "connections", "shut_until")

    def __init__(self) -> None:
        self.connections = 0
        self.allowed: TokenBucket | None = None  # until the first command: most only listen
        self.borne: TokenBucket | None = None
        self.shut_until = 0.0


class People:
    """One node's, by the ids of their identities. `now` is for tests: seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._people: dict[str, _Person] = {}
        self._gone: dict[str, float] = {}
        """Who has left and may not come back as somebody new yet, and when they left; in this order."""

    def came(self, person: str, now: float | None = None) -> None:
        """One more connection of theirs."""
        if self._gone:
            self._gone.pop(person, None)
            self._forget(monotonic() if now is None else now)
        known = self._people.get(person)
        if known is None:
            known = self._people[person] = _Person()
        known.connections += 1

    def went(self, person: str, now: float | None = None) -> None:
        """One less."""
        known = self._people[person]
        known.connections -= 1
        if known.connections:
            return
        if known.allowed is None:
            del self._people[person]
        else:
            self._gone[person] = monotonic() if now is None else now

    def connections_of(self, person: str) -> int:
        """How many connections this person has here."""
        known = self._people.get(person)
        return 0 if known is None else known.connections

    def bucket_for(self, person: str) -> TokenBucket:
        """For one more connection of somebody who is here: what it may send, within what they all may."""
        known = self._people[person]
        if known.allowed is None:
            per_second = settings.COMMANDS_PER_PERSON
            burst = settings.COMMANDS_BURST * per_second / settings.COMMANDS_PER_SECOND
            known.allowed = TokenBucket(per_second, max(1.0, burst))
        return TokenBucket(settings.COMMANDS_PER_SECOND, settings.COMMANDS_BURST, within=known.allowed)

    def refused(self, person: str, now: float | None = None) -> bool:
        """One more command of somebody who is here was over the rate. False: that is too many."""
        at = monotonic() if now is None else now
        known = self._people[person]
        if known.borne is None:
            known.borne = TokenBucket(
                settings.COMMANDS_PER_SECOND, REFUSED_BURSTS * settings.COMMANDS_BURST, at
            )
        if not known.borne.take(at):
            return True
        known.shut_until = at + FLOOD_SECONDS
        return False

    def shut_for(self, person: str, now: float | None = None) -> float:
        """Seconds until they are let in; 0: they are."""
        known = self._people.get(person)
        if known is None or not known.shut_until:
            return 0.0
        return max(0.0, known.shut_until - (monotonic() if now is None else now))

    def _forget(self, now: float) -> None:
        """By then their buckets are full again, and they are somebody new."""
        kept = max(FLOOD_SECONDS, settings.COMMANDS_BURST / settings.COMMANDS_PER_SECOND)
        while self._gone:
            person, left_at = next(iter(self._gone.items()))
            if now - left_at < kept:
                return
            del self._gone[person], self._people[person]
