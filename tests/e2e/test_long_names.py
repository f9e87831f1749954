"""Names as long as they may be, without a place to break: they stay on their pages and in their dialogs."""

import pytest
from playwright.sync_api import Page

from billing import budgets, catalog, prices
from billing.models import BudgetOwner
from keys.models import ApiKey
from portal.models import Team, User
from tests.kit.browser import let_sign_in, sign_in
from tests.kit.gateway import Customer, Gateway
from tests.portal import made

LONG = "W" * 100
# What is wider than the window or its dialog, and what of a dialog stands beyond its edge.
OUTSIDE = """() => {
  const dialog = document.querySelector('dialog[open]');
  const beyond = [...document.querySelectorAll('dialog[open] :is(a, button, input, h2, p)')]
    .filter(part => part.getBoundingClientRect().right > dialog.getBoundingClientRect().right);
  const boxes = [document.documentElement, ...document.querySelectorAll('dialog[open], dialog[open] .dlg-body')];
  return [...beyond, ...boxes.filter(box => box.scrollWidth > box.clientWidth)].map(x => x.outerHTML.slice(0, 60));
}"""

# Buttons that have an icon alone, and are too small for a finger: less than 24 pixels (WCAG 2.2, 2.5.8).
SMALL = """() => [...document.querySelectorAll('.btn.icon')].map(button => button.getBoundingClientRect())
  .filter(box => box.width && (box.width < 24 || box.height < 24)).length"""

# The costs that stand beyond the edge of their card.
BEYOND = """() => [...document.querySelectorAll('tr:has(a[href^="/usage/0"]) td:last-child')].filter(cost =>
  cost.getBoundingClientRect().right > cost.closest('.card').getBoundingClientRect().right).map(x => x.textContent)"""

pytestmark = pytest.mark.parametrize("breakable", ["sqlite"], indirect=True)


@pytest.fixture
def named(breakable: Gateway) -> tuple[Customer, list[str]]:
    """Who can sign in, and the pages and dialogs with the long names of a key, a model and a channel."""
    breakable.collect_static()
    customer = breakable.customer(name=LONG)
    customer.email = f"{'w' * 60}@example.com"
    with breakable.inside():
        User.objects.update(email=customer.email)
        Team.objects.update(name="A team with a name that goes on and on, department")
    let_sign_in(breakable, customer)
    with breakable.inside():
        caps = dict.fromkeys(budgets.SHORTEST_FIRST, 4 * 10**18)
        budget = budgets.set_caps(owner=BudgetOwner.KEY, owner_id=customer.key, caps=caps)["day"].pk
        model = catalog.save_model(name="m" * 200, kind="chat", provider="OpenAI")
        price = catalog.set_price(model, prices.parse_card({"input": "2.50", "output": "10"}), actor="tests")
        assert price is not None
        call = made.call(ApiKey.objects.get(pk=customer.key), price, request_id="r" * 128, channel="C" * 100)
        made.attempt(call, channel="C" * 100, detail="e" * 300, outcome="refused", status=502)
    breakable.start()
    return customer, [
        "/", "/keys/", f"/keys/{customer.key}/edit/", f"/keys/{customer.key}/revoke/", "/limits/",
        f"/limits/keys/{customer.key}/", f"/limits/{budget}/raise/", "/usage/", "/usage/?by=key", f"/usage/{call.pk}/",
        "/pricing/", "/notices/",
    ]  # fmt: skip


def test_long_names_stay_on_their_pages_and_in_their_dialogs(
    breakable: Gateway, named: tuple[Customer, list[str]], page: Page
) -> None:
    customer, addresses = named
    sign_in(page, breakable, customer)
    outside: dict[str, list[str]] = {}
    for width in (375, 768, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        for address in addresses:
            page.goto(breakable.url + address)
            outside[f"{address} at {width}"] = page.evaluate(OUTSIDE)
    assert [where for where, found in outside.items() if found] == []


@pytest.mark.parametrize("width", [360, 390])
def test_a_calls_cost_is_seen_beside_long_names(
    breakable: Gateway, named: tuple[Customer, list[str]], page: Page, width: int
) -> None:
    sign_in(page, breakable, named[0])
    page.set_viewport_size({"width": width, "height": 800})
    for address in ("/", "/usage/"):
        page.goto(breakable.url + address)
        assert page.locator("tr a[href^='/usage/0']").count() == 1
        assert page.evaluate(BEYOND) == []


def test_names_leave_buttons_their_size(breakable: Gateway, named: tuple[Customer, list[str]], page: Page) -> None:
    customer, addresses = named
    sign_in(page, breakable, customer)
    page.set_viewport_size({"width": 375, "height": 800})
    small = {}
    for address in addresses:
        page.goto(breakable.url + address)
        small[address] = page.evaluate(SMALL)
    assert [where for where, found in small.items() if found] == []
