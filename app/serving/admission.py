"""Whether one more connection is welcome: asked before anything is done for it, answered from what is known.

The node that refuses is still well for those it has; so whoever is refused should come back, elsewhere.
"""

import resource
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final

from django.conf import settings

from app.accounts.refusals import Receive, Scope, Send, refuse

TICK_SECONDS: Final = 0.1


class Admission:
    """One node's. `tick` is called ten times a second, by the loop that serves the connections."""

    def __init__(self) -> None:
        self.connections: Callable[[], int] = lambda: 0
        """How many the server has open, of whatever kind."""
        self._due = float("inf")
        self._lag = 0.0
        self._places: int | None = None

    def tick(self) -> None:
        """The loop turns. How late it was is forgotten within a second or so."""
        now = monotonic()
        self._lag = max(now - self._due, self._lag / 2)
        self._due = now + TICK_SECONDS

    def refusal(self, connections: int) -> str | None:
        """Why a connection beside so many others is refused, a reason of `REFUSALS`; None: it is welcome."""
        if max(self._lag, monotonic() - self._due) > settings.REFUSE_LAG_SECONDS:
            return "late"
        if connections >= settings.CONNECTIONS_LIMIT:
            return "full"
        if self._places is None:
            self._places = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - settings.DESCRIPTORS_RESERVED
        return "descriptors" if connections >= self._places else None


admission: Final = Admission()


class Welcome:
    """ASGI: lets a request for a response without an end through only where one more connection is welcome.
    The server asks for upgrades itself, earlier."""

    def __init__(self, app: Callable[[Scope, Receive, Send], Awaitable[None]]) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        reason = admission.refusal(admission.connections() - 1)  # without this one
        if reason is None:
            await self.app(scope, receive, send)
        else:
            await refuse(reason, scope, receive, send)
