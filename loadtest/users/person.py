"""A person with one connection: comes in as a guest, listens, notes what comes, comes back when lost."""

import time
from functools import partial
from typing import Any, ClassVar, Final

import gevent
from locust import User

from loadtest.conductor import Conductor
from loadtest.connection import ConnectFailed, Connection, Data, Lost, Rejected, Unanswered
from loadtest.visitor import Refused, Visitor
from loadtest.waits import Waits

BACK_SECONDS: Final = 60.0
"""Who comes back after a loss is back in time until then."""

_said_at: dict[str, tuple[float, str]] = {}
"""What this process said, by its name: when, and on which node."""


class Person(User):  # type: ignore[misc]  # untyped library
    """Subclasses say where they go in (`path`), what they do then (`arrived`), what they make of events."""

    abstract = True
    path: ClassVar[str] = "/realtime/"
    talks: ClassVar[bool] = True
    """Whether a run is not to be trusted when this person never says anything."""

    _number: ClassVar[int] = 0

    def on_start(self) -> None:
        Person._number += 1
        self.conductor: Conductor = self.environment.conductor
        self.number = Person._number
        self.name = f"load-{self.conductor.id}-{self.number}"
        self.account = self.conductor.account
        self.account.counts["users"] += 1
        if self.talks:
            self.account.senders.add(self.name)
        self._visitor = Visitor(self.conductor.door)
        self._leaving = False
        self._waits = Waits()
        self._refusal: float | None = None
        """When to come back, as the node said that refused us last."""
        self._released: float | None = None
        """When to come back, as the node said that let us go."""
        self.connection: Connection | None = None
        self.conductor.lost.append(self.lose)
        self._stay = self.conductor.spawn(self._be_there)

    def on_stop(self) -> None:
        self._leaving = True
        if self.connection is not None:
            self.connection.close()
        self._stay.kill(block=False)

    def lose(self) -> None:
        """As if the network were gone."""
        if self.connection is not None:
            self.connection.shutdown()

    def arrived(self, connection: Connection) -> None:
        """Connected, for the first time or again; what is heard goes to `take` from here on."""

    def take(self, connection: Connection, message: Data, size: int) -> None:
        """A frame came: an event or a reply, in the order of the wire."""

    def joined(self) -> None:
        """This person is where they wanted to be, for the first time."""
        self.account.counts["joined"] += 1

    def command(self, name: str, **data: Any) -> Data | None:
        """The reply; None where there was none, which is counted."""
        connection = self.connection
        if connection is None:
            return None
        try:
            return connection.command(name, **data)
        except Unanswered:
            self.account.counts["unanswered"] += 1
        except Rejected as error:
            self.account.counts["rejected"] += 1
            gevent.sleep(error.retry_after)
        return None

    def note_said(self, name: str, node: str) -> None:
        """Begin to measure how long `name` takes to whoever hears it in this process."""
        _said_at[name] = time.perf_counter(), node

    def note_heard(self, kind: str, name: str, size: int) -> None:
        """`name` was heard here."""
        said = _said_at.get(name)
        if said is not None and self.connection is not None:
            at, node = said
            self.conductor.delivered(kind, node != self.connection.node, time.perf_counter() - at, size)

    # --- Being there -------------------------------------------------------------------------------------

    def _be_there(self) -> None:
        lost_at: float | None = None
        while not self._leaving:
            connection = self._connect(lost_at)
            if connection is None:
                gevent.sleep(self._waits.refused(self._refusal))
                continue
            self._waits.connected()
            self.connection, self._released = connection, None
            arriving = self.conductor.spawn(self.arrived, connection)
            try:
                connection.listen(partial(self._take, connection))
            except Lost:
                if not self._leaving:
                    self.account.counts["lost"] += 1
                    lost_at = time.monotonic()
            finally:
                self.connection = None
                connection.shutdown()
                arriving.kill(block=False)
            gevent.sleep(self._waits.lost(self._released))

    def _take(self, connection: Connection, message: Data, size: int) -> None:
        if message.get("event") == "connection.released":
            self._released = message["data"]["retry_after"]
        else:
            self.take(connection, message, size)

    def _connect(self, lost_at: float | None) -> Connection | None:
        counts = self.account.counts
        counts["connects"] += 1
        began = time.perf_counter()
        failure: Exception | None = None
        connection = None
        try:
            self._visitor.enter(self.name)
            ticket = self._visitor.ticket()
            began = time.perf_counter()
            door = self.conductor.door
            connection = Connection(door.url, self.path, ticket, door.name)
        except (ConnectFailed, Refused) as error:
            failure = error
            self._refusal = error.retry_after
            counts["refused"] += 1
        else:
            self.account.hellos[connection.node] += 1
            if lost_at is not None:
                counts["reconnects"] += 1
                counts["back"] += time.monotonic() - lost_at <= BACK_SECONDS
        self.environment.events.request.fire(
            request_type="WS",
            name="connect",
            response_time=(time.perf_counter() - began) * 1000,
            response_length=0,
            exception=failure,
            context={},
        )
        return connection
