"""The public price list."""

import datetime as dt

from django.test import Client
from django.urls import reverse
from django.utils import timezone

from billing import catalog, groups, ledger, prices
from billing.models import PriceVersion
from portal import pricing
from portal.models import Team


def test_prices_are_public_and_exact(client: Client, price: PriceVersion) -> None:
    page = client.get(reverse("pricing")).content.decode()
    for text in ("gpt-4o-mini", "OpenAI", "128K", "0.150", "0.075", "0.600", "or 0.01 per call"):
        assert text in page


def test_a_bucket_without_a_price_shows_what_it_costs(price: PriceVersion) -> None:
    (row,) = pricing.price_list().tokens
    write = row.cells[2]
    assert (write.rate, write.inherited) == (catalog.card_of(price).rates["input"], True)


def test_the_price_of_an_hour_in_the_cache_is_told_where_there_is_one(client: Client, price: PriceVersion) -> None:
    assert "for an hour" not in client.get(reverse("pricing")).content.decode()
    card = prices.parse_card({"input": "4", "cache_write": "5", "cache_write_1h": "8", "output": "20"})
    catalog.set_price(catalog.save_model(name="keeps"), card, actor="tests")
    assert "Cache write for an hour 8.00" in client.get(reverse("pricing")).content.decode()


def test_the_price_of_a_search_stands_below_the_model(client: Client, price: PriceVersion) -> None:
    assert "per search" not in client.get(reverse("pricing")).content.decode()
    card = prices.parse_card({"input": "4", "output": "20", "per_search": "0.01"})
    catalog.set_price(catalog.save_model(name="searches"), card, actor="tests")
    assert "0.01 per search" in client.get(reverse("pricing")).content.decode()


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


def test_tiers_stand_below_their_model(client: Client, price: PriceVersion) -> None:
    tiers = [{"above": 200000, "input": "2.50", "reasoning": "20"}]
    card = prices.parse_card({"input": "1.25", "cache_read": "0.31", "output": "10", "tiers": tiers})
    catalog.set_price(catalog.save_model(name="long"), card, actor="tests")
    page = client.get(reverse("pricing")).content.decode()
    for text in ("more than 200,000 tokens of input", "2.500", "Reasoning 20.00"):
        assert text in page
    (row,) = (row for row in pricing.price_list().tokens if row.offer.model.name == "long")
    (tier,) = row.tiers
    rates = [cell.rate and cell.rate / 10**9 for cell in tier.cells]
    assert (rates, tier.cells[2].inherited) == ([2.5, 0.31, 2.5, 10], True)


def test_a_planned_tier_is_announced(client: Client, price: PriceVersion) -> None:
    soon = timezone.now() + dt.timedelta(days=9)
    card = prices.parse_card({"input": "0.12", "output": "0.48", "tiers": [{"above": 128000, "input": "0.24"}]})
    catalog.set_price(price.model, card, actor="t", valid_from=soon)
    page = client.get(reverse("pricing")).content.decode()
    assert "Input 0.12, Output 0.48; above 128,000 tokens of input Input 0.24" in page


def test_a_team_in_a_group_sees_its_final_prices_and_others_the_lists(
    as_alice: Client, as_charlie: Client, client: Client, team: Team, price: PriceVersion
) -> None:
    groups.put(wallet=ledger.wallet_of(team.pk), group=groups.save(name="vip", multiplier=875_000))
    page = as_alice.get(reverse("pricing")).content.decode()
    for told in ("those of the group vip", "× 0.875", ">0.131250<", ">0.525000<", "or 0.00875 per call"):
        assert told in page
    for other in (as_charlie, client):
        page = other.get(reverse("pricing")).content.decode()
        assert ">0.150<" in page
        assert "vip" not in page


def test_a_groups_own_price_is_shown_as_it_is_with_all_that_is_planned(
    as_alice: Client, client: Client, team: Team, price: PriceVersion
) -> None:
    group = groups.save(name="vip", multiplier=500_000)
    groups.put(wallet=ledger.wallet_of(team.pk), group=group)
    now = timezone.now()
    catalog.set_price(price.model, prices.parse_card({"input": "0.11"}), actor="tests", group=group)
    later = prices.parse_card({"input": "0.12"})
    catalog.set_price(price.model, later, actor="tests", group=group, valid_from=now + dt.timedelta(days=3))
    catalog.set_price(price.model, None, actor="tests", group=group, valid_from=now + dt.timedelta(days=5))
    page = as_alice.get(reverse("pricing")).content.decode()
    for told in (">0.11<", "own price", "Input 0.12", "Input 0.075, Cache read 0.0375, Output 0.30"):
        assert told in page
    page = client.get(reverse("pricing")).content.decode()
    assert "own price" not in page
    assert "0.11" not in page


def test_pictures_by_size_and_quality_have_a_line_each(client: Client, price: PriceVersion) -> None:
    card = {"1024x1024/low": "0.011", "1024x1024/high": "0.167", "default": "0.25"}
    for name, written in (("painter", {"per_image": card}), ("speaker", {"characters": "15"})):
        catalog.set_price(catalog.save_model(name=name), prices.parse_card(written), actor="tests")
    page = client.get(reverse("pricing")).content.decode()
    for told in ("per picture 1024x1024/low", "0.011", "per other picture", "0.250", "per 1M characters", "15.000"):
        assert told in page
