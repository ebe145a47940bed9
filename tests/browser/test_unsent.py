"""What waits in a browser is sent whatever became of its storage and of anybody's clock."""

import json
from typing import Any

from playwright.sync_api import expect

from app.journal.keys import new_key
from tests.browser.conftest import Open
from tests.browser.deployment import Deployment
from tests.browser.interference import Frame, Interference
from tests.browser.wire import Wire

HOUR_MILLISECONDS = 3_600_000
DAY_MILLISECONDS = 24 * HOUR_MILLISECONDS

KEEP = """([key, text]) => {
  const { userId, room } = document.querySelector("main").dataset;
  localStorage.setItem(`unsent ${userId} ${room} ${key}`, text);
}"""
TURN_THE_CLOCK = """(milliseconds) => {
  window.rightNow ??= Date.now.bind(Date);
  Date.now = () => window.rightNow() + milliseconds;
}"""


def kept(key: str, /, **changes: Any) -> str:
    """An item of the storage as the page writes it, but for `changes`."""
    entry = {
        "key": key,
        "command": "chat.post_message",
        "data": {"text": "hello"},
        "tried": False,
        "failed": "",
    }
    return json.dumps(entry | changes)


def test_what_is_no_entry_in_the_storage_stops_neither_the_page_nor_the_other_entries(
    open_browser: Open, deployment: Deployment
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    damages: list[dict[str, Any]] = [
        {"key": "no-key"},
        {"key": str(new_key())},
        {"command": 5},
        {"command": "constructor"},
        {"data": None},
        {"data": {}},
        {"data": {"text": 5}},
        {"command": "chat.edit_message"},
        {"command": "chat.delete_message", "data": {"message_id": None}},
        {"tried": None},
        {"failed": None},
    ]
    keys = [str(new_key()) for _ in range(len(damages))]
    items = [(key, kept(key, **damage)) for key, damage in zip(keys, damages, strict=True)]
    items += [(str(new_key()), text) for text in ("", "{bad", "5", "null", "[]", "{}", '"text"')]
    items += [("no-key", kept("no-key")), ("", kept(""))]
    good = str(new_key())
    for key, text in [*items, (good, kept(good, data={"text": "all is well"}))]:
        ada.page.evaluate(KEEP, [key, text])
    between = Interference()
    ada.page.route_web_socket("**/realtime/", between.route)
    ada.page.reload()
    ada.wait_until_joined()
    ada.sees("all is well")
    ada.say("and goes on")
    ada.sees("and goes on")
    assert ada.texts() == ["all is well", "and goes on"]
    written = [command["data"]["text"] for command in between.commands if "key" in command["data"]]
    assert written == ada.texts()


def test_a_clock_that_is_turned_while_connected_keeps_nothing_from_being_sent(
    open_browser: Open, deployment: Deployment
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    said: list[str] = []
    for milliseconds in (HOUR_MILLISECONDS, 0, -3 * DAY_MILLISECONDS, 0):
        ada.page.evaluate(TURN_THE_CLOCK, milliseconds)
        said.append(f"number {len(said)}, clock turned by {milliseconds}")
        ada.say(said[-1])
        ada.sees(said[-1])
    assert ada.texts() == said


def test_what_was_refused_for_a_nodes_wrong_clock_is_sent_with_another_key_when_it_is_right(
    open_browser: Open, deployment: Deployment, wire: Wire
) -> None:
    bob = open_browser("Bob", wire.port)
    bob.network_may_fail = True
    wrong = True

    def misdate(frame: Frame) -> list[Frame]:
        if frame.get("event") == "hello" and wrong:
            now = bob.page.evaluate(
                "milliseconds => new Date(Date.now() + milliseconds).toJSON()", HOUR_MILLISECONDS
            )
            frame["data"]["time"] = now
        return [frame]

    between = Interference(events=misdate)
    bob.page.route_web_socket("**/realtime/", between.route)
    bob.page.reload()
    bob.wait_until_joined()
    bob.say("at some other time")
    expect(bob.page.get_by_role("alert")).to_contain_text("Not sent: the key was drawn in the future")
    wrong = False
    wire.cut()
    bob.status("Connection lost")
    wire.mend()
    bob.wait_until_joined()
    bob.say("at the right time")
    bob.sees("at the right time")
    bob.page.get_by_role("button", name="Try again").click()
    bob.sees("at some other time")
    assert bob.texts() == ["at the right time", "at some other time"]
    keys = [post["key"] for post in between.said("chat.post_message")]
    assert len(keys) == len(set(keys)) == 3


def test_the_nodes_clock_goes_on_while_the_device_sleeps(open_browser: Open, deployment: Deployment) -> None:
    ada = open_browser("Ada", deployment.port(1))
    hours = ada.page.evaluate(
        """async () => {
          const { NodeClock } = await import("/static/chat/node_clock.js");
          const clock = new NodeClock();
          const wall = Date.now.bind(Date);
          let slept = 0;
          Date.now = () => wall() + slept;
          clock.set(1_700_000_000_000);
          return [0, 1, 11, -72, 60].map((hours) => {
            slept = hours * 3_600_000;
            return Math.round((clock.now() - 1_700_000_000_000) / 3_600_000);
          });
        }"""
    )
    assert hours == [0, 0, 0, 0, 60]


def test_a_dead_connection_is_noticed_also_when_the_clock_was_turned_back(
    open_browser: Open, deployment: Deployment
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    ada.page.goto(f"http://127.0.0.1:{deployment.port(1)}/")  # a page without a client of its own
    states = ada.page.evaluate(
        """async () => {
          const { RealtimeClient } = await import("/static/chat/realtime_client.js");
          const [later, wall] = [setTimeout, Date.now.bind(Date)];
          globalThis.setTimeout = (act, milliseconds) => later(act, milliseconds / 50);
          const hello = { event: "hello", data: { limits: { ping_seconds: 0.1 } } };
          globalThis.WebSocket = class {
            constructor() { later(() => this.onmessage({ data: JSON.stringify(hello) }), 0); }
            send() {}
            close() {}
          };
          const client = new RealtimeClient({ url: "ws://127.0.0.1/", random: () => 1 });
          const states = [];
          return new Promise((resolve) => {
            later(() => resolve(states), 5_000);
            client.onState(({ name }) => {
              states.push(name);
              if (name === "connected") Date.now = () => wall() - 3_600_000;
              if (name === "waiting") resolve(states);
            });
            client.connect();
          });
        }"""
    )
    assert states == ["idle", "connecting", "connected", "waiting"]
