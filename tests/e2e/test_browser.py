"""A real browser: signs in, creates a key, and finds the call that was made with it, with its cost."""

from collections.abc import Iterator

import openai
import pytest
from playwright.sync_api import Page, expect

from tests.kit.browser import let_sign_in, sign_in
from tests.kit.gateway import Customer, Gateway


@pytest.fixture
def member(breakable: Gateway) -> Iterator[Customer]:
    """A customer who can sign in, on an installation whose pages have their style sheets. The books stay whole."""
    breakable.collect_static()
    made = breakable.customer()
    let_sign_in(breakable, made)
    breakable.start()
    yield made
    assert breakable.audit() == []


def test_a_member_signs_in_creates_a_key_and_finds_the_call_with_its_cost(
    breakable: Gateway, member: Customer, page: Page
) -> None:
    sign_in(page, breakable, member)

    page.goto(f"{breakable.url}/keys/create/")
    page.locator("#id_name").fill("from the browser")
    page.get_by_role("button", name="Create key").click()
    secret = page.locator("#secret-key").inner_text()
    assert secret.startswith("pisces-")

    with openai.OpenAI(base_url=f"{breakable.url}/v1", api_key=secret, max_retries=0) as sdk:
        answer = sdk.chat.completions.create(model="chat", messages=[{"role": "user", "content": "Hello"}])
    assert answer.choices[0].message.content == "Hello, world."

    page.goto(f"{breakable.url}/keys/")
    expect(page.get_by_text("from the browser")).to_be_visible()
    assert secret not in page.content()
    page.goto(f"{breakable.url}/usage/")
    page.locator("a[href^='/usage/0']").first.click()
    expect(page.get_by_role("heading", name="chat")).to_be_visible()
    expect(page.locator(".tile").filter(has_text="Cost")).to_contain_text("0.0002")
    expect(page.locator("table.lines")).to_contain_text("100")
