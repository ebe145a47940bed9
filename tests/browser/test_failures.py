"""What people see when something breaks: their network, a node, the bus, their log-in."""

import time
from collections.abc import Callable
from pathlib import Path

from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.deployment import Deployment
from tests.browser.wire import Wire

NOTE_ENDS = """() => {
  window.ends = [];
  const note = (text) => /Moving|lost/.test(text) && window.ends.push(text);
  const status = document.querySelector("#status-text");
  new MutationObserver(() => note(status.textContent)).observe(status, { childList: true });
}"""


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
        person.sees("said meanwhile", node="node-1")
        assert person.texts() == ["said meanwhile", "written without a network"]


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


def test_people_of_a_node_that_is_drained_are_on_another_when_it_told_them_to(
    open_browser: Open, deployment: Deployment
) -> None:
    everybody = [open_browser(name, deployment.plan.port) for name in ("Ada", "Bob", "Eve")]
    for person in everybody:
        expect(person.page.locator(".person")).to_have_count(3)
    node = everybody[0].node
    moved = [person for person in everybody if person.node == node]
    for person in moved:
        person.page.evaluate(NOTE_ENDS)
    deployment.order("drain-node", node.removeprefix("node-"))
    try:
        for person in moved:
            selector = f'main[data-joined]:not([data-joined="{node}"])'
            expect(person.page.locator(selector)).to_be_attached(timeout=30_000)
            assert person.page.evaluate("window.ends") == ["Moving to another node. Reconnecting"]
        moved[0].say("handed over")
        for person in everybody:
            person.sees("handed over", node=moved[0].node)
            expect(person.page.locator(".person")).to_have_count(3)
    finally:  # the other tests need the node
        deployment.order("start-node", node.removeprefix("node-"))


def test_a_failover_does_not_end_the_conversation(
    open_browser: Open, deployment: Deployment, record_property: Callable[[str, object], None]
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    bob = open_browser("Bob", deployment.port(2))
    ada.say("before")
    bob.sees("before")
    deployment.order("failover")
    done = time.monotonic()
    ticks = [f"tick {number}" for number in range(10)]
    for tick in ticks:
        ada.say(tick)
    bob.sees(ticks[-1])
    record_property("s after the failover until heard on another node", f"{time.monotonic() - done:.2f}")
    ada.status("Connected to node-1")
    bob.say("after")
    ada.sees("after", node="node-2")
    for person in (ada, bob):
        assert person.texts() == ["before", *ticks, "after"]
    expect(ada.page.locator(".person")).to_have_count(2)


def test_without_redis_everybody_goes_on_talking_and_is_told_that_it_takes_longer(
    open_browser: Open, deployment: Deployment, pictures: Path, record_property: Callable[[str, object], None]
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    eve = open_browser("Eve", deployment.port(1))
    bob = open_browser("Bob", deployment.port(2), viewport={"width": 320, "height": 568})
    expect(bob.page.locator(".person")).to_have_count(3)
    deployment.kill_redis()
    for person in (ada, bob):
        person.status("Messages between nodes take a second")
    ada.say("by way of the database")
    said = time.monotonic()
    bob.sees("by way of the database", node="node-1")
    record_property("s from node to node without Redis", f"{time.monotonic() - said:.2f}")
    eve.sees("by way of the database")
    expect(ada.page.locator(".delivery").last).to_be_empty()
    bob.page.screenshot(path=pictures / "bus-away.png")
    for person in (ada, bob):  # one node may be back on the bus before the other
        again = person.page.locator(".notice", has_text="hear each other at once again")
        expect(again.first).to_be_attached(timeout=60_000)
    ada.status("Connected to node-1")
    bob.say("together again")
    ada.sees("together again")
    for person in (ada, eve, bob):
        assert person.texts() == ["by way of the database", "together again"]
    assert not [notice for notice in ada.notices() if "left" in notice]
    expect(bob.page.locator(".person")).to_have_count(3)
