"""The second look at who came in by ticket: within a second, many at a time, away from the connect itself.

Never a task per connection; a connection that is gone is not asked about.
"""

import asyncio
import logging
from asyncio import Task
from functools import partial
from typing import Final
from weakref import ref

from app.accounts.selectors import claims_that_no_longer_hold
from app.accounts.tickets import Claim
from app.database.thread import OutageLog, in_database_thread
from app.observability import metrics
from app.realtime.close_codes import IDENTITY_REVOKED, REASONS
from app.realtime.connection import Connection

logger = logging.getLogger(__name__)

VERIFY_SECONDS: Final = 0.5
"""From the first connect of a batch to its question: half of the second within which all are verified."""


class Verification:
    """Verifies claims in batches and closes what no longer holds. Must be used from one event loop only."""

    def __init__(self) -> None:
        self._pending: list[tuple[Claim, ref[Connection]]] = []
        self._task: Task[None] | None = None
        self._outage = OutageLog(logger, "verifying accounts")

    def verify_later(self, claim: Claim, connection: Connection) -> None:
        """Close `connection` with IDENTITY_REVOKED within a second if `claim` does not hold; once."""
        self._pending.append((claim, ref(connection)))
        if self._task is None:
            self._task = asyncio.create_task(self._verify_all(), name="verification")

    async def _verify_all(self) -> None:
        try:
            while self._pending:
                await asyncio.sleep(VERIFY_SECONDS)
                batch, self._pending = self._pending, []
                await self._verify([(claim, known) for claim, known in batch if known() is not None])
        finally:
            self._task = None

    async def _verify(self, batch: list[tuple[Claim, "ref[Connection]"]]) -> None:
        try:
            revoked = await in_database_thread(
                partial(claims_that_no_longer_hold, {claim for claim, _ in batch})
            )
        except Exception as error:
            self._outage.failed(error)
            metrics.verifications.labels("failed").inc(len(batch))
            self._pending += batch
            return
        self._outage.worked()
        closed = 0
        for claim, known in batch:
            if claim in revoked and (connection := known()) is not None:
                connection.close(IDENTITY_REVOKED, REASONS[IDENTITY_REVOKED])
                closed += 1
        metrics.verifications.labels("revoked").inc(closed)
        metrics.verifications.labels("held").inc(len(batch) - closed)
