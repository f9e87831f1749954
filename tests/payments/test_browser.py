"""Paying in, in a real browser: to the provider's page by our form, and back to the truth."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from playwright.sync_api import Page, Route

from billing.payments import rates
from tests.kit import databases
from tests.kit.browser import let_sign_in, sign_in
from tests.kit.gateway import Customer, Gateway
from tests.payments import scripted
from tests.payments.scripted import ScriptedStripe

# Two clicks, the second one while the first one's answer is waited for; Playwright's own would wait for it too.
TWICE = """async () => {
  const button = document.querySelector('form[action="/wallet/pay/"] button');
  button.click();
  await new Promise(later => setTimeout(later, 500));
  button.click();
}"""


@pytest.fixture
def stripe() -> Iterator[ScriptedStripe]:
    server = ScriptedStripe()
    yield server
    server.stop()


@pytest.fixture
def till(stripe: ScriptedStripe) -> Iterator[tuple[Gateway, Customer]]:
    """A customer who can sign in, on an installation that Stripe's forms may leave for its page."""
    gateway = Gateway(
        databases.KINDS[0],
        STRIPE_SECRET_KEY=scripted.KEY,
        STRIPE_WEBHOOK_SECRETS=scripted.SECRET,
        STRIPE_API_BASE=stripe.url,
        CHECKOUT_ORIGINS=stripe.url,
        EPAY_URL="http://127.0.0.1:9/",
        EPAY_PID=scripted.EPAY_PID,
        EPAY_KEY=scripted.EPAY_KEY,
    )
    gateway.collect_static()
    if os.environ.get("SHOTS"):
        gateway.manage("prepare")  # both languages
    made = gateway.customer("0")
    with gateway.inside():
        rates.put(currency="CNY", rate=rates.parse("7.1035"), actor="tests")
    let_sign_in(gateway, made)
    gateway.start()
    yield gateway, made
    assert gateway.audit() == []
    gateway.stop()


def test_a_member_pays_with_stripe_and_sees_it_when_it_is_confirmed(
    till: tuple[Gateway, Customer], stripe: ScriptedStripe, page: Page
) -> None:
    gateway, member = till
    sign_in(page, gateway, member, to="/wallet/")
    page.get_by_label("Other amount").fill("12.34")
    page.get_by_role("button", name="Continue to payment").click()
    page.wait_for_url(f"{stripe.url}/pay/**")
    (session,) = stripe.sessions.values()
    assert session["amount_total"] == 1234

    done = stripe.asked[0][2]["success_url"].partition("/wallet/")[2]
    page.goto(f"{gateway.url}/wallet/{done}")
    assert page.get_by_text("has not been confirmed yet").is_visible()
    body, headers = scripted.signed(
        scripted.event("checkout.session.completed", json.loads(json.dumps(stripe.pay(session["id"]))))
    )
    assert requests.post(f"{gateway.url}/webhooks/stripe/", data=body, headers=headers, timeout=20).ok
    page.get_by_text("$12.34 is in the wallet").wait_for()  # the page looks again by itself
    _shots(gateway, page)


def test_a_button_that_is_clicked_twice_begins_one_payment(
    till: tuple[Gateway, Customer], stripe: ScriptedStripe, page: Page
) -> None:
    gateway, member = till
    sign_in(page, gateway, member, to="/wallet/")
    sent: list[Route] = []
    page.route("**/wallet/pay/", lambda route: sent.append(route))  # a slow server: the button stays
    page.evaluate(TWICE)
    assert len(sent) == 1
    sent[0].continue_()
    page.wait_for_url(f"{stripe.url}/pay/**")
    assert len(stripe.sessions) == 1


def _shots(gateway: Gateway, page: Page) -> None:
    """With SHOTS=folder in the environment: how the pages look, light and dark, wide and narrow, in both languages."""
    if not (folder := os.environ.get("SHOTS")):
        return
    receipt = page.url
    for language, scheme, width in (
        ("en", "light", 1440),
        ("en", "dark", 390),
        ("zh-hans", "dark", 1440),
        ("zh-hans", "light", 390),
    ):
        page.context.add_cookies([{"name": "django_language", "value": language, "url": gateway.url}])
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        page.set_viewport_size({"width": width, "height": 900})
        for name, address in (("wallet", f"{gateway.url}/wallet/"), ("receipt", receipt)):
            page.goto(address)
            page.screenshot(path=Path(folder) / f"{name}-{language}-{scheme}-{width}.png", full_page=True)
