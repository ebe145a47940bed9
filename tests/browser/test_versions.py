"""Pages and nodes of different releases: a page passes over what it does not know; what it says is kept."""

import json
import os
import re
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import expect

from app import VERSION
from tests.browser.conftest import Open
from tests.browser.deployment import Deployment
from tests.browser.interference import Frame, Interference
from tests.browser.stranger import Stranger
from tests.browser.test_members import close, members, row
from tests.browser.test_nothing_lost import until
from tests.browser.wire import Wire
from tests.person import Person

RECORDED: Final = Path(__file__).parents[1] / "pages" / f"{VERSION}.json"
SAID_BEFORE: Final = 51
"""One more than a snapshot has, so that there is an earlier page."""
COMMANDS: Final = Path(__file__).parents[2] / "app" / "chat" / "static" / "chat"


def with_more(said: Any) -> Any:
    """As a later release might say it: every object has a field more."""
    if isinstance(said, dict):
        return {"mood": {"sunny": [1, None]}} | {name: with_more(value) for name, value in said.items()}
    return [with_more(one) for one in said] if isinstance(said, list) else said


def of_a_later_release(frame: Frame) -> list[Frame]:
    """With more fields, among frames and events that no page knows yet; an edit is called something else."""
    if frame.get("event") == "chat.message_edited":
        frame = frame | {"event": "chat.message_decorated"}
    unheard_of = {"event": "node.mood_changed", "data": {"mood": "sunny"}}
    return [{"notice": "a frame of another kind"}, unheard_of, with_more(frame)]


def test_a_page_passes_over_what_a_later_release_says(
    open_browser: Open, deployment: Deployment, wire: Wire, room: str
) -> None:
    ada = open_browser("Ada", wire.port)
    ada.network_may_fail = True
    between = Interference(events=of_a_later_release)
    ada.page.route_web_socket("**/realtime/", between.route)
    ada.page.reload()
    ada.wait_until_joined()
    with Stranger.guest("Eve", deployment.port(1), room) as eve:
        first = eve.say("first")
        ada.sees("first")
        eve.write("chat.edit_message", message_id=first, text="of a later release")
        eve.say("behind it")
        ada.sees("behind it")
        assert ada.texts() == ["first", "behind it"]
        assert not between.said("chat.resume"), "the page missed nothing: it knows where it is"
        wire.cut()
        ada.status("Connection lost")
        wire.mend()
        eve.say("while away")
        ada.wait_until_joined()
        ada.sees("while away")
    [[resumed]] = [command["rooms"] for command in between.said("chat.resume")]
    assert (resumed["room"], resumed["sequence"]) == (room, 3)
    ada.say("and back")
    ada.sees("and back")
    assert ada.page.locator(".pending").count() == 0


def test_what_this_page_says_is_recorded(
    open_browser: Open, deployment: Deployment, wire: Wire, room: str
) -> None:
    """`RECORD=1` writes it down: nodes of the next release have to work with a page that says this."""
    ada = open_browser("Ada", wire.port)
    ada.network_may_fail = True
    frames: list[Frame] = []

    def node_said(frame: Frame) -> list[Frame]:
        frames.append({"node": frame})
        return [frame]

    def page_said(frame: Frame) -> None:
        frames.append({"page": frame})

    with Stranger.guest("Eve", deployment.port(1), room) as eve:
        for number in range(SAID_BEFORE):
            eve.say(f"number {number}")
        eve.command("chat.join_room", room=room)
        between = Interference(page_said, node_said)
        ada.page.route_web_socket("**/realtime/", between.route)
        ada.page.reload()
        ada.wait_until_joined()
        do_everything(ada, wire)
        until(ada, lambda: bool(between.said("ping")))
        position = max(frame["node"]["sequence"] for frame in frames if frame.get("node", {}).get("stream"))
        me = next(frame["node"] for frame in frames if frame.get("node", {}).get("event") == "hello")
        removed = {"room": room, "person": me["data"]["user"]["id"], "person_name": "Ada", "banned": False}
        place = {"stream": f"room.{room}", "sequence": position + 1}
        between.tell({**place, "event": "chat.member_removed", "data": removed})
        until(ada, lambda: any("reply" in f.get("node", {}) for f in frames[-1:]) and left(between))
    said = {command["command"] for command in between.commands}
    known = {
        name
        for file in COMMANDS.glob("*.js")
        for name in re.findall(r'"((?:chat\.)[a-z_]+)"', file.read_text())
    }
    events = {frame["node"]["event"] for frame in frames if "event" in frame.get("node", {})}
    assert known - events - said == set(), "this page can say more than was recorded"
    if os.environ.get("RECORD"):
        lines = ",\n".join(json.dumps(frame) for frame in frames)
        RECORDED.write_text(f"[\n{lines}\n]\n")
    assert shapes(frames) == shapes(json.loads(RECORDED.read_text())), "record it again, with RECORD=1"


def left(between: Interference) -> bool:
    return bool(between.said("chat.leave_room"))


def do_everything(ada: Person, wire: Wire) -> None:
    """All that a page can ask for, but for leaving."""
    ada.say("a thinng")
    ada.sees("a thinng")
    ada.page.keyboard.press("ArrowUp")
    ada.page.get_by_role("textbox", name="Edit message").fill("a thing")
    ada.page.keyboard.press("Enter")
    ada.sees("a thing")
    message = ada.page.locator(".message", has_text="a thing")
    expect(message.locator(".edited")).to_have_text("edited")
    message.get_by_role("button", name="Delete").focus()
    ada.page.keyboard.press("Enter")
    ada.page.get_by_role("button", name="Delete", exact=True).last.click()
    expect(ada.page.locator(".message.deleted")).to_have_count(1)
    ada.read_from_the_beginning()
    members(ada)
    ada.page.get_by_label("Add somebody by name").fill("Nobody of this name")
    ada.page.get_by_role("button", name="Add", exact=True).click()
    expect(ada.page.locator("#members-note")).to_contain_text("No account is called")
    row(ada, "Eve").get_by_role("button", name="Mute").click()
    expect(row(ada, "Eve").locator(".tag.warning")).to_have_text("muted")
    row(ada, "Eve").get_by_role("button", name="Remove").click()
    ada.page.get_by_role("button", name="Remove", exact=True).click()
    expect(members(ada).locator(".name")).to_have_text(["Ada"])
    close(ada)
    wire.cut()
    ada.status("Connection lost")
    wire.mend()
    ada.wait_until_joined()


def shapes(frames: list[Frame]) -> dict[str, list[str]]:
    """Command → the names of the fields that it was ever sent with."""
    found: dict[str, set[str]] = {}
    for frame in frames:
        if "page" in frame:
            found.setdefault(frame["page"]["command"], set()).update(frame["page"]["data"])
    return {command: sorted(fields) for command, fields in sorted(found.items())}
