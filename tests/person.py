"""Somebody in front of a browser: what they do, what they see, and what went wrong behind it."""

import re
import time
from typing import Final, NamedTuple

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, expect

WATCH: Final = """
document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) => {
  console.error(`violates the content security policy: ${violatedDirective} ${blockedURI}`);
});
window.shifts = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) window.shifts += entry.value;
}).observe({ type: "layout-shift", buffered: true });
"""

# The browser itself writes these when a connection fails; a page cannot keep it from doing so. An ingress
# answers for nodes that are away, with an error of its own, or with 404 as long as there is none at all.
NETWORK_LINES: Final = re.compile(
    r"WebSocket connection to .* failed|Failed to load resource: (net::ERR_|.* (401|404|50[234]) )"
)


SHOWN: Final = """items => items.map(item => [
  item.dataset.id,
  item.dataset.sender,
  item.classList.contains("deleted") ? "" : item.querySelector(".bubble").textContent,
  item.querySelector(".edited") !== null && item.querySelector(".edited").textContent === "edited",
  item.classList.contains("deleted"),
])"""


class Shown(NamedTuple):
    """A message as people see it."""

    message_id: str
    sender: str
    text: str
    edited: bool
    deleted: bool


class Person:
    """A guest in `room` of the deployment at `origin`; whoever comes first opens the room."""

    def __init__(self, context: BrowserContext, name: str, origin: str, room: str) -> None:
        self.name = name
        self.context = context
        self.network_may_fail = False
        self._lines: list[str] = []
        self._address = f"{origin}/rooms/{room}/"
        context.add_init_script(WATCH)
        self.page = self._new_tab()
        self.page.goto(self._address)
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_role("button", name="Enter as a guest").click()
        self.page.wait_for_url(f"**/rooms/{room}/")
        if self.page.get_by_role("heading", name="No room here yet").is_visible():
            # The page says so with its status, too, and the browser repeats that.
            self._lines = [line for line in self._lines if " 404 " not in line]
            self.page.get_by_role("button", name="Open").click()
        self.wait_until_joined()

    @property
    def node(self) -> str:
        """Which node the page says it is on; empty while it is on none."""
        return self.page.locator("main").get_attribute("data-joined") or ""

    def open_tab(self) -> Page:
        """Another tab with the room, which `page` is from now on; the one that was is answered."""
        before, self.page = self.page, self._new_tab()
        self.page.goto(self._address)
        return before

    def wait_until_joined(self) -> None:
        expect(self.page.locator("main[data-joined]")).to_be_attached(timeout=30_000)

    def say(self, text: str) -> None:
        box = self.page.get_by_role("textbox", name="Message to")
        box.fill(text)
        box.press("Enter")

    def sees(self, text: str, node: str = "") -> None:
        """Exactly one such message, posted, and from `node`."""
        written = self.page.get_by_text(text, exact=True)
        expect(self.page.locator(".message:not(.pending)", has=written)).to_have_count(1, timeout=20_000)
        message = self.page.locator(".message", has=written)
        assert message.count() == 1
        if node:
            assert message.get_attribute("data-node") == node

    def texts(self) -> list[str]:
        return self.page.locator(".message .bubble").all_inner_texts()

    def shown(self) -> list[Shown]:
        """Every posted message on the page, from top to bottom."""
        items = self.page.locator(".message:not(.pending)").evaluate_all(SHOWN)
        return [Shown(*item) for item in items]

    def read_from_the_beginning(self) -> list[Shown]:
        """Scroll up until there is nothing earlier; what is on the page then."""
        deadline = time.monotonic() + 60
        while not self.page.locator("#beginning").is_visible():
            assert time.monotonic() < deadline, "the page does not get to the room's beginning"
            self.page.locator("#log").evaluate("log => { log.scrollTop = 0; }")
            self.page.wait_for_timeout(50)
        return self.shown()

    def notices(self) -> list[str]:
        return self.page.locator(".notice span").all_inner_texts()

    def people(self) -> list[str]:
        return self.page.locator(".person .name").all_inner_texts()

    def status(self, words: str) -> None:
        """The status line comes to say this."""
        expect(self.page.locator("#status-text")).to_contain_text(words, timeout=30_000)

    def problems(self) -> list[str]:
        """What the browser complained of, the breaking of its network aside."""
        return [line for line in self._lines if not (self.network_may_fail and NETWORK_LINES.search(line))]

    def _new_tab(self) -> Page:
        page = self.context.new_page()
        page.on("console", self._console)
        page.on("pageerror", lambda error: self._lines.append(str(error)))
        return page

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self._lines.append(message.text)
