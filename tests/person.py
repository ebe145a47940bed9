"""Somebody in front of a browser: what they do, what they see, and what went wrong behind it."""

import re
from typing import Final

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


class Person:
    """A guest in `room` of the deployment at `origin`; whoever comes first opens the room."""

    def __init__(self, context: BrowserContext, name: str, origin: str, room: str) -> None:
        self.name = name
        self.context = context
        self.network_may_fail = False
        self._lines: list[str] = []
        context.add_init_script(WATCH)
        self.page: Page = context.new_page()
        self.page.on("console", self._console)
        self.page.on("pageerror", lambda error: self._lines.append(str(error)))
        self.page.goto(f"{origin}/rooms/{room}/")
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

    def _console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self._lines.append(message.text)
