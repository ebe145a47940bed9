"""Session keys to identities for the event loop: what arrives during one look-up is answered by the next.

So a thousand people who reconnect together cost a few queries, not two thousand and as many thread hops.
"""

import asyncio
import logging
from asyncio import Future, Task
from functools import partial
from typing import Final

from app.accounts.selectors import identities_of_sessions
from app.database.thread import OutageLog, in_database_thread
from app.realtime.identity import Identity

logger = logging.getLogger(__name__)

LOOKUP_SECONDS: Final = 5.0
"""A database that does not answer for so long is as good as gone: the client is told to come back."""


class LookupFailed(Exception):
    """The database did not answer: who this is, is not known now."""


class SessionLookup:
    """Asks for many sessions with one thread hop. Must be used from one event loop only."""

    def __init__(self) -> None:
        self._waiting: dict[Future[Identity | None], str] = {}
        self._task: Task[None] | None = None
        self._outage = OutageLog(logger, "looking up sessions")

    async def identity_of(self, session_key: str) -> Identity | None:
        """Who is signed in, or a guest, in this session; None: nobody. Raises `LookupFailed`."""
        answer: Future[Identity | None] = asyncio.get_running_loop().create_future()
        self._waiting[answer] = session_key
        if self._task is None:
            self._task = asyncio.create_task(self._answer_all(), name="session look-up")
        try:
            async with asyncio.timeout(LOOKUP_SECONDS):
                return await answer
        except TimeoutError:
            raise LookupFailed(f"no answer for {LOOKUP_SECONDS:.0f} s") from None
        finally:
            self._waiting.pop(answer, None)

    async def _answer_all(self) -> None:
        try:
            while self._waiting:
                batch, self._waiting = self._waiting, {}
                await self._answer(batch)
        finally:
            self._task = None

    async def _answer(self, batch: dict["Future[Identity | None]", str]) -> None:
        try:
            identities = await in_database_thread(partial(identities_of_sessions, set(batch.values())))
        except Exception as error:
            self._outage.failed(error)
            for answer in batch:
                if not answer.done():
                    answer.set_exception(LookupFailed(str(error)))
            return
        self._outage.worked()
        for answer, session_key in batch.items():
            if not answer.done():  # a waiter that left (cancelled, or too late) harms nobody else
                answer.set_result(identities.get(session_key))
