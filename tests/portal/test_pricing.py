"""The public price list."""

import datetime as dt

from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing import catalog, prices
from billing.models import PriceVersion
from portal import pricing


def test_prices_are_public_and_exact(client: Client, price: PriceVersion) -> None:
    page = client.get(reverse("pricing")).content.decode()
    for text in ("gpt-4o-mini", "OpenAI", "128K", "0.150", "0.075", "0.600", "or 0.01 per call"):
        assert text in page


def test_a_bucket_without_a_price_shows_what_it_costs(price: PriceVersion) -> None:
    (row,) = pricing.price_list().tokens
    write = row.cells[2]
    assert (write.rate, write.inherited) == (price.rates["input"], True)


def test_a_change_is_announced_with_its_date(client: Client, price: PriceVersion) -> None:
    soon = timezone.now() + dt.timedelta(days=9)
    catalog.set_price(price.model, prices.parse_card({"input": "0.12", "output": "0.48"}), actor="t", valid_from=soon)
    page = client.get(reverse("pricing")).content.decode()
    assert "Input 0.12, Output 0.48" in page
    assert "0.150" in page


def test_models_are_found_by_name_and_provider(client: Client, price: PriceVersion) -> None:
    image = catalog.save_model(name="gpt-image-1", kind="image", provider="Painter")
    catalog.set_price(image, prices.parse_card({"per_image": "0.04"}), actor="tests")
    everything = client.get(reverse("pricing")).content.decode()
    assert "per picture" in everything
    for query, found, missing in (
        ({"q": "IMAGE"}, "gpt-image-1", "gpt-4o-mini"),
        ({"q": "openai"}, "gpt-4o-mini", "gpt-image-1"),
        ({"provider": "Painter"}, "gpt-image-1", "gpt-4o-mini"),
    ):
        page = client.get(reverse("pricing"), query).content.decode()
        assert found in page
        assert missing not in page
    assert "No model matches “zzz”." in client.get(reverse("pricing"), {"q": "zzz"}).content.decode()


def test_what_is_not_offered_or_has_no_price_is_not_listed(client: Client, price: PriceVersion) -> None:
    catalog.save_model(name="unpriced", kind="chat")
    catalog.save_model(name="gpt-4o-mini", active=False)
    page = client.get(reverse("pricing")).content.decode()
    assert "No models are offered yet." in page
