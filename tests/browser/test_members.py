"""Rooms for members: made, filled, looked after and left on the page, over nodes."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from deploy.local.ports import HOST
from tests.browser.conftest import Open
from tests.browser.deployment import Deployment
from tests.browser.interference import Frame, Interference
from tests.browser.stranger import Stranger
from tests.browser.wire import Wire
from tests.person import Person
from tests.visitor import PASSWORD


def sign_up(person: Person, name: str) -> None:
    """The guest has an account from now on: only accounts are found by their names."""
    person.page.get_by_role("link", name="Sign up").click()
    person.page.get_by_label("Name").fill(name)
    for field in ("password1", "password2"):
        person.page.locator(f"[name={field}]").fill(PASSWORD)
    person.page.get_by_role("button", name="Sign up").click()
    person.wait_until_joined()


def open_members_room(person: Person, port: int, title: str) -> None:
    person.page.goto(f"http://{HOST}:{port}/")
    person.page.get_by_label("Name of the room").fill(title)
    person.page.get_by_label("Members only").check()
    person.page.get_by_role("button", name="Open it").click()
    person.wait_until_joined()


def members(person: Person) -> Locator:
    """The rows of the list, opened if it is not open."""
    dialog = person.page.get_by_role("dialog", name="Members of")
    if not dialog.is_visible():
        person.page.get_by_role("button", name="Members").click()
    return dialog.locator(".member")


def row(person: Person, name: str) -> Locator:
    return members(person).filter(has=person.page.locator(".name", has_text=name))


def close(person: Person) -> None:
    person.page.get_by_role("button", name="Close").click()


def add(person: Person, name: str) -> None:
    members(person)
    person.page.get_by_label("Add somebody by name").fill(name)
    person.page.get_by_role("button", name="Add", exact=True).click()


def test_a_room_for_members_is_there_for_who_is_added_to_it(
    open_browser: Open, deployment: Deployment
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    bob = open_browser("Bob", deployment.port(3))
    sign_up(bob, "Bob Bell")
    open_members_room(ada, deployment.port(1), "The cellar")
    expect(ada.page.locator(".room-head .tag")).to_have_text("members only")
    ada.say("is anybody here?")
    # To everybody else it is not there.
    bob.network_may_fail = True  # the browser repeats the page's status
    bob.page.goto(f"http://{HOST}:{deployment.port(3)}/")
    expect(bob.page.get_by_role("link", name="Lobby")).to_be_visible()
    expect(bob.page.get_by_role("link", name="The cellar")).to_have_count(0)
    bob.page.goto(f"http://{HOST}:{deployment.port(3)}/rooms/the-cellar/")
    expect(bob.page.get_by_role("heading", name="No room here yet")).to_be_visible()

    expect(members(ada).locator(".name")).to_have_text(["Ada"])
    add(ada, "Nobody of this name")
    expect(ada.page.locator("#members-note")).to_contain_text("No account is called")
    add(ada, "bob bell")
    expect(ada.page.locator("#members-note")).to_have_text("Bob Bell is a member now.")
    expect(members(ada).locator(".name")).to_have_text(["Ada", "Bob Bell"])

    bob.page.goto(f"http://{HOST}:{deployment.port(3)}/")
    bob.page.get_by_role("link", name="The cellar").click()
    bob.wait_until_joined()
    bob.sees("is anybody here?", node="node-1")
    bob.say("I am, on another node")
    ada.sees("I am, on another node", node="node-3")
    # Who may not is offered nothing.
    expect(members(bob)).to_have_count(2)
    expect(members(bob).locator("button, select")).to_have_count(0)
    expect(bob.page.get_by_label("Add somebody by name")).to_be_hidden()
    bob.page.get_by_role("button", name="Leave this room").click()
    expect(bob.page.get_by_role("button", name="Stay")).to_be_focused()
    bob.page.set_viewport_size({"width": 375, "height": 667})
    dialog = bob.page.get_by_role("dialog")
    assert dialog.evaluate("it => it.scrollWidth <= it.clientWidth"), "it is to be read without scrolling"
    bob.page.get_by_role("button", name="Leave", exact=True).click()
    bob.status("You have left this room")
    expect(members(ada)).to_have_count(1)
    expect(ada.page.get_by_role("button", name="Leave this room")).to_be_hidden()
    expect(ada.page.locator("#only-owner")).to_be_visible()


def test_who_is_muted_or_removed_sees_it_and_keeps_what_they_wrote(
    open_browser: Open, deployment: Deployment, pictures: Path
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    bob = open_browser("Bob", deployment.port(3))
    sign_up(bob, "Bob Clapper")
    open_members_room(ada, deployment.port(1), "The attic")
    add(ada, "Bob Clapper")
    expect(members(ada)).to_have_count(2)
    bob.page.goto(f"http://{HOST}:{deployment.port(3)}/rooms/the-attic/")
    bob.wait_until_joined()

    row(ada, "Bob Clapper").get_by_role("button", name="Mute").click()
    expect(row(ada, "Bob Clapper").locator(".tag.warning")).to_have_text("muted")
    text = bob.page.get_by_role("textbox", name="Message to")
    expect(bob.page.locator("#composer-note")).to_contain_text("A moderator has muted you")
    text.fill("half a thought")
    text.press("Enter")
    row(ada, "Bob Clapper").get_by_role("button", name="Unmute").click()
    expect(bob.page.locator("#composer-note")).to_be_hidden()
    text.press("Enter")
    ada.sees("half a thought")

    text.fill("never sent")
    row(ada, "Bob Clapper").get_by_role("button", name="Remove").click()
    ada.page.screenshot(path=pictures / "members.png")
    ada.page.get_by_role("button", name="Remove", exact=True).click()
    expect(members(ada).locator(".name")).to_have_text(["Ada"])
    bob.status("You were removed from this room")
    expect(text).to_have_value("never sent")
    expect(text).not_to_be_editable()
    bob.page.screenshot(path=pictures / "removed.png")
    close(ada)
    ada.say("said without Bob")
    ada.sees("said without Bob")
    assert bob.texts() == ["half a thought"]
    bob.network_may_fail = True
    bob.page.reload()
    expect(bob.page.get_by_role("heading", name="No room here yet")).to_be_visible()
    add(ada, "Bob Clapper")
    expect(members(ada)).to_have_count(2)
    bob.page.reload()
    bob.wait_until_joined()
    expect(text).to_have_value("never sent")


def test_who_is_removed_while_away_keeps_what_they_wrote(
    open_browser: Open, deployment: Deployment, wire: Wire
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    bob = open_browser("Bob", wire.port)
    bob.network_may_fail = True
    open_members_room(ada, deployment.port(1), "The loft")
    bobs_id = bob.page.locator("main").get_attribute("data-user-id")
    with Stranger.like(ada, deployment.port(2), "the-loft") as owner:
        owner.write("chat.set_member", person=bobs_id, role="member")
        bob.page.goto(f"http://{HOST}:{wire.port}/rooms/the-loft/")
        bob.wait_until_joined()
        wire.cut()
        bob.status("Connection lost")
        bob.say("never sent")
        owner.write("chat.remove_member", person=bobs_id)
    wire.mend()
    bob.status("This room is not there any more, or not open to you")
    expect(bob.page.locator(".pending .bubble")).to_have_text("never sent")
    delivery = bob.page.locator(".pending .delivery")
    expect(delivery).to_contain_text("Not sent: you are not in this room any more.")
    expect(delivery.get_by_role("button")).to_have_text(["Discard"])
    expect(bob.page.locator("#composer")).to_be_hidden()


@pytest.mark.parametrize(
    ("answers", "shown"),
    [
        ({}, ""),
        (
            {"error": {"code": "unknown", "message": "it may be stored or not"}},
            "Perhaps not sent: you are not in this room any more. Discard",
        ),
    ],
)
def test_what_was_stored_before_ones_removal_is_not_said_to_be_unsent(
    open_browser: Open, deployment: Deployment, wire: Wire, answers: Frame, shown: str
) -> None:
    posts: list[int] = []

    def answer(command: Frame) -> list[Frame] | None:
        if command["command"] != "chat.post_message":
            return None
        posts.append(command["id"])
        return [{"id": command["id"], **answers}] if answers and len(posts) == 2 else None

    def lose_the_first(frame: Frame) -> list[Frame]:
        lost = frame.get("event") == "chat.message_posted" or ("id" in frame and [frame["id"]] == posts)
        return [] if lost else [frame]

    ada = open_browser("Ada", deployment.port(1))
    bob = open_browser("Bob", wire.port)
    bob.network_may_fail = True
    room = "the-barn" if answers else "the-shed"
    open_members_room(ada, deployment.port(1), room.replace("-", " ").capitalize())
    bobs_id = bob.page.locator("main").get_attribute("data-user-id")
    with Stranger.like(ada, deployment.port(2), room) as owner:
        owner.write("chat.set_member", person=bobs_id, role="member")
        bob.page.route_web_socket("**/realtime/", Interference(answer, lose_the_first).route)
        bob.page.goto(f"http://{HOST}:{wire.port}/rooms/{room}/")
        bob.wait_until_joined()
        bob.say("was stored")
        ada.sees("was stored")
        wire.cut()
        bob.status("Connection lost")
        owner.write("chat.remove_member", person=bobs_id)
    wire.mend()
    bob.status("This room is not there any more, or not open to you")
    expect(bob.page.locator(".message .bubble")).to_have_text("was stored")
    expect(bob.page.locator(".message .delivery")).to_have_text(shown)
    expect(bob.page.locator(".pending")).to_have_count(1 if shown else 0)
    assert len(posts) == 2


def test_the_list_of_members_is_as_the_room_is_after_every_way_back(
    open_browser: Open, deployment: Deployment, wire: Wire, room: str
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    bob = open_browser("Bob", wire.port)
    bob.network_may_fail = True
    expect(members(bob).locator(".role")).to_have_text(["Owner"])
    bobs_id = bob.page.locator("main").get_attribute("data-user-id")
    with Stranger.like(ada, deployment.port(2), room) as owner:
        owner.write("chat.set_member", person=bobs_id, role="moderator", muted=False)
        expect(row(bob, "Bob").locator(".role")).to_have_text("Moderator")
        expect(bob.page.get_by_label("Add somebody by name")).to_be_visible()
        expect(bob.page.locator(".notice").last).to_contain_text("You are a moderator of this room now")
        wire.cut()
        bob.status("Connection lost")
        owner.write("chat.set_member", person=bobs_id, role="member", muted=True)
    wire.mend()
    bob.wait_until_joined()
    expect(row(bob, "Bob").locator(".role")).to_have_text("Member")
    expect(row(bob, "Bob").locator(".tag.warning")).to_have_text("muted")
    expect(bob.page.get_by_label("Add somebody by name")).to_be_hidden()
    expect(bob.page.get_by_role("button", name="Leave this room")).to_be_hidden()


def test_roles_are_given_by_keyboard_and_only_after_a_second_look(
    open_browser: Open, deployment: Deployment
) -> None:
    ada = open_browser("Ada", deployment.port(1))
    bob = open_browser("Bob", deployment.port(2))
    keyboard = ada.page.keyboard
    expect(row(ada, "Bob")).to_have_count(1)  # he is here, so he can be given a role
    choice = ada.page.get_by_label("Role of Bob")
    choice.focus()
    choice.select_option("Moderator")
    expect(ada.page.get_by_text("Make Bob a moderator?")).to_be_visible()
    keyboard.press("Escape")  # of the question, not of the dialog
    expect(choice).to_have_value("")
    choice.select_option("Moderator")
    ada.page.get_by_role("button", name="Change").press("Enter")
    expect(bob.page.locator(".notice").last).to_contain_text("You are a moderator of this room now")
    expect(choice).to_have_value("moderator")
    expect(choice).to_be_focused()
    # An owner is no moderator's business.
    expect(row(bob, "Ada").locator("button, select")).to_have_count(0)
    keyboard.press("Escape")
    expect(ada.page.get_by_role("dialog")).to_be_hidden()
    expect(ada.page.get_by_role("button", name="Members")).to_be_focused()


RIGHTS = """async ([me, other, isPublic, owners, guest]) => {
  const { rightsOver } = await import("/static/chat/member_rights.js");
  const mine = { id: "me", role: me, muted: false };
  const theirs = { id: other === "me" ? "me" : "x", role: other === "me" ? me : other, guest, muted: false };
  const { roles, ...may } = rightsOver(mine, theirs, { isPublic, owners });
  return [roles.map(String).join(" "), Object.keys(may).filter((one) => may[one]).join(" ")];
}"""


@pytest.fixture
def rights(open_browser: Open, deployment: Deployment) -> Callable[..., list[str]]:
    page: Page = open_browser("Ada", deployment.port(1)).page

    def of(
        me: str | None,
        other: str | None,
        *,
        public: bool = True,
        owners: Sequence[str] = ("me", "x"),
        guest: bool = False,
    ) -> list[str]:
        offered: list[str] = page.evaluate(RIGHTS, [me, other, public, list(owners), guest])
        return offered

    return of


def test_nothing_is_offered_that_the_node_would_refuse(rights: Callable[..., list[str]]) -> None:
    nothing = ["", ""]
    assert rights(None, "member") == rights("member", None) == rights("banned", "member") == nothing
    assert rights("moderator", "owner") == rights("moderator", "moderator") == nothing
    assert rights("moderator", "me") == nothing
    assert rights("moderator", "member") == ["member null", "mute remove ban"]
    assert rights("moderator", None) == ["member null", "mute remove ban"]
    assert rights("moderator", "member", public=False) == ["", "mute remove"]
    assert rights("moderator", "banned") == ["", "pardon"]
    assert rights("owner", "moderator", public=False) == ["owner moderator member", "mute remove"]
    assert rights("owner", "owner") == ["owner moderator member null", "remove ban"]
    assert rights("owner", "me") == ["owner moderator member null", ""]
    assert rights("owner", "me", owners=["me"]) == nothing
    assert rights("owner", "member", guest=True) == ["moderator member null", "mute remove ban"]
    assert rights("owner", "owner", guest=True, owners=["me"]) == [
        "owner moderator member null",
        "remove ban",
    ]
    assert rights("owner", "owner", owners=["x"]) == nothing, "the other one is a guest"
