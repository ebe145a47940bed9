"""Between one page and its node: frames are lost, repeated, held back and made up, and commands are noted."""

import json
from collections.abc import Callable, Iterable
from typing import Any

from playwright.sync_api import WebSocketRoute

Frame = dict[str, Any]


class Interference:
    """Give `route` to `route_web_socket`; what a page says and hears goes through here from then on."""

    def __init__(
        self,
        answer: Callable[[Frame], Iterable[Frame] | None] = lambda command: None,
        events: Callable[[Frame], Iterable[Frame]] = lambda frame: [frame],
    ) -> None:
        """`answer`: what a command gets instead of the node's (None: it goes there). `events`: what a frame
        of the node becomes."""
        self.commands: list[Frame] = []
        self._answer = answer
        self._events = events
        self._page: WebSocketRoute | None = None

    def route(self, page: WebSocketRoute) -> None:
        self._page = page
        node = page.connect_to_server()

        def said(text: str | bytes) -> None:
            command = json.loads(text)
            self.commands.append(command)
            answer = self._answer(command)
            if answer is None:
                node.send(text)
            for frame in answer or ():
                page.send(json.dumps(frame))

        def heard(text: str | bytes) -> None:
            for frame in self._events(json.loads(text)):
                page.send(json.dumps(frame))

        page.on_message(said)
        node.on_message(heard)

    def tell(self, frame: Frame) -> None:
        """A frame of our own, on the newest connection."""
        assert self._page is not None
        self._page.send(json.dumps(frame))

    def said(self, command: str) -> list[Frame]:
        """The data of each such command, in order."""
        return [one["data"] for one in self.commands if one["command"] == command]
