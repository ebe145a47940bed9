"""When the browser client comes back to nodes that refuse it.

The browser is real; what nodes answer is played, and waits are noted instead of waited for.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, Playwright, Route

MODULES = Path(__file__).parents[2] / "app" / "chat" / "static" / "chat"
ORIGIN = "http://carillon.test"

REFUSED_CLIENTS = """async ({ count, status, retryAfter }) => {
  const waits = [];
  const asked = [];
  globalThis.WebSocket = class {
    constructor() { queueMicrotask(() => this.onclose?.({ code: 1006, reason: "" })); }
    close() {}
  };
  globalThis.fetch = async (url) => {
    asked.push(String(url));
    const headers = retryAfter ? { "Retry-After": String(retryAfter[asked.length % retryAfter.length]) } : {};
    return new Response(null, { status, headers });
  };
  const { RealtimeClient } = await import("/realtime_client.js");
  await Promise.all(Array.from({ length: count }, () => new Promise((done) => {
    const client = new RealtimeClient({ url: "wss://carillon.test/realtime/" });
    client.onState((state) => {
      if (state.name !== "waiting" && state.name !== "offline") return;
      waits.push((state.retryAt - Date.now()) / 1000);
      client.close();
      done();
    });
    client.connect();
  })));
  return { waits, asked };
}"""


def serve(route: Route) -> None:
    name = route.request.url.removeprefix(f"{ORIGIN}/")
    if name:
        route.fulfill(path=MODULES / name, content_type="text/javascript")
    else:
        route.fulfill(body="<!doctype html><title>refused</title>", content_type="text/html")


@pytest.fixture
def page(playwright: Playwright, chromium: str) -> Iterator[Page]:
    browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
    page = browser.new_page()
    page.route("**/*", serve)
    page.goto(f"{ORIGIN}/")
    yield page
    browser.close()


def test_who_is_refused_comes_back_when_it_was_told_to_and_not_with_all_the_others(page: Page) -> None:
    told = [3, 4, 5, 6, 7, 8]
    seen = page.evaluate(REFUSED_CLIENTS, {"count": 300, "status": 503, "retryAfter": told})
    assert seen["asked"] == ["https://carillon.test/realtime/"] * 300
    waits = seen["waits"]
    assert len(waits) == 300
    assert min(waits) > 2.5, "nobody earlier, but for the moment in which this was noted"
    assert max(waits) < 9
    for second in range(3, 8):
        assert 25 <= sum(second <= wait < second + 1 for wait in waits) <= 75
    assert len({round(wait, 3) for wait in waits}) > 100, "those told the same do not come as one"


@pytest.mark.parametrize(("status", "told"), [(204, [30]), (404, [30]), (503, None), (503, ["soon"])])
def test_without_a_word_of_when_everybody_draws_a_moment_of_their_own(
    page: Page, status: int, told: list[object] | None
) -> None:
    seen = page.evaluate(REFUSED_CLIENTS, {"count": 100, "status": status, "retryAfter": told})
    assert max(seen["waits"]) <= 0.5
    assert len({round(wait, 3) for wait in seen["waits"]}) > 20
