"""A real browser, and how a member signs in with it."""

from collections.abc import Iterator

import pytest
from django.contrib.auth.hashers import PBKDF2PasswordHasher
from playwright.sync_api import Browser, Page, sync_playwright

from portal.models import User
from tests.kit.gateway import Customer, Gateway
from tests.kit.services import services

PASSWORD = "correct horse battery staple"
_FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


@pytest.fixture
def browser() -> Iterator[Browser]:
    program = services.get("chromium")
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=program.path, args=_FLAGS)
        yield found
        found.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that records what its console says is wrong; a page without faults says nothing."""
    opened = browser.new_page(locale="en-US")
    faults: list[str] = []
    opened.on("pageerror", lambda error: faults.append(str(error)))
    opened.on("console", lambda said: faults.append(said.text) if said.type == "error" else None)
    yield opened
    assert faults == []


def let_sign_in(gateway: Gateway, customer: Customer) -> None:
    """Gives the customer `PASSWORD`. By the hasher of the installation, not by the tests' own quick one."""
    with gateway.inside():
        User.objects.filter(email=customer.email).update(password=PBKDF2PasswordHasher().encode(PASSWORD, "a-salt"))


def sign_in(page: Page, gateway: Gateway, customer: Customer, *, to: str = "/") -> None:
    page.goto(f"{gateway.url}/accounts/login/?next={to}")
    page.get_by_label("E-mail").fill(customer.email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{gateway.url}{to}")
