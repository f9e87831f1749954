"""What is never delivered is found: the sweep asks, once, and ends what nobody pays."""

import datetime as dt

import pytest
from django.utils import timezone

from billing.payments import booking, sweep
from billing.payments.models import Payment, PaymentEvent
from tests.payments import scripted
from tests.payments.conftest import Till
from tests.payments.scripted import ScriptedEPay, ScriptedStripe


def later(payment: Payment, *, by: dt.timedelta = dt.timedelta(minutes=3)) -> None:
    """As if the payment had been begun that much earlier."""
    row = Payment.objects.get(pk=payment.pk)
    Payment.objects.filter(pk=payment.pk).update(ask_at=row.ask_at - by, expires_at=row.expires_at - by)


def test_a_lost_webhook_is_found_by_asking(till: Till, stripe: ScriptedStripe) -> None:
    payment = till.begin("20")
    stripe.pay(payment.checkout)
    assert sweep.sweep() == 0  # it is not yet time to ask
    later(payment)
    assert sweep.sweep() == 1
    assert till.balance == "20"
    content = stripe.sessions[payment.checkout]
    assert till.tell(scripted.event("checkout.session.completed", content)).content == b"repeated"
    assert till.balance == "20"
    assert sweep.sweep() == 0


def test_an_epay_order_is_found_by_asking(till: Till, epay: ScriptedEPay) -> None:
    payment = till.begin("20", way="epay:alipay")
    epay.paid[payment.pk.hex] = {"out_trade_no": payment.pk.hex, "trade_no": f"T{payment.pk.hex}", "money": 144.00}
    later(payment)
    assert sweep.sweep() == 1
    assert till.balance == "20"
    said = scripted.notification(payment.pk.hex, "144.00", trade_no=f"T{payment.pk.hex}")
    assert till.notify(said).content == b"success"
    assert till.balance == "20"


@pytest.mark.parametrize("wrong", [{"money": "1.00"}, {"pid": 1002}, {"status": 0}, {"trade_no": ""}])
def test_what_a_gateway_says_of_another_order_is_not_believed(
    till: Till, epay: ScriptedEPay, wrong: dict[str, object]
) -> None:
    payment = till.begin("20", way="epay:alipay")
    said = {"out_trade_no": payment.pk.hex, "trade_no": f"W{payment.pk.hex}", "money": "144.00"}
    epay.paid[payment.pk.hex] = {**said, **wrong}
    later(payment)
    assert sweep.sweep() == 0
    assert till.balance == "0"


def test_the_questions_become_rarer(till: Till, stripe: ScriptedStripe) -> None:
    payment = till.begin("20")
    waits = []
    for _ in range(4):
        later(payment, by=dt.timedelta(hours=1))
        Payment.objects.update(expires_at=timezone.now() + dt.timedelta(hours=1))
        sweep.sweep()
        row = Payment.objects.get(pk=payment.pk)
        waits.append(round((row.ask_at - timezone.now()).total_seconds() / 60))
    assert waits == [2, 4, 8, 16]
    assert row.state == "created"


def test_an_order_that_nobody_pays_expires_and_may_still_be_paid(till: Till, stripe: ScriptedStripe) -> None:
    payment = till.begin("20")
    later(payment, by=dt.timedelta(hours=3))
    assert sweep.sweep() == 1
    payment.refresh_from_db()
    assert payment.state == "expired"
    content = stripe.pay(payment.checkout)
    assert till.tell(scripted.event("checkout.session.completed", content)).content == b"applied"
    assert till.balance == "20"


def test_a_provider_that_does_not_answer_ends_nothing_for_three_days(till: Till, stripe: ScriptedStripe) -> None:
    payment = till.begin("20")
    stripe.failing = 500
    for by, state in ((dt.timedelta(hours=3), "created"), (dt.timedelta(days=4), "expired")):
        later(payment, by=by)
        sweep.sweep()
        payment.refresh_from_db()
        assert payment.state == state


def test_only_one_worker_asks(till: Till, stripe: ScriptedStripe) -> None:
    payment = till.begin("20")
    later(payment)
    row, now = Payment.objects.get(pk=payment.pk), timezone.now()
    assert sweep._claim(row, now)
    assert not sweep._claim(row, now)


def test_an_event_that_missed_its_payment_is_matched_later(till: Till) -> None:
    """Both were booked at the same moment: each saw the books without the other."""
    payment = till.begin("20")
    receipt = f"pi_{payment.checkout}"
    said = scripted.event("refund.created", scripted.refund(receipt, 500))
    assert till.tell(said).content == b"unmatched"
    PaymentEvent.objects.update(subject="")
    content = scripted.session(1, order=str(payment.pk), due=payment.due, id=payment.checkout, payment_intent=receipt)
    till.tell(scripted.event("checkout.session.completed", content))
    assert till.balance == "20"
    PaymentEvent.objects.filter(event=said["id"]).update(subject=receipt)
    assert sweep.sweep() == 1
    assert till.balance == "15"
    assert sweep.sweep() == 0
    assert not booking.rematch("stripe", "pi_of_nobody")
