"""Who says numbered markers by `group_send`: they cross by the bus or not at all, for nothing stores them."""

import secrets
from typing import ClassVar

from locust import task

from loadtest.connection import Connection, Data, Lost
from loadtest.proof.account import Line, Listener, Said, digest
from loadtest.users.person import Person

KIND = "marker"
GROUP = "load"


class MarkerUser(Person):
    """All are in one group. Who hears is expected to hear each marker that was said after all had joined."""

    abstract = True
    path: ClassVar[str] = f"/markers/{GROUP}/"

    def on_start(self) -> None:
        self._said = 0
        self._listener: Listener | None = None
        super().on_start()

    def arrived(self, connection: Connection) -> None:
        if self._listener is None:
            self._listener = Listener(self.name, connection.node, KIND, GROUP, 0, 0)
            self.account.listeners.append(self._listener)
            self.joined()

    def take(self, connection: Connection, message: Data, size: int) -> None:
        if message["event"] == "marker.said" and self._listener is not None:
            said = message["data"]["said"]
            self.account.hear(self._listener, said["by"], said["number"], said["text"])
            if said["by"] != self.name:
                self.note_heard(KIND, said["text"], size)

    @task  # type: ignore[untyped-decorator]
    def say(self) -> None:
        """The next number. Nobody answers: what was handed to the connection counts as said."""
        connection = self.connection
        if connection is None or not self.conductor.begun.is_set() or self.conductor.quiet.is_set():
            return
        self._said += 1
        text = f"{self.name} {self._said} {secrets.token_hex(8)}"
        line = Line(KIND, GROUP, 0, self.name)
        self.account.say(Said(line, self._said, digest(text), self.name, connection.node))
        self.note_said(text, connection.node)
        try:
            connection.send({"by": self.name, "number": self._said, "text": text})
        except Lost:
            return  # it stays said: that it is missing somewhere is for the judge
