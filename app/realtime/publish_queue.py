"""What waits to be published: oldest first, bounded in bytes and in age. Packed commands, no I/O."""

from collections import deque


class PublishQueue:
    """Holds at most `limit_bytes`, each for at most `limit_seconds`. Times are the event loop's."""

    def __init__(self, limit_bytes: int, limit_seconds: float) -> None:
        self._limit_bytes = limit_bytes
        self._limit_seconds = limit_seconds
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, command: bytes, now: float, unsent: int) -> bool:
        """Queue `command`. False: with the `unsent` bytes already on their way it would be too much."""
        if self._bytes + unsent + len(command) > self._limit_bytes:
            return False
        self._waiting.append((now, command))
        self._bytes += len(command)
        return True

    def expire(self, now: float) -> int:
        """Drop what is too old. Returns how many."""
        waiting = self._waiting
        count = 0
        while waiting and waiting[0][0] < now - self._limit_seconds:
            self._bytes -= len(waiting.popleft()[1])
            count += 1
        return count

    def take(self) -> tuple[bytes, int]:
        """Empty the queue: all commands joined, and how many they are."""
        commands = [command for _, command in self._waiting]
        self._waiting.clear()
        self._bytes = 0
        return b"".join(commands), len(commands)
