"""The page of plans: what is for sale, buying once, and what a team has left."""

import uuid

import pytest
from django.test import Client
from django.urls import reverse

from billing import ledger, plans
from billing.models import Plan, PlanOffer
from portal import services
from portal.models import User

UNIT = 10**9


@pytest.fixture
def offer(db: None) -> PlanOffer:
    return PlanOffer.objects.create(
        name="Starter", description="For a start", kind="credit", price=8 * UNIT, value=10 * UNIT, days=30
    )


def balance(user: User) -> int:
    return ledger.wallet_of(services.personal_team(user).pk).balance


def test_what_is_for_sale_stands_with_its_terms(as_alice: Client, offer: PlanOffer) -> None:
    PlanOffer.objects.create(name="Calls", kind="calls", price=UNIT, value=UNIT, calls=1000, days=7, refill="day")
    PlanOffer.objects.create(name="Gone", kind="credit", price=UNIT, value=UNIT, days=7, active=False)
    page = as_alice.get(reverse("plans")).content.decode()
    assert "Starter" in page
    assert "1,000 calls" in page
    assert "Gone" not in page


def test_buying_asks_first_and_the_same_form_sent_twice_buys_once(
    as_alice: Client, alice: User, offer: PlanOffer
) -> None:
    asked = as_alice.get(reverse("plan_buy", args=[offer.pk]))
    order = asked.context["order"]
    assert balance(alice) == 10 * UNIT
    for _ in range(2):
        answer = as_alice.post(reverse("plan_buy", args=[offer.pk]), {"order": str(order)})
        assert answer.headers["Location"] == reverse("plans")
    assert (balance(alice), Plan.objects.count()) == (2 * UNIT, 1)
    assert "$10.00" in as_alice.get(reverse("plans")).content.decode()


@pytest.mark.parametrize("order", ["", "no number"])
def test_a_form_without_its_order_buys_nothing(as_alice: Client, alice: User, offer: PlanOffer, order: str) -> None:
    answer = as_alice.post(reverse("plan_buy", args=[offer.pk]), {"order": order})
    assert answer.status_code == 422
    assert (balance(alice), Plan.objects.count()) == (10 * UNIT, 0)


def test_a_wallet_that_is_short_is_told_so(as_alice: Client, alice: User, offer: PlanOffer) -> None:
    PlanOffer.objects.update(price=11 * UNIT)
    answer = as_alice.post(reverse("plan_buy", args=[offer.pk]), {"order": str(uuid.uuid4())})
    assert answer.status_code == 422
    assert "too little" in answer.content.decode()
    assert balance(alice) == 10 * UNIT


def test_what_is_not_for_sale_cannot_be_bought(as_alice: Client, offer: PlanOffer) -> None:
    PlanOffer.objects.update(active=False)
    assert as_alice.post(reverse("plan_buy", args=[offer.pk]), {"order": str(uuid.uuid4())}).status_code == 404


def test_plans_of_another_team_are_not_shown(as_charlie: Client, alice: User, offer: PlanOffer) -> None:
    team = services.personal_team(alice)
    plans.buy(team=team.pk, offer=offer, order=uuid.uuid4(), actor="alice")
    assert "Your team has no plan" in as_charlie.get(reverse("plans")).content.decode()


def test_postpaid_is_offered_where_the_team_has_a_credit_limit(as_alice: Client, alice: User) -> None:
    page = as_alice.get(reverse("key_create")).content.decode()
    assert "no credit limit yet" in page
    wallet = ledger.wallet_of(services.personal_team(alice).pk)
    wallet.credit_limit = 50 * UNIT
    wallet.save(update_fields=["credit_limit"])
    page = as_alice.get(reverse("key_create")).content.decode()
    assert "on credit up to $50.00" in page
