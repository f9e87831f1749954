"""Amounts of millions: each stands on its card, and over nothing else."""

import pytest
from playwright.sync_api import Page

from billing import catalog, money, prices
from keys.models import ApiKey
from tests.kit.browser import let_sign_in, sign_in
from tests.kit.gateway import Customer, Gateway
from tests.portal import made

# The figures that a chart covers in their tile, and the labels of an axis that stand beyond their card.
COVERED = """() => [...document.querySelectorAll('.tile:has(.spark)')].filter(tile => {
  const figure = document.createRange();
  figure.selectNodeContents(tile.querySelector('.v'));
  const [text, chart] = [figure.getBoundingClientRect(), tile.querySelector('.spark').getBoundingClientRect()];
  return chart.width && text.right > chart.left && text.bottom > chart.top && text.top < chart.bottom;
}).map(tile => tile.textContent)"""
BEYOND = """() => [...document.querySelectorAll('.yl')].filter(label =>
  label.getBoundingClientRect().left < label.closest('.card').getBoundingClientRect().left).map(x => x.textContent)"""

pytestmark = pytest.mark.parametrize("breakable", ["sqlite"], indirect=True)


@pytest.fixture
def rich(breakable: Gateway) -> Customer:
    """Who can sign in, and has spent millions."""
    breakable.collect_static()
    customer = breakable.customer()
    let_sign_in(breakable, customer)
    with breakable.inside():
        model = catalog.save_model(name="dear", kind="chat", provider="OpenAI")
        price = catalog.set_price(model, prices.parse_card({"input": "2.50", "output": "10"}), actor="tests")
        assert price is not None
        made.call(ApiKey.objects.get(pk=customer.key), price, cost=money.parse("7373041.87"))
    breakable.start()
    return customer


@pytest.mark.parametrize("width", [375, 1024, 1440])
def test_amounts_of_millions_stand_on_their_cards(breakable: Gateway, rich: Customer, page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    sign_in(page, breakable, rich)
    assert "$7,373,041.87" in page.locator(".tiles").inner_text()
    assert page.evaluate(COVERED) == []
    for address in ("/", "/usage/"):
        page.goto(breakable.url + address)
        assert page.locator(".yl").count() > 2
        assert page.evaluate(BEYOND) == []
