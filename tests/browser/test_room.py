"""Two real browsers on two different nodes: what people see when all is well."""

from pathlib import Path

from playwright.sync_api import expect

from tests.browser.conftest import Open
from tests.browser.deployment import Deployment
from tests.person import Person

WIDE = {"width": 1100, "height": 720}
NARROW = {"width": 320, "height": 568}


def shift(person: Person) -> float:
    """How much the page's layout has jumped by itself so far (Chromium's layout-shift score)."""
    value: float = person.page.evaluate("window.shifts")
    return value


def test_two_people_on_two_nodes_talk(open_browser: Open, deployment: Deployment, pictures: Path) -> None:
    ada = open_browser("Ada Lovelace", deployment.port(1), viewport=WIDE)
    bob = open_browser("Bob", deployment.port(3), viewport=WIDE, color_scheme="dark")
    assert (ada.node, bob.node) == ("node-1", "node-3")
    ada.status("Connected to node-1")
    ada.say("Good morning! Can you hear me over there?")
    bob.sees("Good morning! Can you hear me over there?", node="node-1")
    bob.say("Loud and clear. I am on another node, by the way.")
    ada.sees("Loud and clear. I am on another node, by the way.", node="node-3")
    expect(ada.page.locator(".person .name")).to_have_text(["Ada Lovelace", "Bob"])
    expect(bob.page.locator(".person .name")).to_have_text(["Bob", "Ada Lovelace"])
    expect(ada.page.locator(".person .node")).to_contain_text(["node-1", "node-3"])
    assert ada.notices() == ["Bob joined"]
    assert bob.notices() == []
    ada.page.screenshot(path=pictures / "light.png")
    bob.page.screenshot(path=pictures / "dark.png")
    bob.page.close()
    expect(ada.page.locator(".notice").last).to_contain_text("Bob left", timeout=15_000)
    expect(ada.page.locator(".person .name")).to_have_text(["Ada Lovelace"])


def test_a_reload_is_nobodys_news(open_browser: Open, deployment: Deployment) -> None:
    ada = open_browser("Ada", deployment.port(1))
    bob = open_browser("Bob", deployment.port(2))
    expect(ada.page.locator(".person .name")).to_have_text(["Ada", "Bob"])
    bob.page.reload()
    bob.wait_until_joined()
    bob.say("Here I am again")
    ada.sees("Here I am again")
    # Longer than the grace: a leave that was only late would be seen.
    ada.page.wait_for_timeout(5_000)
    assert ada.notices() == ["Bob joined"]


def test_text_is_only_ever_text(open_browser: Open, deployment: Deployment) -> None:
    ada = open_browser("<b>Ada</b>", deployment.port(1))
    bob = open_browser("Bob", deployment.port(2))
    evil = "<img src=x onerror=alert(1)> & <script>alert(2)</script>"
    ada.say(evil)
    bob.sees(evil)
    assert bob.page.locator(".message img, .message script, .message b").count() == 0
    assert "<b>Ada</b>" in bob.people()


def test_half_an_emoji_stops_nothing_behind_it(open_browser: Open, deployment: Deployment) -> None:
    ada = open_browser("Ada", deployment.port(1))
    bob = open_browser("Bob", deployment.port(2))
    box = ada.page.get_by_role("textbox", name="Message to")
    box.evaluate("box => { box.value = 'half \\ud83d'; }")
    box.press("Enter")
    ada.say("whole")
    bob.sees("half \ufffd")
    bob.sees("whole")
    expect(ada.page.locator(".pending")).to_have_count(0)


def test_lines_links_and_groups(open_browser: Open, deployment: Deployment) -> None:
    ada = open_browser("Ada", deployment.port(1))
    box = ada.page.get_by_role("textbox", name="Message to")
    box.press_sequentially("first")
    box.press("Shift+Enter")
    box.press_sequentially("see https://example.org/a?b=c.")
    box.press("Enter")
    ada.say("second")
    ada.sees("second")
    assert ada.texts() == ["first\nsee https://example.org/a?b=c.", "second"]
    link = ada.page.locator(".bubble a")
    assert link.get_attribute("href") == "https://example.org/a?b=c"
    assert "noopener" in (link.get_attribute("rel") or "")
    expect(ada.page.locator(".message").nth(0)).not_to_have_class("continued")
    assert "continued" in (ada.page.locator(".message").nth(1).get_attribute("class") or "")


def test_it_works_by_keyboard_and_keeps_a_draft(open_browser: Open, deployment: Deployment) -> None:
    ada = open_browser("Ada", deployment.port(1))
    expect(ada.page.get_by_role("textbox", name="Message to")).to_be_focused()
    ada.page.reload()
    ada.wait_until_joined()
    skip = ada.page.get_by_role("link", name="Skip to the message box")
    assert ada.page.evaluate("document.querySelector('a, button, input, textarea').textContent") == (
        skip.text_content()
    )
    skip.focus()
    expect(skip).to_be_in_viewport(ratio=1)
    ada.page.keyboard.press("Enter")
    box = ada.page.get_by_role("textbox", name="Message to")
    expect(box).to_be_focused()
    ada.page.keyboard.type("half a thought")
    ada.page.reload()
    expect(box).to_have_value("half a thought")
    ada.wait_until_joined()
    box.press("Enter")
    ada.sees("half a thought")
    expect(box).to_have_value("")


def test_a_screen_reader_hears_messages_and_the_state(open_browser: Open, deployment: Deployment) -> None:
    ada = open_browser("Ada", deployment.port(1))
    log = ada.page.get_by_role("log", name="Messages in")
    ada.say("ding")
    expect(log.get_by_text("ding", exact=True)).to_be_visible()
    expect(ada.page.get_by_role("status")).to_contain_text("Connected to node-1")
    expect(ada.page.get_by_role("heading", level=1)).to_be_visible()
    expect(ada.page.get_by_role("complementary", name="Here now")).to_be_visible()
    expect(ada.page.get_by_role("button", name="Send")).to_be_visible()


def test_who_reads_above_is_not_torn_down(open_browser: Open, deployment: Deployment) -> None:
    ada = open_browser("Ada", deployment.port(1), viewport={"width": 700, "height": 480})
    bob = open_browser("Bob", deployment.port(2))
    for number in range(12):
        bob.say(f"line {number}")
        ada.sees(f"line {number}")
    log = ada.page.locator("#log")
    at_end = "log => log.scrollHeight - log.scrollTop - log.clientHeight < 2"
    assert log.evaluate(at_end)
    log.evaluate("log => { log.scrollTop = 0; }")
    ada.page.wait_for_timeout(100)
    bob.say("something new")
    jump = ada.page.get_by_role("button", name="1 new message")
    expect(jump).to_be_visible()
    assert log.evaluate("log => log.scrollTop") == 0
    jump.click()
    expect(jump).to_be_hidden()
    assert log.evaluate(at_end)


def test_a_narrow_page_fits_and_nothing_jumps(
    open_browser: Open, deployment: Deployment, room: str, pictures: Path
) -> None:
    ada = open_browser("Ada", deployment.port(1), viewport=NARROW, has_touch=True)
    ada.say("a-word-that-is-far-too-long-for-a-very-narrow-screen-" * 3)
    expect(ada.page.locator(".message:not(.pending)")).to_have_count(1)
    toggle = ada.page.get_by_role("button", name="1 here")
    expect(ada.page.locator("#people")).to_be_hidden()
    toggle.click()
    expect(ada.page.locator("#people")).to_be_visible()
    ada.page.keyboard.press("Escape")
    expect(ada.page.locator("#people")).to_be_hidden()
    expect(toggle).to_be_focused()
    ada.page.screenshot(path=pictures / "narrow.png")
    for path in (f"/rooms/{room}/", "/", "/accounts/sign-up/"):
        ada.page.goto(f"http://127.0.0.1:{deployment.port(1)}{path}")
        assert ada.page.evaluate("document.scrollingElement.scrollWidth") <= NARROW["width"], path
        ada.page.wait_for_timeout(300)
        assert shift(ada) < 0.02, path


def test_a_room_is_opened_and_found(open_browser: Open, deployment: Deployment) -> None:
    ada = open_browser("Ada", deployment.port(1))
    ada.page.goto(f"http://127.0.0.1:{deployment.port(2)}/")
    ada.page.get_by_label("Name of the room").fill("Belfry & Co")
    ada.page.get_by_role("button", name="Open it").click()
    ada.wait_until_joined()
    assert ada.page.url.endswith("/rooms/belfry-co/")
    ada.page.goto(f"http://127.0.0.1:{deployment.port(3)}/")
    expect(ada.page.get_by_role("link", name="Belfry & Co")).to_be_visible()


def test_the_client_decides_by_close_code_range_and_waits_with_jitter(
    open_browser: Open, deployment: Deployment
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    decisions, windows, hints = ada.page.evaluate(
        """async () => {
          const { afterClose, backOff, hinted } = await import("/static/chat/reconnect.js");
          const codes = [1000, 1006, 1011, 1012, 4000, 4499, 4500, 4502, 4999];
          const most = () => 0.999999;
          return [
            Object.fromEntries(codes.map((code) => [code, afterClose(code)])),
            [0, 1, 2, 5, 6, 100].map((attempt) => [backOff(attempt, () => 0), backOff(attempt, most)]),
            [0, 1.5, 1e9, -1, undefined, "soon"].map(hinted),
          ];
        }"""
    )
    assert decisions == {
        **dict.fromkeys(["1000", "1006", "1011", "1012", "4000", "4499"], "later"),
        **dict.fromkeys(["4500", "4502", "4999"], "never"),
    }
    assert [window[0] for window in windows] == [0] * 6
    assert [round(window[1], 2) for window in windows] == [0.5, 1, 2, 16, 20, 20]
    assert hints == [0, 1.5, 60, None, None, None]
