"""Two who save the same for the first time at once: the second waits for the first, and what he sent is stored."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillWaits
from typing import Any

import pytest
from django.db import connections, transaction
from django.test import Client
from django.urls import reverse

from billing import budgets
from billing.models import BillingDetails, BudgetOwner
from keys import services as keys
from portal import services

UNIT = 10**9
WAITS = 0.5  # seconds in which whoever does not wait would have been answered


def while_uncommitted(first: Callable[[], Any], second: Callable[[], Any]) -> int:
    """The status of the second one's answer, who comes when the first has written and not committed."""

    def ask() -> int:
        try:
            return int(second().status_code)
        finally:
            connections.close_all()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            first()
            asked = pool.submit(ask)
            with pytest.raises(StillWaits):
                asked.result(WAITS)
        return asked.result(30)


@pytest.fixture
def member(books: str) -> Client:
    client = Client(raise_request_exception=False)
    client.force_login(services.user_with_team("alice@example.com")[0])
    return client


def test_first_caps_of_a_key(member: Client) -> None:
    _, team = services.user_with_team("alice@example.com")
    key, _ = keys.issue(team_id=team.pk, spec=keys.Spec(name="agent"))
    status = while_uncommitted(
        lambda: keys.set_caps(key, {"day": 5 * UNIT}, actor="tests"),
        lambda: member.post(reverse("limit_key", args=[key.pk]), {"day": "6", "week": "", "month": "9", "total": ""}),
    )
    assert status == 302
    assert {budget.window: budget.cap for budget in budgets.of_keys([key.pk])[key.pk]} == {
        "day": 6 * UNIT, "month": 9 * UNIT,
    }  # fmt: skip


def test_first_caps_of_a_team(member: Client) -> None:
    _, team = services.user_with_team("alice@example.com")
    status = while_uncommitted(
        lambda: budgets.set_caps(owner=BudgetOwner.TEAM, owner_id=team.pk, caps={"day": 5 * UNIT}),
        lambda: member.post(reverse("limit_team"), {"day": "6", "week": "", "month": "", "total": ""}),
    )
    assert (status, [budget.cap for budget in budgets.of_team(team.pk)]) == (302, [6 * UNIT])


@pytest.mark.parametrize("way", ["page", "api"])
def test_first_billing_details(member: Client, way: str) -> None:
    _, team = services.user_with_team("alice@example.com")
    sent = {"name": "Northwind", "tax_id": "DE1"}
    ways: dict[str, tuple[Callable[[], Any], int]] = {
        "page": (lambda: member.post(reverse("billing_details"), sent), 302),
        "api": (lambda: member.patch("/api/v1/billing-details", sent, content_type="application/json"), 200),
    }
    second, done = ways[way]
    status = while_uncommitted(lambda: BillingDetails.objects.create(team=team, name="Southwind", tax_id="DE0"), second)
    assert (status, list(BillingDetails.objects.values_list("name", "tax_id"))) == (done, [("Northwind", "DE1")])
