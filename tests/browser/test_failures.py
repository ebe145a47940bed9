"""What people see when something breaks: their network, a node, the bus, their log-in."""

import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.deployment import Deployment
from tests.browser.wire import Wire
from tests.person import Person


def test_who_loses_the_network_comes_back_and_their_message_is_sent_once(
    open_browser: Open, deployment: Deployment, wire: Wire
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    bob = open_browser("Bob", wire.port)
    bob.network_may_fail = True
    bob.context.set_offline(True)
    wire.cut()
    bob.status("You are offline")
    bob.say("written without a network")
    expect(bob.page.locator(".delivery").last).to_contain_text("Waiting for the connection")
    ada.say("said meanwhile")
    wire.mend()
    bob.context.set_offline(False)
    bob.wait_until_joined()
    bob.status("Connected to node-3")
    expect(bob.page.locator(".divider")).to_contain_text("Reconnected, now to node-3")
    for person in (ada, bob):
        person.sees("written without a network", node="node-3")
    assert "said meanwhile" not in bob.texts()


def test_a_message_whose_answer_was_lost_is_shown_once(
    open_browser: Open, deployment: Deployment, wire: Wire
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    bob = open_browser("Bob", wire.port)
    bob.network_may_fail = True
    wire.hold()
    bob.say("once")
    ada.sees("once")
    wire.cut()
    bob.status("Connection lost")
    wire.mend()
    bob.wait_until_joined()
    for person in (bob, ada):
        person.sees("once")
    ada.say("and then this")
    bob.sees("and then this")
    assert ada.texts() == ["once", "and then this"]


def test_a_connection_that_died_without_a_word_is_noticed(
    open_browser: Open, deployment: Deployment, wire: Wire
) -> None:
    bob = open_browser("Bob", wire.port)
    bob.network_may_fail = True
    wire.hold()
    # The browser tells of another network: the page looks at once whether its connection still lives.
    bob.page.evaluate("dispatchEvent(new Event('online'))")
    bob.status("Connection lost")
    wire.cut()
    wire.mend()
    bob.wait_until_joined()
    bob.say("back")
    bob.sees("back")


def test_a_message_that_waited_too_long_is_only_sent_when_asked(
    open_browser: Open, deployment: Deployment, wire: Wire
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    bob = open_browser("Bob", wire.port)
    bob.network_may_fail = True
    bob.page.clock.install()
    bob.page.reload()
    bob.wait_until_joined()
    wire.cut()
    bob.status("Connection lost")
    bob.say("an old thought")
    bob.page.clock.fast_forward(120_000)
    expect(bob.page.get_by_role("alert")).to_contain_text("Not sent")
    wire.mend()
    bob.page.clock.run_for(30_000)
    bob.wait_until_joined()
    expect(bob.page.get_by_role("alert")).to_contain_text("Not sent")
    assert "an old thought" not in ada.texts()
    bob.page.get_by_role("button", name="Try again").click()
    for person in (ada, bob):
        person.sees("an old thought")
    expect(bob.page.get_by_role("alert")).to_have_count(0)


def test_whoever_is_logged_out_is_told_so_and_does_not_reconnect(
    open_browser: Open, deployment: Deployment, wire: Wire
) -> None:
    bob = open_browser("Bob", wire.port)
    bob.network_may_fail = True
    bob.page.context.clear_cookies()
    bob.page.route("**/accounts/ticket/", lambda route: route.fulfill(status=401))
    wire.cut()
    wire.mend()
    bob.status("Disconnected: you are not logged in any more")
    bob.page.get_by_role("button", name="Log in").click()
    bob.page.wait_for_url("**/accounts/guest/**")


def test_people_of_a_killed_node_are_on_another_within_moments(
    open_browser: Open, deployment: Deployment, record_property: Callable[[str, object], None]
) -> None:
    everybody = [open_browser(name, deployment.plan.port) for name in ("Ada", "Bob", "Eve")]
    for person in everybody:
        person.network_may_fail = True
        expect(person.page.locator(".person")).to_have_count(3)
    node = everybody[0].node
    moved = [person for person in everybody if person.node == node]
    before = {person.name: person.notices() for person in everybody}
    deployment.order("kill-node", node.removeprefix("node-"))
    try:
        killed = time.monotonic()
        for person in moved:
            selector = f'main[data-joined]:not([data-joined="{node}"])'
            expect(person.page.locator(selector)).to_be_attached(timeout=30_000)
            record_property("s until on another node", f"{time.monotonic() - killed:.2f}")
            expect(person.page.locator(".divider")).to_contain_text("Reconnected, now to node-")
        moved[0].say("I am on another node now")
        for person in everybody:
            person.sees("I am on another node now", node=moved[0].node)
            expect(person.page.locator(".person")).to_have_count(3)
            assert person.notices() == before[person.name]
    finally:  # the other tests need the node
        deployment.order("start-node", node.removeprefix("node-"))


def say_until_heard(speaker: Person, listener: Person, words: str) -> None:
    """Messages are live only: what is said while a node finds its way back to the bus is lost."""
    began = time.monotonic()
    for number in count():
        speaker.say(f"{words} {number}")
        speaker.sees(f"{words} {number}")
        if f"{words} {number}" in listener.texts():
            return
        if time.monotonic() - began > 60:
            pytest.fail("the nodes do not hear each other after a minute")


def test_a_failover_does_not_end_the_conversation(
    open_browser: Open, deployment: Deployment, record_property: Callable[[str, object], None]
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    bob = open_browser("Bob", deployment.port(2))
    ada.say("before")
    bob.sees("before")
    deployment.order("failover")
    done = time.monotonic()
    say_until_heard(ada, bob, "tick")
    record_property("s after the failover until heard on another node", f"{time.monotonic() - done:.2f}")
    heard = [text for text in bob.texts() if text.startswith("tick")]
    said = [text for text in ada.texts() if text.startswith("tick")]
    assert heard == [text for text in said if text in heard]
    ada.status("Connected to node-1")
    bob.say("after")
    ada.sees("after", node="node-2")
    expect(ada.page.locator(".person")).to_have_count(2)


def test_without_redis_people_on_one_node_talk_and_everybody_is_told(
    open_browser: Open, deployment: Deployment, pictures: Path
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    eve = open_browser("Eve", deployment.port(1))
    bob = open_browser("Bob", deployment.port(2), viewport={"width": 320, "height": 568})
    expect(bob.page.locator(".person")).to_have_count(3)
    deployment.kill_redis()
    for person in (ada, bob):
        person.status("people on other nodes cannot hear you now")
    ada.say("only here")
    eve.sees("only here")
    expect(ada.page.locator(".delivery").last).to_contain_text("only people on this node got it")
    bob.page.screenshot(path=pictures / "bus-away.png")
    for person in (ada, bob):  # one node may be back on the bus before the other
        again = person.page.locator(".notice", has_text="hear each other again")
        expect(again.first).to_be_attached(timeout=60_000)
    ada.status("Connected to node-1")
    say_until_heard(bob, ada, "together again")
    assert "only here" not in bob.texts()
    assert not [notice for notice in ada.notices() if "left" in notice]
    expect(bob.page.locator(".person")).to_have_count(3)
