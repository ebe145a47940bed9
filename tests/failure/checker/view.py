"""What one client shows of its streams, made from events and pages, and the record of how it came to that."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tests.failure.checker.record import (
    DELETED,
    EDITED,
    GONE,
    MEMBER_REMOVED,
    POSTED,
    Account,
    Message,
    Received,
    Stay,
)


class View:
    """The streams of one client. Knows no connection."""

    def __init__(self, account: Account, clock: Callable[[], float]) -> None:
        self.complete: set[str] = set()
        """Streams that were paged back to their beginning."""
        self._account = account
        self._clock = clock
        self._stays: dict[str, Stay] = {}
        self._left: dict[str, tuple[int, int]] = {}
        self._lives: dict[str, int] = defaultdict(int)
        self._changes: dict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        """Stream to message id to the last event about it: a page that was read earlier must not undo it."""

    def is_in(self, stream: str) -> bool:
        return stream in self._stays

    def is_complete(self, stream: str) -> bool:
        """In it, with everything from its beginning on."""
        return stream in self._stays and stream in self.complete

    def is_at(self, stream: str, epoch: int, sequence: int) -> bool:
        stay = self._stays.get(stream)
        return stay is not None and stay.epoch == epoch and stay.position >= sequence

    def left_at(self, stream: str) -> tuple[int, int] | None:
        """The position to resume from, for a stream that it is not in now."""
        return None if stream in self._stays else self._left.get(stream)

    def life(self, stream: str) -> int:
        """Changes whenever it starts over from a snapshot."""
        return self._lives[stream]

    def positions(self) -> dict[str, int]:
        """Stream to the highest sequence without a hole before it."""
        return {stream: stay.position for stream, stay in self._stays.items()}

    def begin(self, stream: str, node: str, epoch: int, after: int) -> None:
        """Events after `after` come from now on."""
        self.end(stream, "joined again")
        self._stays[stream] = stay = Stay(stream, node, self._clock(), epoch, after)
        self._account.stays.append(stay)

    def end(self, stream: str, why: str) -> None:
        """No event comes any more. After a reset nothing can be resumed."""
        stay = self._stays.pop(stream, None)
        if stay is not None:
            stay.ended, stay.why = self._clock(), why
            self._left[stream] = (stay.epoch, stay.position)
        if why.startswith("reset"):
            self.forget(stream, why)

    def cut_off(self, why: str) -> None:
        """The connection is gone."""
        for stream in list(self._stays):
            self.end(stream, why)

    def forget(self, stream: str, why: str) -> None:
        """What is shown is not to be trusted any more: a snapshot comes next."""
        if why:
            self._account.errors.append((self._clock(), f"{stream}: {why}"))
        self._left.pop(stream, None)
        self._account.views.pop(stream, None)
        self._changes.pop(stream, None)
        self.complete.discard(stream)
        self._lives[stream] += 1

    def page(self, stream: str, items: list[dict[str, Any]]) -> None:
        """Messages of a snapshot or of history."""
        shown = self._account.views.setdefault(stream, {})
        paged = self._account.paged.setdefault(stream, {})
        for item in items:
            key = item["message_id"]
            paged.setdefault(key, (item["sequence"], self._clock()))
            if key in shown:
                continue  # events have kept it up to date
            shown[key] = Message(
                item["sequence"],
                item["sender"]["id"],
                item["text"],
                item["edited_at"] is not None,
                item["deleted"],
            )
            if change := self._changes[stream].get(key):
                self._apply(shown, change["event"], change["data"], item["sequence"])

    def take(self, frame: dict[str, Any]) -> None:
        """One event with a place."""
        stream, event, data = frame["stream"], frame["event"], frame["data"]
        received = Received(frame["sequence"], event, data.get("message_id", ""), self._clock())
        stay = self._stays.get(stream)
        if stay is None:
            self._account.strays.append((stream, received))
            return
        stay.received.append(received)
        self._apply(self._account.views.setdefault(stream, {}), event, data, frame["sequence"])
        if event in (EDITED, DELETED):
            self._changes[stream][data["message_id"]] = frame
        if event == MEMBER_REMOVED and data["person"] == self._account.person:
            self.end(stream, "removed")
            self.forget(stream, "")
            self._account.shut_out.add(stream)

    def _apply(self, shown: dict[str, Message], event: str, data: dict[str, Any], sequence: int) -> None:
        key = data.get("message_id", "")
        if event == POSTED:
            shown[key] = Message(sequence, data["sender"]["id"], data["text"])
        elif event == EDITED and key in shown and not shown[key].deleted:
            shown[key] = replace(shown[key], text=data["text"], edited=True)
        elif event == DELETED:
            shown[key] = replace(shown.get(key, GONE), text="", deleted=True)
