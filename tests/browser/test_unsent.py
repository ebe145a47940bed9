"""What waits in a browser is sent whatever became of its storage ."""

import json
from typing import Any

from app.journal.keys import new_key
from tests.browser.conftest import Open
from tests.browser.deployment import Deployment
from tests.browser.interference import Interference

KEEP = """([key, text]) => {
  const { userId, room } = document.querySelector("main").dataset;
  localStorage.setItem(`unsent ${userId} ${room} ${key}`, text);
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
