"""Which groups this node wants from Redis and which it has asked for: the difference is sent once per tick.

No I/O. Whoever joins a group waits for Redis' word or for the news that Redis is away, never for longer.
"""

import asyncio
from asyncio import Future


class Subscriptions:
    """Groups are channels on Redis: the prefix, then the group's name.

    `down`: Redis is known to be away, so nobody is kept waiting.
    """

    def __init__(self, prefix: str) -> None:
        self._prefix = prefix
        self._wanted: dict[str, Future[None]] = {}
        self._asked: dict[str, Future[None]] = {}
        self._changed: dict[str, None] = {}
        self._group_of: dict[bytes, str] = {}
        self.down = False

    def __len__(self) -> int:
        return len(self._wanted)

    def channel(self, group: str) -> bytes:
        return f"{self._prefix}{group}".encode()

    def group(self, channel: bytes) -> str | None:
        """The wanted group behind `channel`."""
        return self._group_of.get(channel)

    def add(self, group: str) -> "Future[None]":
        """Want `group`. The future is the caller's own: cancelling it disturbs nobody else."""
        joined = self._wanted.get(group)
        if joined is None:
            joined = self._asked.get(group) or asyncio.get_running_loop().create_future()
            if self.down and not joined.done():
                joined.set_result(None)
            self._wanted[group] = joined
            self._group_of[self.channel(group)] = group
            self._changed[group] = None
        return asyncio.shield(joined)

    def discard(self, group: str) -> None:
        """No longer want `group`."""
        joined = self._wanted.pop(group, None)
        if joined is not None:
            del self._group_of[self.channel(group)]
            self._changed[group] = None
            if group not in self._asked:
                confirm([joined])

    def changes(self) -> tuple[list[str], list[str]]:
        """The groups to subscribe to and to unsubscribe from since the last call."""
        changed, self._changed = self._changed, {}
        joins = [group for group in changed if group in self._wanted and group not in self._asked]
        leaves = [group for group in changed if group not in self._wanted and group in self._asked]
        self._asked.update((group, self._wanted[group]) for group in joins)
        for group in leaves:
            del self._asked[group]
        return joins, leaves

    def waiting(self, groups: list[str]) -> "list[Future[None]]":
        """The futures to `confirm` when Redis has answered for `groups`."""
        return [self._wanted[group] for group in groups]

    def lost(self) -> None:
        """Redis is away: it has forgotten everything, and nobody waits for it."""
        self.down = True
        self._asked.clear()
        self._changed = dict.fromkeys(self._wanted)
        confirm(list(self._wanted.values()))


def confirm(waiting: "list[Future[None]]") -> None:
    for joined in waiting:
        if not joined.done():
            joined.set_result(None)
