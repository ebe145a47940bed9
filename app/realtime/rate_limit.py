"""A token bucket. No timer, no task: what has been refilled is worked out when somebody asks."""

from time import monotonic


class TokenBucket:
    """Allows `burst` at once and `per_second` on average, and each of it only if `within` allows it, too."""

    __slots__ = ("_at", "_tokens", "_within", "burst", "per_second")

    def __init__(
        self,
        per_second: float,
        burst: float,
        now: float | None = None,
        *,
        within: "TokenBucket | None" = None,
    ) -> None:
        self.per_second = per_second
        self.burst = burst
        self._within = within
        self._tokens = burst
        self._at = monotonic() if now is None else now

    def take(self, now: float | None = None) -> float:
        """Take one token. 0.0: taken; otherwise the seconds until the next one."""
        at = monotonic() if now is None else now
        tokens = self._tokens + (at - self._at) * self.per_second
        if tokens > self.burst:  # noqa: PLR1730  # each command pays for it: no call
            tokens = self.burst
        self._at = at
        if tokens < 1.0:
            wait = (1.0 - tokens) / self.per_second
        elif self._within is None or not (wait := self._within.take(at)):
            self._tokens = tokens - 1.0
            return 0.0
        self._tokens = tokens
        return wait
