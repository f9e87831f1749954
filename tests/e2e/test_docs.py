"""The documentation in a real browser: samples as tabs that remember the language, and all of them without scripts."""

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.kit.gateway import Gateway

LANGUAGES = ("sh", "py", "mjs", "php")

pytestmark = pytest.mark.parametrize("breakable", ["sqlite"], indirect=True)


def shown(page: Page, group: str) -> list[str]:
    return [name for name in LANGUAGES if page.locator(f"#code-{group}-{name}").is_visible()]


def test_samples_are_tabs_that_remember_the_language_and_need_no_script(
    breakable: Gateway, browser: Browser, page: Page
) -> None:
    breakable.collect_static()
    url = breakable.start().url
    page.goto(f"{url}/docs/openai-chat/")
    assert [shown(page, group) for group in ("openai-chat", "openai-stream")] == [["sh"], ["sh"]]
    page.get_by_role("tab", name="Node").first.click()
    assert [shown(page, group) for group in ("openai-chat", "openai-stream")] == [["mjs"], ["mjs"]]
    page.get_by_role("tab", name="Node").first.press("ArrowRight")
    expect(page.get_by_role("tab", name="PHP").first).to_be_focused()
    page.goto(f"{url}/docs/anthropic/")
    assert shown(page, "anthropic-message") == ["php"]
    page.set_viewport_size({"width": 360, "height": 700})
    page.locator("details.menu > summary").click()
    page.locator("details.menu").get_by_role("link", name="Errors").click()
    page.wait_for_url(f"{url}/docs/errors/")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    plain = browser.new_context(java_script_enabled=False, locale="en-US").new_page()
    plain.goto(f"{url}/docs/openai-chat/")
    assert shown(plain, "openai-chat") == list(LANGUAGES)
    assert not plain.get_by_role("tab").first.is_visible()
