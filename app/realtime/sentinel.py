"""Where the Redis primary is: as the Sentinels say it, at once and whenever it changes.

A lost Sentinel is no reason to leave a primary: this module only tells, and it forgets nothing it knows.
"""

import asyncio
import logging
import random
from asyncio import Event, Future, Task
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, Protocol

from app.realtime.redis_connection import (
    Address,
    Credentials,
    RedisConnection,
    RedisError,
    RedisLost,
    open_connection,
    pack,
)

logger = logging.getLogger(__name__)

POLL_SECONDS: Final = 0.5
"""How often each Sentinel is asked, in case its announcement got lost."""
WORD_SECONDS: Final = 10.0
"""How long a silent Sentinel's last word counts: Sentinels tell each other within about 2 s."""
RETRY_SECONDS: Final = 1.0
ANNOUNCEMENTS: Final = ("+switch-master", "+promoted-slave")
"""Every Sentinel says the first once it knows. The one that leads a failover says the second some seconds
earlier, when the new primary is ready and the old one still takes what is published."""


class PrimaryUnknown(RedisError):
    """No Sentinel could say where the primary is; the text has each one's reason."""


class PrimaryFinder(Protocol):
    """Finds the primary of one Redis."""

    def start(self, moved: Callable[[Address], None]) -> None:
        """Begin to watch; `moved` is called whenever the primary becomes another one."""

    async def find(self, seconds: float) -> Address:
        """Where the primary is now. Raises `PrimaryUnknown`, after `seconds` at the latest."""

    async def stop(self) -> None:
        """End tasks and connections."""


class FixedPrimary:
    """A primary that always has one address; whether it is the primary is for its connection to check."""

    def __init__(self, address: Address) -> None:
        self._address = address

    def start(self, moved: Callable[[Address], None]) -> None:
        pass

    async def find(self, seconds: float) -> Address:
        return self._address

    async def stop(self) -> None:
        pass


class _Word(NamedTuple):
    """What one Sentinel said. A failover raises the epoch, so of two words the higher is the newer."""

    epoch: int
    primary: Address
    at: float


class Sentinels:
    """Keeps one connection to each Sentinel, which carries questions and announcements alike."""

    def __init__(
        self,
        addresses: Sequence[Address],
        primary_name: str,
        credentials: Credentials,
        connect_seconds: float,
    ) -> None:
        self._addresses = addresses
        self._primary_name = primary_name
        self._credentials = credentials
        self._connect_seconds = connect_seconds
        self._words: dict[Address, _Word] = {}
        self._troubles: dict[Address, str] = {}
        self._asked = {address: Event() for address in addresses}
        self._waiting: list[Future[None]] = []
        self._tasks: list[Task[None]] = []
        self._primary: Address | None = None

    def start(self, moved: Callable[[Address], None]) -> None:
        self._moved = moved
        self._tasks = [asyncio.create_task(self._watch(address)) for address in self._addresses]

    async def stop(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def find(self, seconds: float) -> Address:
        """Ask all Sentinels at once and take the first answer; when none comes, the last they gave."""
        heard: Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(heard)
        for asked in self._asked.values():
            asked.set()
        try:
            async with asyncio.timeout(seconds):
                await heard
        except TimeoutError:
            if self._primary is None:
                troubles = "; ".join(self._troubles.values()) or f"no answer within {seconds:g} s"
                raise PrimaryUnknown(f"no Sentinel knows a primary: {troubles}") from None
        finally:
            self._waiting.remove(heard)
        assert self._primary is not None
        return self._primary

    async def _watch(self, address: Address) -> None:
        """Stay connected to one Sentinel for ever."""
        asked = self._asked[address]
        while True:
            try:
                await self._listen(address)
            except RedisError as error:
                self._troubles[address] = str(error)
            except Exception:
                # A fault of ours, but no reason to stop listening to this Sentinel.
                logger.exception("bus: trouble with the Sentinel at %s:%d", *address)
            asked.clear()
            await _wait(asked, RETRY_SECONDS * random.uniform(0.5, 1.0))  # noqa: S311

    async def _listen(self, address: Address) -> None:
        """Ask every `POLL_SECONDS`, and at once when it announces something or `find` wants to know."""
        asked = self._asked[address]
        connection = await open_connection(
            address, self._credentials, self._connect_seconds, lambda _: asked.set()
        )
        connection.lost = lambda _: asked.set()
        try:
            connection.send(pack("SUBSCRIBE", *ANNOUNCEMENTS), len(ANNOUNCEMENTS), by_push=True)
            while True:
                asked.clear()
                await self._ask(connection)
                await _wait(asked, POLL_SECONDS)
        finally:
            connection.lost = None
            connection.abort("closed")
            await connection.closed

    async def _ask(self, connection: RedisConnection) -> None:
        """Both questions in one write: Sentinel answers them in one turn, so they belong together.

        During a failover only the first one's answer is already the new address.
        """
        name = self._primary_name
        questions = pack("SENTINEL", "GET-MASTER-ADDR-BY-NAME", name) + pack("SENTINEL", "MASTER", name)
        try:
            async with asyncio.timeout(self._connect_seconds):
                answers = await connection.send(questions, 2)
        except TimeoutError:
            raise RedisLost(f"{connection} (Sentinel) did not answer") from None
        if len(answers) < 2:
            raise RedisLost(f"{connection} (Sentinel) was lost: {connection.lost_reason}")
        self._heard(connection, *answers)

    def _heard(self, connection: RedisConnection, place: Any, description: Any) -> None:
        if not isinstance(place, list) or not isinstance(description, dict):
            problem = description if isinstance(description, Exception) else "an answer without an address"
            raise RedisError(f"{connection} (Sentinel) does not know {self._primary_name!r}: {problem}")
        now = asyncio.get_running_loop().time()
        primary = (place[0].decode(), int(place[1]))
        self._words[connection.address] = _Word(int(description[b"config-epoch"]), primary, now)
        self._troubles.pop(connection.address, None)
        recent = [word for word in self._words.values() if word.at > now - WORD_SECONDS]
        newest = max(recent, key=lambda word: (word.epoch, word.primary == self._primary, word.at))
        changed = newest.primary != self._primary
        self._primary = newest.primary
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)
        if changed:
            self._moved(self._primary)


async def _wait(event: Event, seconds: float) -> None:
    """Until `event` is set, for `seconds` at most."""
    try:
        async with asyncio.timeout(seconds):
            await event.wait()
    except TimeoutError:
        pass
