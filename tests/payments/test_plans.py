"""A payment for a plan buys it when it is confirmed, once; where that cannot be, the money is in the wallet."""

import uuid
from typing import Any

import pytest
from django.urls import reverse

from billing import audit, debts, ledger, money, plans, selectors
from billing.models import Account, Plan, PlanOffer
from billing.payments import orders
from billing.payments.models import Payment
from portal.models import User
from tests.payments import scripted
from tests.payments.conftest import Till


@pytest.fixture
def offer(books: str) -> PlanOffer:
    return PlanOffer.objects.create(
        name="Starter", kind="credit", price=20 * money.NANO, value=25 * money.NANO, days=30, at_once=1
    )


def begin(till: Till, offer: PlanOffer, **more: Any) -> Payment:
    return till.begin(money.to_text(offer.price), offer=offer, **more)


def test_the_plan_is_bought_once_when_the_payment_is_confirmed(till: Till, offer: PlanOffer) -> None:
    payment = begin(till, offer)
    assert not Plan.objects.exists()
    for _ in range(2):  # Stripe delivers more than once
        assert till.confirm(payment).note == ""
    plan = Plan.objects.get()
    assert (plan.order, plan.value, plan.actor, till.balance) == (payment.pk, 25 * money.NANO, payment.actor, "0")
    assert till.moved("purchase") == [("wallet", "plans", "20")]
    assert audit.run() == []


@pytest.mark.parametrize("why", ["withdrawn", "dearer", "as many as it may have"])
def test_a_plan_that_cannot_be_had_any_more_leaves_the_money_in_the_wallet(
    till: Till, offer: PlanOffer, why: str
) -> None:
    payment = begin(till, offer)
    if why == "withdrawn":
        PlanOffer.objects.update(active=False)
    elif why == "dearer":
        PlanOffer.objects.update(price=21 * money.NANO)
    else:
        till.confirm(begin(till, offer))
    before = Plan.objects.count()
    assert till.confirm(payment).note == "the plan was not bought; the money is in the wallet"
    assert (till.balance, Plan.objects.count()) == ("20", before)
    assert audit.run() == []


def test_a_plan_that_became_cheaper_leaves_the_rest_in_the_wallet(till: Till, offer: PlanOffer) -> None:
    payment = begin(till, offer)
    PlanOffer.objects.update(price=15 * money.NANO)
    till.confirm(payment)
    assert (Plan.objects.get().price, till.balance) == (15 * money.NANO, "5")


def owing(till: Till, amount: str) -> Account:
    """The account of what the team owes: so much of a payment that was spent and taken back."""
    spent = till.paid(amount)
    till.spend(amount)
    till.tell(scripted.event("refund.created", scripted.refund(spent.receipt, spent.due)))
    debt = selectors.debt_of(till.account)
    assert (money.to_text(selectors.owed(debt)), bool(till.account.frozen)) == (amount, True)
    return debt


def test_a_payment_for_a_plan_pays_first_what_the_team_owes(till: Till, offer: PlanOffer) -> None:
    debt = owing(till, "15")
    payment = till.confirm(begin(till, offer))
    assert payment.note == "the plan was not bought; what the team owed was paid first, the rest is in the wallet"
    assert (selectors.owed(debt), till.account.frozen, till.balance) == (0, "", "5")
    assert not Plan.objects.exists()
    page = till.client
    page.force_login(User.objects.get(email="alice@example.com"))
    told = page.get(reverse("payment", args=[payment.pk])).content.decode()
    assert "The plan “Starter” could not be bought. $20.00 was added to the wallet." in told


def test_a_debt_that_takes_all_of_a_payment_for_a_plan_leaves_the_wallet_stopped(till: Till, offer: PlanOffer) -> None:
    debt = owing(till, "50")
    assert "what the team owed was paid first" in till.confirm(begin(till, offer)).note
    assert (selectors.owed(debt), till.balance) == (30 * money.NANO, "0")
    assert till.account.frozen
    assert not Plan.objects.exists()


def test_a_plan_is_bought_from_what_the_debt_leaves(till: Till, offer: PlanOffer) -> None:
    debt = owing(till, "15")
    ledger.credit(wallet=till.account, amount=18 * money.NANO, actor="tests", reason="more")
    assert till.confirm(begin(till, offer)).note == ""
    assert (selectors.owed(debt), till.account.frozen, till.balance) == (0, "", "3")
    assert Plan.objects.get().account.balance == 25 * money.NANO


def test_a_team_that_owes_buys_no_plan_from_its_wallet(till: Till, offer: PlanOffer) -> None:
    debt = owing(till, "15")
    ledger.credit(wallet=till.account, amount=40 * money.NANO, actor="tests", reason="more")
    member = till.client
    member.force_login(User.objects.get(email="alice@example.com"))
    form = {"order": str(uuid.uuid4()), "price": str(offer.price)}
    answer = member.post(reverse("plan_buy", args=[offer.pk]), form)
    assert answer.status_code == 422
    assert "The team owes something" in answer.content.decode()
    asked = {"offer": offer.pk, "order": str(uuid.uuid4())}
    answer = member.post("/api/v1/plans", asked, content_type="application/json")
    assert answer.status_code == 402
    assert answer.json()["detail"].startswith("The team owes something")
    assert (till.balance, Plan.objects.count()) == ("40", 0)
    assert debts.settle(debt)
    assert member.post(reverse("plan_buy", args=[offer.pk]), form).status_code == 302
    assert (till.balance, Plan.objects.count()) == ("5", 1)


def test_an_order_of_a_plan_is_not_one_of_credit(till: Till, offer: PlanOffer) -> None:
    order = uuid.uuid4()
    assert begin(till, offer, order=order) == begin(till, offer, order=order)
    other = PlanOffer.objects.create(name="Other", kind="credit", price=offer.price, value=1, days=1)
    with pytest.raises(orders.OrderReused):
        begin(till, other, order=order)


def test_a_plan_whose_payment_was_taken_back_stops_paying(till: Till, offer: PlanOffer) -> None:
    payment = till.confirm(begin(till, offer))
    till.tell(scripted.event("refund.created", scripted.refund(payment.receipt, 2000)))
    assert till.account.frozen == f"payment {payment.pk} was taken back and could not be paid"
    assert plans.running(till.account.team_id or 0).exists()
    assert audit.run() == []
