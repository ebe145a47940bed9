"""Pages of earlier releases at this one's node: it takes whatever they say, and says whatever they need.

`tests/pages` has what the page of each release said to its node and heard from it, as it was recorded.
"""

import json
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from pytest_django import Settings

from app.chat.models import Membership
from app.chat.services import close_room, open_room
from app.journal.keys import new_key
from tests.unit.chat.client import ADA, BOB, client

PAGES: Final = sorted((Path(__file__).parents[2] / "pages").glob("*.json"))
ALIKE: Final = {
    "sequence",
    "resumed",
    "reset",
    "role",
    "muted",
    "earlier",
    "deleted",
    "text",
    "code",
    "banned",
}
"""Fields that have to be what they were, not only of that type."""

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def lobby(node: None, transactional_db: None, settings: Settings) -> None:
    settings.COMMANDS_BURST = 1000
    close_room("lobby")  # the first test finds what the migrations opened
    open_room("lobby", "Lobby", opener=ADA)


class Recording:
    """What a page and its node said, with this test's people, room and keys in it."""

    def __init__(self, path: Path) -> None:
        frames = json.loads(path.read_text())
        joins = [frame["page"]["data"]["room"] for frame in frames if _asks(frame, "chat.join_room")]
        others = [frame["page"]["data"]["person"] for frame in frames if _asks(frame, "chat.set_member")]
        hello = next(frame["node"] for frame in frames if frame.get("node", {}).get("event") == "hello")
        told = path.read_text()
        for before, now in {
            f'"{joins[0]}"': '"lobby"',
            f"room.{joins[0]}": "room.lobby",
            f'"{hello["data"]["user"]["id"]}"': f'"{ADA.id}"',
            f'"{others[0]}"': f'"{BOB.id}"',
            **{key: str(new_key()) for key in _keys(frames)},
        }.items():
            told = told.replace(before, now)
        self.frames: list[dict[str, Any]] = json.loads(told)
        heard = [frame["node"] for frame in self.frames if "node" in frame]
        self.answers = {
            frame["id"]: frame.get("reply", frame.get("error")) for frame in heard if "id" in frame
        }
        self.events = [frame for frame in heard if frame.get("event") == "hello" or "stream" in frame]
        """Those that come whoever else is there."""
        self.posted_before = next(frame["reply"] for frame in heard if "reply" in frame)["position"][
            "sequence"
        ]


def _asks(frame: dict[str, Any], command: str) -> bool:
    return "page" in frame and bool(frame["page"]["command"] == command)


def _keys(frames: list[dict[str, Any]]) -> list[str]:
    """In the order in which they were drawn."""
    return [
        frame["page"]["data"]["key"] for frame in frames if "page" in frame and "key" in frame["page"]["data"]
    ]


def differences(recorded: Any, now: Any, path: str = "") -> list[str]:
    """What a page that knows `recorded` does not find in `now`: more is no difference."""
    if isinstance(recorded, dict) and isinstance(now, dict):
        missing = [f"{path}.{name} is missing" for name in recorded.keys() - now.keys()]
        both = recorded.keys() & now.keys()
        return missing + [
            one for name in sorted(both) for one in differences(recorded[name], now[name], f"{path}.{name}")
        ]
    if isinstance(recorded, list) and isinstance(now, list):
        if not now and recorded:
            return [f"{path} is empty"]
        return [
            one for was, is_ in zip(recorded, now, strict=False) for one in differences(was, is_, f"{path}[]")
        ]
    if type(recorded) is not type(now) and recorded is not None:
        return [f"{path} was {recorded!r} and is {now!r}"]
    if path.rpartition(".")[2] in ALIKE and recorded != now:
        return [f"{path} was {recorded!r} and is {now!r}"]
    return []


@pytest.fixture(params=PAGES, ids=lambda page: page.stem)
def recording(request: pytest.FixtureRequest, lobby: None) -> Recording:
    """Of a page whose reader had been there before."""
    recording = Recording(request.param)
    ada = Membership.objects.filter(room__slug="lobby", person=ADA.id)
    ada.update(last_read=recording.posted_before)
    return recording


async def test_the_page_of_an_earlier_release_works_with_this_node(recording: Recording) -> None:
    epochs: dict[int, int] = {}
    found: list[str] = []
    heard: list[dict[str, Any]] = []
    async with client(BOB) as bob, AsyncExitStack() as stack:
        for number in range(recording.posted_before):
            await bob.post(f"number {number}")
        await bob.command("chat.join_room", room="lobby")
        for frame in recording.frames:
            if frame.get("node", {}).get("event") == "hello":
                await stack.aclose()
                ada = await stack.enter_async_context(client(ADA))
                ada.events = heard
            elif "page" in frame:
                command, was = frame["page"]["command"], recording.answers[frame["page"]["id"]]
                now = await ada.command(command, **_of_today(frame["page"]["data"], epochs))
                if "code" in now and "code" not in was:
                    found.append(f"{command} is refused: {now}")
                    continue
                if "position" in was:
                    epochs[was["position"]["epoch"]] = now["position"]["epoch"]
                found += differences(was, now, command)
        await ada.command("ping")  # what was told before it has come
    for was in recording.events:
        came = [one for one in heard if one.get("event") == was["event"]]
        came = [one for one in came if one.get("sequence") == was.get("sequence")]
        found += differences(was, came[0], was["event"]) if came else [f"did not come: {was}"]
    assert not found, "\n".join(found)


def _of_today(data: Any, epochs: dict[int, int]) -> Any:
    """With the epoch that the stream has here."""
    if isinstance(data, dict):
        return {
            name: epochs.get(value) if name == "epoch" else _of_today(value, epochs)
            for name, value in data.items()
        }
    return [_of_today(one, epochs) for one in data] if isinstance(data, list) else data


@pytest.mark.parametrize(
    ("recorded", "now", "says"),
    [
        ({"a": 1}, {"a": 2, "b": 3}, []),
        ({"a": None}, {"a": "x"}, []),
        ({"a": [{"b": 1}]}, {"a": [{"b": 1, "c": 2}]}, []),
        ({"a": 1}, {"b": 1}, [".a is missing"]),
        ({"a": 1}, {"a": "1"}, [".a was 1 and is '1'"]),
        ({"a": True}, {"a": 1}, [".a was True and is 1"]),
        ({"a": "x"}, {"a": None}, [".a was 'x' and is None"]),
        ({"a": [{"b": 1}]}, {"a": []}, [".a is empty"]),
        ({"a": [{"b": 1}]}, {"a": [{}]}, [".a[].b is missing"]),
        ({"role": "owner"}, {"role": "boss"}, [".role was 'owner' and is 'boss'"]),
    ],
)
def test_what_a_page_would_miss_is_found(recorded: Any, now: Any, says: list[str]) -> None:
    assert differences(recorded, now) == says
