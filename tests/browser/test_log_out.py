"""What people see when their session ends, or their password is changed, while pages of theirs are open."""

import os
import secrets
import subprocess
import sys

from playwright.sync_api import Page, expect

from deploy.local.plan import PROJECT_FOLDER
from tests.browser.conftest import Open
from tests.browser.deployment import Deployment
from tests.browser.test_members import sign_up
from tests.person import Person
from tests.visitor import PASSWORD

CHANGE_PASSWORD = """
from app.accounts.models import User
user = User.objects.get(username="{name}")
user.set_password("another walk on the beach")
user.save()
"""


def draft(page: Page) -> str:
    return page.get_by_role("textbox", name="Message to").input_value()


def log_in(person: Person, name: str) -> None:
    """The guest is somebody with an account from now on."""
    person.page.get_by_role("link", name="Log in").click()
    person.page.get_by_label("Name").fill(name)
    person.page.get_by_label("Password").fill(PASSWORD)
    person.page.get_by_role("button", name="Log in").click()
    person.wait_until_joined()


def test_whoever_is_logged_out_here_or_everywhere_is_told_why_and_keeps_what_they_wrote(
    open_browser: Open, deployment: Deployment
) -> None:
    name = f"Ada {secrets.token_hex(4)}"
    ada, elsewhere = (open_browser("Ada", deployment.port(node)) for node in (1, 2))
    sign_up(ada, name)
    log_in(elsewhere, name)
    for person in (ada, elsewhere):
        person.network_may_fail = True  # the browser repeats that no ticket is to be had
        person.page.get_by_role("textbox", name="Message to").fill("half a sent")
    tab = ada.open_tab()
    with tab.expect_request("**/accounts/ticket/"):
        ada.page.get_by_role("button", name="Log out").click()
    expect(tab.locator("#status-text")).to_contain_text("Disconnected: this session has ended: log in again")
    assert draft(tab) == "half a sent"
    elsewhere.status("Connected to node-2")
    with elsewhere.page.expect_request("**/accounts/ticket/"):
        change = [sys.executable, "-m", "app.manage", "shell", "-c", CHANGE_PASSWORD.format(name=name)]
        folder = {"DATA_FOLDER": str(deployment.plan.data_folder)}
        subprocess.run(change, cwd=PROJECT_FOLDER, env={**os.environ, **folder}, check=True, timeout=60)
    elsewhere.status("Disconnected: the password was changed: log in again")
    assert draft(elsewhere.page) == "half a sent"
    elsewhere.page.get_by_role("button", name="Log in").click()
    elsewhere.page.wait_for_url("**/accounts/log-in/**")


def test_a_page_whose_session_got_another_key_in_another_tab_comes_back(
    open_browser: Open, deployment: Deployment
) -> None:
    grace = open_browser("Grace", deployment.port(1))
    room, first = grace.page.url, grace.open_tab()
    grace.page.goto(f"http://127.0.0.1:{deployment.port(1)}/accounts/guest/")
    grace.page.get_by_label("Name").fill("Grace H")
    grace.page.get_by_role("button", name="Enter as a guest").click()
    expect(first.locator(".divider")).to_contain_text("Reconnected, now to node-1", timeout=30_000)
    grace.page.goto(room)
    grace.wait_until_joined()
    grace.say("and on it goes")
    expect(first.get_by_text("and on it goes", exact=True)).to_be_visible()
