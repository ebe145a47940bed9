"""Session keys to claims for the event loop: what arrives during one look-up is answered by the next.

So a thousand people who reconnect together cost a few queries, not two thousand and as many thread hops.
"""

import logging
from typing import Final

from app.accounts.selectors import claims_of_sessions
from app.accounts.tickets import Claim
from app.database.batches import Batches, NoAnswer

logger = logging.getLogger(__name__)


class LookupFailed(Exception):
    """The database did not answer: who this is, is not known now."""


class SessionLookup:
    """Asks for many sessions with one thread hop. Must be used from one event loop only."""

    def __init__(self) -> None:
        # Who connects waits for nobody who may come after them.
        self._batches: Final = Batches(_claims, logger, "looking up sessions", awaits_rush=False)

    async def claim_of(self, session_key: str) -> Claim | None:
        """Who is signed in, or a guest, in this session; None: nobody. Raises `LookupFailed`."""
        try:
            return await self._batches.ask(session_key)
        except NoAnswer as error:
            raise LookupFailed(str(error)) from None


def _claims(session_keys: list[str]) -> list[Claim | Exception | None]:
    found = claims_of_sessions(set(session_keys))
    return [found.get(key) for key in session_keys]
