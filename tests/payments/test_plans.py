"""A payment for a plan buys it when it is confirmed, once; where that cannot be, the money is in the wallet."""

import uuid

import pytest

from billing import audit, money, plans
from billing.models import Plan, PlanOffer
from billing.payments import orders
from billing.payments.models import Payment
from billing.payments.orders import Links
from tests.payments import scripted
from tests.payments.conftest import Till


@pytest.fixture
def offer(books: str) -> PlanOffer:
    return PlanOffer.objects.create(
        name="Starter", kind="credit", price=20 * money.NANO, value=25 * money.NANO, days=30, at_once=1
    )


def begin(till: Till, offer: PlanOffer, order: uuid.UUID | None = None) -> Payment:
    return orders.begin(
        wallet=till.account,
        choice=orders.choices()[0],
        amount=offer.price,
        actor="alice@example.com",
        email="alice@example.com",
        title="Plan",
        links=lambda pk: Links("http://127.0.0.1/done", "http://127.0.0.1/not", "http://127.0.0.1/notify"),
        order=order,
        offer=offer,
    )


def confirm(till: Till, payment: Payment) -> Payment:
    content = scripted.session(1, order=str(payment.pk), due=payment.due, id=payment.checkout)
    content["payment_intent"] = f"pi_{payment.checkout}"
    for _ in range(2):  # Stripe delivers more than once
        assert till.tell(scripted.event("checkout.session.completed", content)).status_code == 200
    payment.refresh_from_db()
    assert payment.state == "paid"
    return payment


def test_the_plan_is_bought_once_when_the_payment_is_confirmed(till: Till, offer: PlanOffer) -> None:
    payment = begin(till, offer)
    assert not Plan.objects.exists()
    assert confirm(till, payment).note == ""
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
        confirm(till, begin(till, offer))
    before = Plan.objects.count()
    assert confirm(till, payment).note == "the plan was not bought; the money is in the wallet"
    assert (till.balance, Plan.objects.count()) == ("20", before)
    assert audit.run() == []


def test_a_plan_that_became_cheaper_leaves_the_rest_in_the_wallet(till: Till, offer: PlanOffer) -> None:
    payment = begin(till, offer)
    PlanOffer.objects.update(price=15 * money.NANO)
    confirm(till, payment)
    assert (Plan.objects.get().price, till.balance) == (15 * money.NANO, "5")


def test_an_order_of_a_plan_is_not_one_of_credit(till: Till, offer: PlanOffer) -> None:
    order = uuid.uuid4()
    assert begin(till, offer, order) == begin(till, offer, order)
    other = PlanOffer.objects.create(name="Other", kind="credit", price=offer.price, value=1, days=1)
    with pytest.raises(orders.OrderReused):
        begin(till, other, order)


def test_a_plan_whose_payment_was_taken_back_stops_paying(till: Till, offer: PlanOffer) -> None:
    payment = confirm(till, begin(till, offer))
    till.tell(scripted.event("refund.created", scripted.refund(payment.receipt, 2000)))
    assert till.account.frozen == f"payment {payment.pk} was taken back and could not be paid"
    assert plans.running(till.account.team_id or 0).exists()
    assert audit.run() == []
