"""Nothing lost, nothing twice, in order: whoever was away ends with the same page as whoever never left."""

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect

from app.journal.keys import new_key
from tests.browser.conftest import Open
from tests.browser.deployment import Deployment
from tests.browser.interference import Frame, Interference
from tests.browser.stranger import Stranger, talk
from tests.browser.wire import Wire
from tests.person import Person, Shown

HOUR_MILLISECONDS = 3_600_000


def comes_to_show(person: Person, stored: list[Shown]) -> None:
    """The page shows exactly what the server has, after it had time to."""
    last = person.page.locator(f'.message:not(.pending)[data-id="{stored[-1].message_id}"]')
    expect(last).to_have_count(1, timeout=30_000)
    with suppress(AssertionError):
        until(person, lambda: person.read_from_the_beginning() == stored)
    assert person.shown() == stored
    assert person.page.locator(".pending").count() == 0


def kept_unsent(page: Page) -> list[str]:
    keys: list[str] = page.evaluate("Object.keys(localStorage).filter(key => key.startsWith('unsent '))")
    return keys


def until(person: Person, condition: Callable[[], bool], seconds: float = 30) -> None:
    """Wait, while the person's page goes on."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not come to that"
        person.page.wait_for_timeout(50)


def without_answers(route: WebSocketRoute) -> None:
    """A connection that opens, and on which nothing ever comes."""


def test_two_windows_end_equal_to_the_server(
    open_browser: Open, deployment: Deployment, wire: Wire, room: str
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    bob = open_browser("Bob", wire.port)
    bob.network_may_fail = True
    for person, other in ((ada, bob), (bob, ada)):
        for thing in ("first", "second", "third"):
            person.say(f"{thing} of {person.name}")
            other.sees(f"{thing} of {person.name}")
    ada_box = ada.page.get_by_role("textbox", name="Message to")
    ada_box.fill("half a thought of Ada")
    ada.page.close()
    wire.hold()
    bob.say("said while the network broke")
    bob.page.get_by_role("textbox", name="Message to").fill("half a thought of Bob")
    with Stranger.guest("Eve", deployment.port(2), room) as eve:
        on_its_way = bob.page.locator(".pending").get_attribute("data-id")
        until(bob, lambda: eve.stored()[-1].message_id == on_its_way)
        wire.cut()
        bob.status("Connection lost")
        with Stranger.like(bob, deployment.port(2), room) as bobs_phone:
            mine = [message for message in eve.stored() if message.text == "first of Bob"]
            change = {"message_id": mine[0].message_id, "text": "first of Bob, better said"}
            bobs_phone.write("chat.edit_message", **change)
            mine = [message for message in eve.stored() if message.text == "second of Bob"]
            bobs_phone.write("chat.delete_message", message_id=mine[0].message_id)
        talk(deployment.port(2), room, 500)
        stored = eve.stored()
    assert len(stored) == 507
    assert sum(message.deleted for message in stored) > 20
    wire.mend()
    bob.wait_until_joined()
    ada.open_tab()
    ada.wait_until_joined()
    for person in (ada, bob):
        comes_to_show(person, stored)
        box = person.page.get_by_role("textbox", name="Message to")
        expect(box).to_have_value(f"half a thought of {person.name}")
        assert kept_unsent(person.page) == []


def test_who_missed_too_much_begins_with_a_snapshot_and_pages_back(
    open_browser: Open, deployment: Deployment, wire: Wire, room: str
) -> None:
    bob = open_browser("Bob", wire.port)
    bob.network_may_fail = True
    bob.say("before")
    bob.sees("before")
    wire.cut()
    bob.status("Connection lost")
    talk(deployment.port(1), room, 1000, people=20)
    with Stranger.guest("Eve", deployment.port(2), room) as eve:
        eve.say("the last one")
        stored = eve.stored()
    wire.mend()
    bob.wait_until_joined()
    bob.sees("the last one")
    assert bob.shown() == stored[-50:]
    comes_to_show(bob, stored)


def test_own_messages_are_edited_and_deleted_by_keyboard(
    open_browser: Open, deployment: Deployment, room: str
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    bob = open_browser("Bob", deployment.port(2))
    for text in ("one thing", "annother"):
        ada.say(text)
        bob.sees(text)
    keyboard = ada.page.keyboard
    box = ada.page.get_by_role("textbox", name="Message to")
    expect(box).to_be_focused()
    keyboard.press("ArrowUp")
    editor = ada.page.get_by_role("textbox", name="Edit message")
    expect(editor).to_be_focused()
    expect(editor).to_have_value("annother")
    keyboard.press("Escape")
    expect(box).to_be_focused()
    keyboard.press("ArrowUp")
    editor.fill("another")
    keyboard.press("Enter")
    expect(box).to_be_focused()
    for person in (ada, bob):
        message = person.page.locator(".message", has_text="another")
        expect(message.locator(".edited")).to_have_text("edited")
    first = ada.page.locator(".message", has_text="one thing")
    first.get_by_role("button", name="Delete").focus()
    keyboard.press("Enter")
    expect(ada.page.get_by_role("button", name="Keep")).to_be_focused()
    keyboard.press("Shift+Tab")
    keyboard.press("Enter")
    expect(box).to_be_focused()
    for person in (ada, bob):
        expect(person.page.locator(".deleted .bubble")).to_have_text(["Message deleted"])
        assert "one thing" not in person.page.locator("main").inner_text()
    assert bob.page.get_by_role("button", name="Delete").count() == 0
    with Stranger.guest("Eve", deployment.port(3), room) as eve:
        for person in (ada, bob):
            comes_to_show(person, eve.stored())


def test_a_moderator_deletes_what_others_said_and_takes_them_out(
    open_browser: Open, deployment: Deployment, room: str
) -> None:
    ada = open_browser("Ada", deployment.port(1))  # opens the room, so it is hers
    bob = open_browser("Bob", deployment.port(2))
    bob.say("something rude")
    ada.sees("something rude")
    message = ada.page.locator(".message", has_text="something rude")
    message.hover()
    message.get_by_role("button", name="Delete").click()
    message.get_by_role("button", name="Delete").click()
    expect(bob.page.locator(".message.deleted")).to_have_count(1)
    bob_id = bob.page.locator("main").get_attribute("data-user-id")
    box = bob.page.get_by_role("textbox", name="Message to")
    with Stranger.like(ada, deployment.port(1), room) as ada_at_work:
        ada_at_work.write("chat.set_member", person=bob_id, role="member", muted=True)
        expect(bob.page.locator("#composer-note")).to_contain_text("A moderator has muted you")
        expect(bob.page.get_by_role("button", name="Send")).to_be_disabled()
        ada_at_work.write("chat.set_member", person=bob_id, role="member", muted=False)
        expect(bob.page.get_by_role("button", name="Send")).to_be_enabled()
        box.fill("but I only")
        ada_at_work.write("chat.set_member", person=bob_id, role="banned", muted=False)
    bob.status("You have been banned from this room")
    expect(box).to_have_value("but I only")
    ada.say("now we can talk")
    ada.sees("now we can talk")
    bob.page.get_by_role("button", name="All rooms").click()
    bob.page.wait_for_url("**/")
    assert "now we can talk" not in bob.page.content()


def test_posts_that_were_not_sent_outlive_their_tab(
    open_browser: Open, deployment: Deployment, room: str
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    bob = open_browser("Bob", deployment.port(2))
    ada.page.close()
    ada.open_tab()
    ada.wait_until_joined()
    ada.page.route_web_socket("**/realtime/", without_answers)
    ada.page.reload()
    for text in ("written in vain", "and this, too"):
        ada.say(text)
    expect(ada.page.locator(".pending .delivery").last).to_contain_text("Waiting for the connection")
    ada.page.reload()
    expect(ada.page.locator(".pending .bubble")).to_have_text(["written in vain", "and this, too"])
    assert len(kept_unsent(ada.page)) == 2
    ada.page.close()
    ada.open_tab()
    for person in (ada, bob):
        person.sees("and this, too")
        assert person.texts() == ["written in vain", "and this, too"]
    expect(ada.page.locator(".pending")).to_have_count(0)
    assert kept_unsent(ada.page) == []


def test_a_post_whose_answer_was_lost_is_there_once_after_the_tab_was_closed(
    open_browser: Open, deployment: Deployment, wire: Wire, room: str
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    bob = open_browser("Bob", wire.port)
    bob.network_may_fail = True
    wire.hold()
    bob.say("only once")
    ada.sees("only once")
    assert len(kept_unsent(bob.page)) == 1
    bob.page.close()
    wire.cut()
    wire.mend()
    bob.open_tab()
    bob.wait_until_joined()
    expect(bob.page.locator(".pending")).to_have_count(0)
    ada.say("and then this")
    for person in (ada, bob):
        person.sees("and then this")
        assert person.texts() == ["only once", "and then this"]
    assert kept_unsent(bob.page) == []


def test_two_tabs_send_what_waits_once_and_lose_nothing(
    open_browser: Open, deployment: Deployment, wire: Wire, room: str
) -> None:
    bob = open_browser("Bob", wire.port)
    bob.network_may_fail = True
    between = Interference()
    bob.context.route_web_socket("**/realtime/", between.route)
    first = bob.open_tab()
    bob.wait_until_joined()
    wire.cut()
    bob.status("Connection lost")
    bob.say("from the second tab")
    second, bob.page = bob.page, first
    bob.status("Connection lost")
    bob.say("from the first tab")
    for tab in (first, second):
        expect(tab.locator(".pending")).to_have_count(2)
    wire.mend()
    for tab in (first, second):
        expect(tab.locator(".pending")).to_have_count(0, timeout=30_000)
        assert kept_unsent(tab) == []
    with Stranger.guest("Eve", deployment.port(2), room) as eve:
        stored = eve.stored()
    assert sorted(message.text for message in stored) == ["from the first tab", "from the second tab"]
    keys = [post["key"] for post in between.said("chat.post_message")]
    assert len(keys) == len(set(keys)) == 2
    for tab in (first, second):
        bob.page = tab
        comes_to_show(bob, stored)


def test_one_tab_at_a_time_sends_and_when_it_is_closed_the_other_one_does(
    open_browser: Open, deployment: Deployment, room: str
) -> None:
    bob = open_browser("Bob", deployment.port(1))
    bob.open_tab()
    tabs: dict[Page, Interference] = {}
    swallows = True
    for tab in bob.context.pages:
        tabs[tab] = Interference(
            answer=lambda command: [] if swallows and command["command"] == "chat.post_message" else None
        )
        tab.route_web_socket("**/realtime/", tabs[tab].route)
        tab.reload()
        expect(tab.locator("main[data-joined]")).to_be_attached()
    bob.say("from one of the tabs")
    for tab in tabs:
        expect(tab.locator(".pending .bubble")).to_have_text("from one of the tabs")
    until(bob, lambda: any(between.said("chat.post_message") for between in tabs.values()))
    for tab in tabs:
        tab.evaluate("Promise.resolve()")  # what it sent on seeing the message would be here by now
    (sender,) = [tab for tab, between in tabs.items() if between.said("chat.post_message")]
    (other,) = [tab for tab in tabs if tab is not sender]
    swallows = False
    sender.close()
    bob.page = other
    with Stranger.guest("Eve", deployment.port(2), room) as eve:
        bob.sees("from one of the tabs")
        comes_to_show(bob, eve.stored())
    assert tabs[other].said("chat.post_message") == tabs[sender].said("chat.post_message")
    assert kept_unsent(other) == []


def test_what_waits_is_not_sent_in_the_name_of_whoever_logs_in_next(
    open_browser: Open, deployment: Deployment, wire: Wire, room: str
) -> None:
    bob = open_browser("Bob", wire.port)
    bob.network_may_fail = True
    bobs_id = bob.page.locator("main").get_attribute("data-user-id") or ""
    swallows = True
    between = Interference(
        answer=lambda command: [] if swallows and command["command"] == "chat.post_message" else None
    )
    bob.page.route_web_socket("**/realtime/", between.route)
    bob.page.reload()
    bob.wait_until_joined()
    bob.say("only Bob says this")
    until(bob, lambda: bool(between.said("chat.post_message")))
    swallows = False
    bob.context.clear_cookies()
    other_tab = bob.context.new_page()
    other_tab.goto(f"http://127.0.0.1:{deployment.port(1)}/accounts/guest/")
    other_tab.get_by_label("Name").fill("Eve")
    other_tab.get_by_role("button", name="Enter as a guest").click()
    wire.cut()
    wire.mend()
    expect(bob.page.locator(f'main:not([data-user-id="{bobs_id}"])')).to_be_attached(timeout=30_000)
    bob.wait_until_joined()
    bob.say("here is Eve")
    bob.sees("here is Eve")
    assert bob.texts() == ["here is Eve"]
    assert [bobs_id in name for name in kept_unsent(bob.page)] == [True]


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({"code": "unknown", "message": "it may be stored"}, "it may be sent, or not"),
        ({"code": "busy", "message": "come back later", "retry_after": 1.5}, "The node is busy."),
    ],
)
def test_what_the_node_did_not_take_is_sent_again_with_the_same_key(
    open_browser: Open, deployment: Deployment, error: dict[str, Any], words: str
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    refused: list[str] = []

    def refuse_once(command: Frame) -> list[Frame] | None:
        if command["command"] != "chat.post_message" or refused:
            return None
        refused.append(command["data"]["key"])
        return [{"id": command["id"], "error": error}]

    between = Interference(answer=refuse_once)
    ada.page.route_web_socket("**/realtime/", between.route)
    ada.page.reload()
    ada.wait_until_joined()
    text = f"once, please, not {error['code']}"
    ada.say(text)
    expect(ada.page.locator(".delivery").last).to_contain_text(words)
    ada.sees(text)
    assert [post["key"] for post in between.said("chat.post_message")] == refused * 2
    expect(ada.page.locator(".delivery").last).to_be_empty()


def test_events_that_are_lost_or_repeated_on_the_way_are_shown_once_and_in_order(
    open_browser: Open, deployment: Deployment, room: str
) -> None:
    bob = open_browser("Bob", deployment.port(1))
    lost: set[int] = set()

    def muddle(frame: Frame) -> Iterator[Frame]:
        sequence = frame.get("sequence", 0)
        if sequence % 7 == 3 and sequence not in lost:
            lost.add(sequence)
            return
        yield frame
        if sequence % 5 == 1:
            yield frame

    between = Interference(events=muddle)
    bob.page.route_web_socket("**/realtime/", between.route)
    bob.page.reload()
    bob.wait_until_joined()
    talk(deployment.port(2), room, 60, people=3)
    with Stranger.guest("Eve", deployment.port(2), room) as eve:
        # What is lost is noticed when something comes behind it, so the last one must not be.
        while eve.write("chat.post_message", text="something more")["sequence"] % 7 == 3:
            pass
        comes_to_show(bob, eve.stored())
    assert lost
    assert between.said("chat.resume")


def test_an_answer_moves_no_position_over_what_was_lost_before_it(
    open_browser: Open, deployment: Deployment, room: str
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    bob = open_browser("Bob", deployment.port(2))
    lost = {"lost of Bob", "said by Ada"}

    def lose_once(frame: Frame) -> list[Frame]:
        text = frame["data"].get("text") if frame.get("event") == "chat.message_posted" else None
        if text not in lost:
            return [frame]
        lost.remove(text)
        return []

    between = Interference(events=lose_once)
    ada.page.route_web_socket("**/realtime/", between.route)
    ada.page.reload()
    ada.wait_until_joined()
    bob.say("lost of Bob")
    until(ada, lambda: "lost of Bob" not in lost)
    ada.say("said by Ada")
    until(ada, lambda: not lost and not kept_unsent(ada.page))  # it was answered
    assert not between.said("chat.resume")
    bob.say("last of Bob")
    for person in (ada, bob):
        person.sees("last of Bob")
        assert person.texts() == ["lost of Bob", "said by Ada", "last of Bob"]


def test_whoever_is_told_to_begin_anew_gets_a_snapshot_and_goes_on_from_there(
    open_browser: Open, deployment: Deployment, room: str
) -> None:
    bob = open_browser("Bob", deployment.port(1))
    between = Interference()
    bob.page.route_web_socket("**/realtime/", between.route)
    bob.page.reload()
    bob.wait_until_joined()
    bob.say("before")
    bob.sees("before")
    between.tell({"event": "stream.reset", "data": {"stream": f"room.{room}", "reason": "epoch"}})
    with Stranger.guest("Eve", deployment.port(2), room) as eve:
        eve.say("after")
        bob.sees("after")
        comes_to_show(bob, eve.stored())
    assert [join.get("position") for join in between.said("chat.join_room")] == [None, None]


def test_a_page_of_history_does_not_undo_what_events_have_said(
    open_browser: Open, deployment: Deployment, room: str
) -> None:
    held: list[Frame] = []

    def hold_history(frame: Frame) -> list[Frame]:
        if held or "earlier" not in frame.get("reply", {}) or "position" in frame["reply"]:
            return [frame]
        held.append(frame)
        return []

    bob = open_browser("Bob", deployment.port(1))
    with Stranger.guest("Eve", deployment.port(2), room) as eve:
        said = [eve.say(f"number {number}") for number in range(80)]
        between = Interference(events=hold_history)
        bob.page.route_web_socket("**/realtime/", between.route)
        bob.page.reload()
        bob.wait_until_joined()
        bob.page.locator("#log").evaluate("log => { log.scrollTop = 0; }")
        until(bob, lambda: bool(held))
        eve.write("chat.edit_message", message_id=said[3], text="on second thought")
        eve.write("chat.delete_message", message_id=said[5])
        eve.say("and now the page of history")
        bob.sees("and now the page of history")
        between.tell(held[0])
        comes_to_show(bob, eve.stored())


def test_places_of_deleted_messages_are_asked_for_again_when_the_node_was_busy(
    open_browser: Open, deployment: Deployment, wire: Wire, room: str
) -> None:
    refused: list[Frame] = []

    def refuse_once(command: Frame) -> list[Frame] | None:
        if command["command"] != "chat.history" or refused:
            return None
        refused.append(command)
        error = {"code": "busy", "message": "the database does not answer", "retry_after": 0.2}
        return [{"id": command["id"], "error": error}]

    bob = open_browser("Bob", wire.port)
    bob.network_may_fail = True
    between = Interference(answer=refuse_once)
    bob.page.route_web_socket("**/realtime/", between.route)
    bob.page.reload()
    bob.wait_until_joined()
    with Stranger.guest("Eve", deployment.port(2), room) as eve:
        wire.cut()
        bob.status("Connection lost")
        eve.write("chat.delete_message", message_id=eve.say("said and taken back"))
        wire.mend()
        expect(bob.page.locator(".message.deleted")).to_have_count(1, timeout=20_000)
        comes_to_show(bob, eve.stored())
    assert len(refused) == 1


def test_a_page_says_how_far_it_has_come(open_browser: Open, deployment: Deployment, room: str) -> None:
    bob = open_browser("Bob", deployment.port(1))
    between = Interference()
    bob.page.route_web_socket("**/realtime/", between.route)
    bob.page.reload()
    bob.wait_until_joined()
    bob.say("one")
    bob.say("two")
    bob.sees("two")
    until(bob, lambda: {"seen": {f"room.{room}": 2}} in between.said("ping"))


def test_a_post_of_the_day_before_is_sent_only_as_something_new(
    open_browser: Open, deployment: Deployment
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    now = ada.page.evaluate("Date.now()")
    key = str(new_key(now - 25 * HOUR_MILLISECONDS))
    ada.page.evaluate(
        """(key) => {
          const { userId, room } = document.querySelector("main").dataset;
          const data = { text: "an old thought" };
          const kept = { key, command: "chat.post_message", data, tried: true, failed: "" };
          localStorage.setItem(`unsent ${userId} ${room} ${key}`, JSON.stringify(kept));
        }""",
        key,
    )
    ada.page.reload()
    ada.wait_until_joined()
    expect(ada.page.get_by_role("alert")).to_contain_text("Perhaps not sent: it is more than a day old")
    ada.page.get_by_role("button", name="Send as new").click()
    ada.sees("an old thought")
    expect(ada.page.get_by_role("alert")).to_have_count(0)
    assert kept_unsent(ada.page) == []
    assert ada.shown()[0].message_id != key


def test_what_is_new_is_marked_and_counted_until_it_is_seen(
    open_browser: Open, deployment: Deployment
) -> None:
    ada = open_browser("Ada", deployment.port(1), viewport={"width": 700, "height": 420})
    bob = open_browser("Bob", deployment.port(2))
    for number in range(12):
        bob.say(f"line {number}")
        ada.sees(f"line {number}")
    title = ada.page.title()
    assert not title.startswith("(")
    # Going away tells the node how far it was read.
    ada.page.goto(f"http://127.0.0.1:{deployment.port(1)}/")
    bob.say("news")
    bob.sees("news")
    ada.page.go_back()
    ada.wait_until_joined()
    first_new = ada.page.locator(".divider.unread + .message .bubble")
    expect(first_new).to_have_text("news")
    log = ada.page.locator("#log")
    log.evaluate("log => { log.scrollTop = 0; }")
    jump = ada.page.get_by_role("button", name="new message")
    for number in (1, 2):
        bob.say(f"more news {number}")
        expect(jump).to_have_text(f"{number} new message" + ("s" if number > 1 else "") + " ↓")
    assert ada.page.title() == f"(2) {title}"
    expect(first_new).to_have_text("more news 1")
    jump.click()
    expect(jump).to_be_hidden()
    assert ada.page.title() == title


def test_who_comes_back_to_more_than_a_page_of_news_is_shown_where_it_begins(
    open_browser: Open, deployment: Deployment
) -> None:
    ada = open_browser("Ada", deployment.port(1), viewport={"width": 700, "height": 420})
    bob = open_browser("Bob", deployment.port(2))
    bob.say("known")
    ada.sees("known")
    title = ada.page.title()
    ada.page.goto(f"http://127.0.0.1:{deployment.port(1)}/")
    for number in range(60):
        bob.say(f"news {number}")
    bob.sees("news 59")
    ada.page.go_back()
    ada.wait_until_joined()
    expect(ada.page.locator(".divider.unread + .message .bubble")).to_have_text("news 0")
    assert ada.page.title() == f"(60) {title}"
    ada.page.locator("#log").evaluate("log => { log.scrollTop = log.scrollHeight; }")
    expect(ada.page).to_have_title(title)


def test_what_is_said_while_ones_node_is_killed_arrives_once(
    open_browser: Open, deployment: Deployment, room: str, record_property: Callable[[str, object], None]
) -> None:
    ada = open_browser("Ada", deployment.plan.port)
    bob = open_browser("Bob", deployment.plan.port)
    for person in (ada, bob):
        person.network_may_fail = True
    node = ada.node
    said = [f"number {number}" for number in range(40)]
    try:
        for text in said[:20]:
            ada.say(text)
        deployment.order("kill-node", node.removeprefix("node-"))
        killed = time.monotonic()
        for text in said[20:]:
            ada.say(text)
        ada.sees(said[-1])
        record_property("s from a node's end to the last of 40 posts", f"{time.monotonic() - killed:.2f}")
        bob.sees(said[-1])
        with Stranger.guest("Eve", deployment.plan.port, room) as eve:
            stored = eve.stored()
        assert [message.text for message in stored] == said
        for person in (ada, bob):
            comes_to_show(person, stored)
    finally:  # the other tests need the node
        deployment.order("start-node", node.removeprefix("node-"))


def test_the_client_takes_each_event_once_and_never_skips_one(
    open_browser: Open, deployment: Deployment
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    taken, told, position, keys = ada.page.evaluate(
        """async () => {
          const { Positions } = await import("/static/chat/positions.js");
          const { newKey, isTooOld, drawnAt } = await import("/static/chat/keys.js");
          const positions = new Positions();
          positions.follow("room.x", { epoch: 7, sequence: 3 }, () => {});
          const taken = [3, 4, 4, 6, 5, 6, 2].map((sequence) => positions.take("room.x", sequence));
          taken.push(positions.take("room.unknown", 1));
          const told = [positions.confirm(), positions.confirm()];
          told.push(positions.take("room.x", 7), positions.confirm());
          const { epoch, sequence } = positions.get("room.x");
          const many = Array.from({ length: 1000 }, () => newKey(1_700_000_000_000));
          const keys = {
            ordered: many.every((key, n) => n === 0 || many[n - 1] < key),
            version: [...new Set(many.map((key) => key[14] + "89ab".includes(key[19])))],
            at: drawnAt(many[0]),
            old: [23, 25].map((hours) => isTooOld(many[0], 1_700_000_000_000 + hours * 3_600_000)),
          };
          return [taken, told, [epoch, sequence], keys];
        }"""
    )
    assert taken == ["known", "next", "known", "beyond", "next", "next", "known", "known"]
    assert told == [{"room.x": 6}, None, "next", {"room.x": 7}]
    assert position == [7, 7]
    assert keys["ordered"]
    assert keys["version"] == ["7true"]
    assert keys["at"] == 1_700_000_000_000
    assert keys["old"] == [False, True]
