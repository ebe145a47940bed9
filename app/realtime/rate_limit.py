"""A token bucket. No timer, no task: what has been refilled is worked out when somebody asks."""

from time import monotonic


class TokenBucket:
    """Allows `burst` at once and `per_second` on average."""

    __slots__ = ("_at", "_tokens", "burst", "per_second")

    def __init__(self, per_second: float, burst: float, now: float | None = None) -> None:
        self.per_second = per_second
        self.burst = burst
        self._tokens = burst
        self._at = monotonic() if now is None else now

    def take(self, now: float | None = None) -> float:
        """Take one token. 0.0: taken; otherwise the seconds until the next one."""
        at = monotonic() if now is None else now
        self._tokens = min(self.burst, self._tokens + (at - self._at) * self.per_second)
        self._at = at
        if self._tokens >= 1.0:
            self._tokens -= 1.0
            return 0.0
        return (1.0 - self._tokens) / self.per_second
