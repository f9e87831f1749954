"""The page of plans: what is for sale, buying once, and what a team has left."""

import re
import uuid
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from billing import ledger, money, plans
from billing.models import Plan, PlanOffer
from billing.payments.models import Payment
from portal import services
from portal.models import User
from tests.payments.scripted import ScriptedStripe

UNIT = 10**9


@pytest.fixture
def offer(db: None) -> PlanOffer:
    return PlanOffer.objects.create(
        name="Starter", description="For a start", kind="credit", price=8 * UNIT, value=10 * UNIT, days=30
    )


def form(offer: PlanOffer, **changed: str) -> dict[str, str]:
    """What the page sends back for an offer as it was seen."""
    return {"order": str(uuid.uuid4()), "price": str(offer.price), **changed}


def hidden(page: Any, name: str) -> str:
    """A hidden field of the page's form."""
    found = re.search(rf'name="{name}" value="([^"]*)"', page.content.decode())
    assert found
    return found[1]


def balance(user: User) -> int:
    return ledger.wallet_of(services.personal_team(user).pk).balance


def test_what_is_for_sale_stands_with_its_terms(as_alice: Client, offer: PlanOffer) -> None:
    PlanOffer.objects.create(name="Calls", kind="calls", price=UNIT, value=UNIT, calls=1000, days=7, refill="day")
    PlanOffer.objects.create(name="Gone", kind="credit", price=UNIT, value=UNIT, days=7, active=False)
    page = as_alice.get(reverse("plans")).content.decode()
    assert "Starter" in page
    assert "1,000 calls" in page
    assert "Gone" not in page


def test_what_a_plan_costs_and_gives_is_said_to_the_last_digit(as_alice: Client, offer: PlanOffer) -> None:
    PlanOffer.objects.filter(pk=offer.pk).update(price=money.parse("1234.567"), value=money.parse("2500.0000005"))
    assert "$1,234.567<" in as_alice.get(reverse("plans")).content.decode()
    asked = as_alice.get(reverse("plan_buy", args=[offer.pk])).content.decode()
    for said in ("−$1,234.567<", "Pay $1,234.567<", "$2,500.0000005<"):
        assert said in asked


def test_in_chinese_a_plan_says_for_which_models_it_is(as_alice: Client, offer: PlanOffer) -> None:
    page = as_alice.get(reverse("plans"), headers={"accept-language": "zh-hans"}).content.decode()
    assert "<dt>适用模型</dt><dd>全部模型</dd>" in page


def test_buying_asks_first_and_the_same_form_sent_twice_buys_once(
    as_alice: Client, alice: User, offer: PlanOffer
) -> None:
    asked = as_alice.get(reverse("plan_buy", args=[offer.pk]))
    assert balance(alice) == 10 * UNIT
    sent = form(offer, order=hidden(asked, "order"), price=hidden(asked, "price"))
    for _ in range(2):
        answer = as_alice.post(reverse("plan_buy", args=[offer.pk]), sent)
        assert answer.headers["Location"] == reverse("plans")
    assert (balance(alice), Plan.objects.count()) == (2 * UNIT, 1)
    assert "$10.00" in as_alice.get(reverse("plans")).content.decode()


@pytest.mark.parametrize("changed", [{"order": ""}, {"order": "no number"}, {"price": ""}, {"price": "8.00"}])
def test_a_form_that_is_not_whole_buys_nothing(
    as_alice: Client, alice: User, offer: PlanOffer, changed: dict[str, str]
) -> None:
    answer = as_alice.post(reverse("plan_buy", args=[offer.pk]), form(offer, **changed))
    assert answer.status_code == 422
    assert (balance(alice), Plan.objects.count()) == (10 * UNIT, 0)


def test_a_wallet_that_is_short_is_told_so(as_alice: Client, alice: User, offer: PlanOffer) -> None:
    PlanOffer.objects.update(price=11 * UNIT)
    offer.refresh_from_db()
    answer = as_alice.post(reverse("plan_buy", args=[offer.pk]), form(offer))
    assert answer.status_code == 422
    assert "too little" in answer.content.decode()
    assert balance(alice) == 10 * UNIT


@pytest.mark.parametrize("way", ["plan_buy", "plan_pay"])
def test_a_price_that_was_raised_after_it_was_seen_is_shown_before_it_is_paid(
    as_alice: Client, alice: User, offer: PlanOffer, stripe: ScriptedStripe, way: str
) -> None:
    PlanOffer.objects.update(price=9 * UNIT)
    answer = as_alice.post(reverse(way, args=[offer.pk]), form(offer, method="stripe"))
    assert answer.status_code == 422
    assert "The price of this plan has changed" in answer.content.decode()
    assert hidden(answer, "price") == str(9 * UNIT)
    assert (balance(alice), Plan.objects.count(), Payment.objects.count()) == (10 * UNIT, 0, 0)


def test_what_is_not_for_sale_cannot_be_bought(as_alice: Client, offer: PlanOffer) -> None:
    PlanOffer.objects.update(active=False)
    assert as_alice.post(reverse("plan_buy", args=[offer.pk]), form(offer)).status_code == 404


def test_plans_of_another_team_are_not_shown(as_charlie: Client, alice: User, offer: PlanOffer) -> None:
    team = services.personal_team(alice)
    plans.buy(team=team.pk, offer=offer, at_most=offer.price, order=uuid.uuid4(), actor="alice")
    assert "Your team has no plan" in as_charlie.get(reverse("plans")).content.decode()


def test_postpaid_is_offered_where_the_team_has_a_credit_limit(as_alice: Client, alice: User) -> None:
    page = as_alice.get(reverse("key_create")).content.decode()
    assert "no credit limit yet" in page
    wallet = ledger.wallet_of(services.personal_team(alice).pk)
    wallet.credit_limit = 50 * UNIT
    wallet.save(update_fields=["credit_limit"])
    page = as_alice.get(reverse("key_create")).content.decode()
    assert "on credit up to $50.00" in page


# ---- by a payment ----------------------------------------------------------------------------------------------------


def test_a_plan_is_paid_for_at_the_provider_under_its_name(
    as_alice: Client, offer: PlanOffer, stripe: ScriptedStripe
) -> None:
    sent = form(offer, method="stripe")
    answers = [as_alice.post(reverse("plan_pay", args=[offer.pk]), sent) for _ in range(2)]
    payment = Payment.objects.get()
    assert {answer["Location"] for answer in answers} == {payment.checkout_url}
    assert (payment.offer, payment.amount, payment.due) == (offer, 8 * UNIT, 800)
    assert "Starter" in str(stripe.asked[0][2])
    assert "Starter" in as_alice.get(reverse("payment", args=[payment.pk])).content.decode()


@pytest.mark.parametrize(
    ("changed", "says"),
    [({"order": ""}, "incomplete"), ({"method": "cash"}, "not offered any more"), ({"method": ""}, "not offered")],
)
def test_a_payment_that_cannot_begin_says_why(
    as_alice: Client, offer: PlanOffer, stripe: ScriptedStripe, changed: dict[str, Any], says: str
) -> None:
    answer = as_alice.post(reverse("plan_pay", args=[offer.pk]), form(offer, **{"method": "stripe", **changed}))
    assert (answer.status_code, Payment.objects.count()) == (422, 0)
    assert says in answer.content.decode()


def test_a_provider_that_fails_buys_nothing(as_alice: Client, offer: PlanOffer, stripe: ScriptedStripe) -> None:
    stripe.failing = 500
    answer = as_alice.post(reverse("plan_pay", args=[offer.pk]), form(offer, method="stripe"))
    assert answer.status_code == 422
    assert "could not be begun" in answer.content.decode()


def test_what_is_too_small_to_be_paid_is_bought_from_the_wallet_only(
    as_alice: Client, offer: PlanOffer, stripe: ScriptedStripe
) -> None:
    assert "Or pay for it now" in as_alice.get(reverse("plan_buy", args=[offer.pk])).content.decode()
    PlanOffer.objects.update(price=UNIT)
    assert "Or pay for it now" not in as_alice.get(reverse("plan_buy", args=[offer.pk])).content.decode()


def test_what_the_wallet_may_spend_counts_its_credit_and_too_little_is_seen_before(
    as_alice: Client, alice: User, offer: PlanOffer
) -> None:
    PlanOffer.objects.update(price=30 * UNIT)
    page = as_alice.get(reverse("plan_buy", args=[offer.pk])).content.decode()
    assert "$10.00 available in the wallet" in page
    assert "disabled" in page
    wallet = ledger.wallet_of(services.personal_team(alice).pk)
    assert ledger.set_credit_limit(wallet=wallet, before=0, limit=40 * UNIT)
    page = as_alice.get(reverse("plan_buy", args=[offer.pk])).content.decode()
    assert "$50.00 available in the wallet" in page
    assert "disabled" not in page
