"""The stock channels of one node: a bounded queue for each, and the groups they are in.

No I/O and no framework. Holds bytes, never decoded messages: what one receiver changes, no other sees.
"""

import asyncio
from collections import deque
from time import monotonic

from app.observability import metrics


class LocalChannel(asyncio.Queue[tuple[float, bytes]]):
    """One channel of this process: first in, first out, each message to one receiver."""

    def __init__(self, capacity: int, expiry: float) -> None:
        super().__init__(capacity)
        self.groups: set[str] = set()
        self.receivers = 0
        """How many wait for a message now."""
        self.used = False
        """Whether somebody has received on it since this was last set to False."""
        self._expiry = expiry

    def _init(self, maxsize: int) -> None:
        self._queue: deque[tuple[float, bytes]] = deque()

    def offer(self, data: bytes) -> bool:
        """Queue `data` for as long as messages live. False: it was dropped, the channel is full."""
        now = monotonic()
        if self.full():
            self._drop_expired(now)
        if self.full():
            metrics.channel_drops.labels("full").inc()
            return False
        self.put_nowait((now + self._expiry, data))
        return True

    async def take(self) -> bytes:
        """The next message that has not expired; waits for one. Cancelling it loses nothing."""
        self.used = True
        self.receivers += 1
        try:
            while True:
                deadline, data = await self.get()
                if deadline > monotonic():
                    return data
                metrics.channel_drops.labels("expired").inc()
        finally:
            self.receivers -= 1

    def clear(self) -> None:
        """Forget every message; whoever waits for one goes on waiting."""
        while self._queue:
            self.get_nowait()

    def _drop_expired(self, now: float) -> None:
        while self._queue and self._queue[0][0] <= now:
            self.get_nowait()
            metrics.channel_drops.labels("expired").inc()


class LocalGroup:
    """The channels of this node in one group."""

    def __init__(self) -> None:
        self._channels: dict[LocalChannel, None] = {}

    def __len__(self) -> int:
        return len(self._channels)

    def add(self, channel: LocalChannel) -> None:
        self._channels[channel] = None

    def discard(self, channel: LocalChannel) -> bool:
        """True if nobody is left."""
        self._channels.pop(channel, None)
        return not self._channels

    def offer(self, data: bytes) -> None:
        """Queue `data` in every channel that has room; the others miss it (counted)."""
        for channel in self._channels:
            channel.offer(data)


class LocalChannels:
    """Every stock channel and group of one node, by name. Must be used from one thread only."""

    def __init__(self) -> None:
        self._channels: dict[str, LocalChannel] = {}
        self._groups: dict[str, LocalGroup] = {}

    def __len__(self) -> int:
        return len(self._channels)

    def groups(self) -> list[str]:
        """The groups with a member on this node."""
        return list(self._groups)

    def members(self, group: str) -> int:
        """How many channels of this node are in `group`."""
        return len(self._groups.get(group, ()))

    def open(self, name: str, capacity: int, expiry: float) -> LocalChannel:
        """A new channel."""
        channel = self._channels[name] = LocalChannel(capacity, expiry)
        return channel

    def get(self, name: str) -> LocalChannel | None:
        return self._channels.get(name)

    def close(self, name: str) -> list[str]:
        """Forget a channel, its messages and memberships. Returns the groups that are empty now."""
        channel = self._channels.pop(name, None)
        if channel is None:
            return []
        return [group for group in channel.groups.copy() if self.leave(group, channel)]

    def join(self, group: str, channel: LocalChannel) -> LocalGroup:
        """Put `channel` into `group`: it gets what is published from here on."""
        members = self._groups.get(group)
        if members is None:
            members = self._groups[group] = LocalGroup()
        members.add(channel)
        channel.groups.add(group)
        return members

    def leave(self, group: str, channel: LocalChannel) -> bool:
        """Take `channel` out of `group`. True if the group is empty now."""
        if group not in channel.groups:
            return False
        channel.groups.remove(group)
        if not self._groups[group].discard(channel):
            return False
        del self._groups[group]
        return True

    def offer(self, name: str, data: bytes) -> bool:
        """Queue `data` in a channel. False: it is full. What is for a channel that is gone is counted."""
        channel = self._channels.get(name)
        if channel is None:
            metrics.channel_drops.labels("gone").inc()
            return True
        return channel.offer(data)

    def clear(self) -> list[str]:
        """Forget every message and membership; channels stay. Returns the groups there were."""
        groups = list(self._groups)
        self._groups.clear()
        for channel in self._channels.values():
            channel.groups.clear()
            channel.clear()
        return groups
