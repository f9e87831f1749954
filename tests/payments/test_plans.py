"""A payment for a plan buys it when it is confirmed, once; where that cannot be, the money is in the wallet."""

import uuid
from typing import Any

import pytest

from billing import audit, money, plans
from billing.models import Plan, PlanOffer
from billing.payments import orders
from billing.payments.models import Payment
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
