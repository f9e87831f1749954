"""Stripe: a true payment is credited once, whatever arrives and in whatever order; what is taken back leaves again."""

import itertools
import json
import time
from typing import Any

import pytest

from billing import invoices, ledger, money
from billing.models import Account
from billing.payments import NotOffered, ProviderFailed, orders
from billing.payments.models import Payment, PaymentEvent
from billing.rules import OVERDUE
from tests.kit import soak
from tests.payments import scripted
from tests.payments.conftest import Till
from tests.payments.scripted import ScriptedStripe


def completed(payment: Payment, **fields: Any) -> dict[str, Any]:
    content = scripted.session(1, order=str(payment.pk), due=payment.due, id=payment.checkout)
    content["payment_intent"] = f"pi_{payment.checkout}"
    return content | fields


def test_the_checkout_is_asked_for_once_with_the_payments_id(till: Till, stripe: ScriptedStripe) -> None:
    payment = till.begin("20")
    ((method, path, asked, headers),) = stripe.asked
    assert (method, path) == ("POST", "/v1/checkout/sessions")
    assert headers["idempotency-key"] == str(payment.pk) == asked["client_reference_id"]
    assert asked["mode"] == "payment"
    assert asked["line_items[0][price_data][unit_amount]"] == "2000"
    assert asked["line_items[0][price_data][currency]"] == "usd"
    assert asked["adaptive_pricing[enabled]"] == "false"
    assert payment.checkout_url == stripe.sessions[payment.checkout]["url"]
    assert till.balance == "0"


def test_a_completed_session_is_credited_once_however_often_it_is_told(till: Till) -> None:
    payment = till.begin("20")
    first = scripted.event("checkout.session.completed", completed(payment))
    assert (answer := till.tell(first)).status_code == 200
    assert answer.content == b"applied"
    assert till.tell(first).content == b"repeated"
    other = scripted.event("checkout.session.async_payment_succeeded", completed(payment))
    assert till.tell(other).content == b"repeated"
    assert till.balance == "20"
    assert till.moved("payment") == [("payments", "wallet", "20")]
    payment.refresh_from_db()
    assert (payment.state, payment.receipt) == ("paid", f"pi_{payment.checkout}")
    assert payment.paid_at is not None


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ({"amount_total": 1999}, "asked for 20.00 USD, paid 1999"),
        ({"amount_total": 0}, "paid 0"),
        ({"amount_total": -2000}, "paid -2000"),
        ({"amount_total": None}, "paid 0"),
        ({"currency": "jpy"}, "JPY"),
        ({"currency": None}, "nothing"),
        ({"id": "cs_test_of_another"}, "the event is about cs_test_of_another"),
    ],
)
def test_what_contradicts_the_order_is_refused_and_kept(till: Till, wrong: dict[str, Any], why: str) -> None:
    payment = till.begin("20")
    said = scripted.event("checkout.session.completed", completed(payment, **wrong))
    assert till.tell(said).content == b"refused"
    assert till.tell(said).content == b"refused"
    assert till.balance == "0"
    kept = PaymentEvent.objects.get(event=said["id"])
    assert (kept.outcome, kept.payment_id) == ("refused", payment.pk)
    assert why in kept.note
    assert till.tell(scripted.event("checkout.session.completed", completed(payment))).content == b"applied"


def test_an_order_cannot_be_paid_by_anothers_session(till: Till) -> None:
    cheap, dear = till.begin("5"), till.begin("100")
    swapped = completed(cheap, client_reference_id=str(dear.pk))
    assert till.tell(scripted.event("checkout.session.completed", swapped)).content == b"refused"
    named = completed(cheap, metadata={"payment": str(dear.pk)})
    assert till.tell(scripted.event("checkout.session.completed", named)).content == b"applied"
    assert till.balance == "5"
    again = completed(dear, payment_intent=f"pi_{cheap.checkout}")
    assert till.tell(scripted.event("checkout.session.completed", again)).content == b"refused"
    assert till.balance == "5"


def test_an_epay_order_cannot_be_paid_by_stripe(till: Till) -> None:
    payment = till.begin("20", way="epay:alipay")
    content = scripted.session(7, order=str(payment.pk), due=payment.due, currency="cny")
    assert till.tell(scripted.event("checkout.session.completed", content)).content == b"unknown"
    assert till.balance == "0"


def test_events_of_others_on_the_same_account_are_taken_and_change_nothing(till: Till) -> None:
    stranger = scripted.session(8, order="shop-order-17", due=4200)
    assert till.tell(scripted.event("checkout.session.completed", stranger)).content == b"unknown"
    subscription = scripted.session(9, order="x", due=4200, mode="subscription")
    assert till.tell(scripted.event("checkout.session.completed", subscription)).content == b"ignored"
    assert till.tell(scripted.event("customer.created", {"id": "cus_1"})).content == b"ignored"
    assert till.moved("payment") == []


def test_an_event_of_the_other_mode_is_no_money(till: Till) -> None:
    payment = till.begin("20")
    said = scripted.event("checkout.session.completed", completed(payment), livemode=True)
    assert till.tell(said).content == b"ignored"
    assert till.balance == "0"


def test_a_bank_debit_is_credited_when_it_arrives(till: Till) -> None:
    payment = till.begin("20")
    unpaid = completed(payment, payment_status="unpaid")
    assert till.tell(scripted.event("checkout.session.completed", unpaid)).content == b"applied"
    payment.refresh_from_db()
    assert (payment.state, till.balance) == ("processing", "0")
    assert till.tell(scripted.event("checkout.session.async_payment_succeeded", completed(payment))).status_code == 200
    assert till.balance == "20"
    assert till.tell(scripted.event("checkout.session.async_payment_failed", completed(payment))).content == b"repeated"
    assert till.balance == "20"


def test_a_failed_or_expired_order_is_credited_if_its_money_comes_after_all(till: Till) -> None:
    for kind, state in (("async_payment_failed", "failed"), ("expired", "expired")):
        payment = till.begin("20")
        assert till.tell(scripted.event(f"checkout.session.{kind}", completed(payment))).content == b"applied"
        payment.refresh_from_db()
        assert payment.state == state
        assert till.tell(scripted.event("checkout.session.completed", completed(payment))).content == b"applied"
        payment.refresh_from_db()
        assert payment.state == "paid"
    assert till.balance == "40"


# ---- signatures -----------------------------------------------------------------------------------------------------


def test_what_is_not_signed_with_a_secret_of_ours_is_not_read(till: Till) -> None:
    payment = till.begin("20")
    said = scripted.event("checkout.session.completed", completed(payment))
    body, headers = scripted.signed(said)
    post = till.client.post
    forged: list[dict[str, str]] = [
        {},
        {"Stripe-Signature": ""},
        {"Stripe-Signature": "t=1,v1="},
        {"Stripe-Signature": "v1=" + "0" * 64},
        {"Stripe-Signature": headers["Stripe-Signature"].replace("v1", "v0")},
        {"Stripe-Signature": scripted.signature(body, secret="whsec_of_somebody_else_0123")},
        {"Stripe-Signature": scripted.signature(body, secret="")},
        {"Stripe-Signature": scripted.signature(body, at=time.time() - 301)},
        {"Stripe-Signature": "t=１,v1=é"},
        {"Stripe-Signature": f"t={'9' * 5000},v1=0"},
    ]
    for header in forged:
        answer = post("/webhooks/stripe/", body, content_type="application/json", headers=header)
        assert answer.status_code == 400, header
    for changed in (body[:-1], body + b" ", body.replace(b"2000", b"9000"), b"\xff" + body, b""):
        answer = post("/webhooks/stripe/", changed, content_type="application/json", headers=headers)
        assert answer.status_code == 400
    assert till.client.get("/webhooks/stripe/").status_code == 400
    assert not PaymentEvent.objects.exists()
    assert till.balance == "0"


@pytest.mark.parametrize("body", ["{}", "[]", "null", '{"id": 5}', '{"id": "evt_1", "type": "refund.created"}', "{"])
def test_signed_nonsense_is_malformed(till: Till, body: str) -> None:
    headers = {"Stripe-Signature": scripted.signature(body.encode())}
    answer = till.client.post("/webhooks/stripe/", body, content_type="application/json", headers=headers)
    assert answer.status_code == 400
    lacking = scripted.event("checkout.session.completed", {"id": "cs_1"})
    assert till.tell(lacking).status_code == 400


def test_both_secrets_count_while_one_is_rolled(till: Till, settings: Any) -> None:
    settings.STRIPE_WEBHOOK_SECRETS = ["", "whsec_the_new_one_0123456789", scripted.SECRET]
    first, second = till.begin("5"), till.begin("5")
    assert till.tell(scripted.event("checkout.session.completed", completed(first))).status_code == 200
    said = scripted.event("checkout.session.completed", completed(second))
    assert till.tell(said, secret="whsec_the_new_one_0123456789").status_code == 200
    assert till.balance == "10"


@pytest.mark.parametrize("secrets", [[], [""], ["   "], ["short"]])
def test_without_a_secret_there_is_no_webhook_and_nothing_to_pay_with(
    till: Till, settings: Any, secrets: list[str]
) -> None:
    payment = till.begin("20")
    settings.STRIPE_WEBHOOK_SECRETS = secrets
    said = scripted.event("checkout.session.completed", completed(payment))
    for secret in ("", "   ", "short"):
        assert till.tell(said, secret=secret).status_code == 404
    assert [choice.provider for choice in orders.choices()] == ["epay", "epay"]
    assert till.balance == "0"


# ---- refunds and disputes -------------------------------------------------------------------------------------------


def test_a_refund_takes_its_part_of_the_credit(till: Till) -> None:
    payment = till.paid("20")
    back = scripted.refund(payment.receipt, 500)
    assert till.tell(scripted.event("refund.created", back)).content == b"applied"
    assert till.tell(scripted.event("refund.updated", back)).content == b"repeated"
    payment.refresh_from_db()
    assert (payment.state, till.balance) == ("part_refunded", "15")
    rest = scripted.refund(payment.receipt, 1500, status="pending")
    assert till.tell(scripted.event("charge.refund.updated", rest)).content == b"applied"
    payment.refresh_from_db()
    assert (payment.state, till.balance, till.account.frozen) == ("refunded", "0", "")
    assert till.moved("refund") == [("wallet", "payments", "5"), ("wallet", "payments", "15")]


def test_a_refund_that_fails_is_given_back(till: Till) -> None:
    payment = till.paid("20")
    back = scripted.refund(payment.receipt, 2000, status="pending")
    till.tell(scripted.event("refund.created", back))
    assert till.balance == "0"
    assert till.tell(scripted.event("refund.failed", back | {"status": "failed"})).content == b"applied"
    assert till.tell(scripted.event("refund.updated", back)).content == b"repeated"
    payment.refresh_from_db()
    assert (payment.state, till.balance) == ("paid", "20")


def test_a_charge_that_was_refunded_has_its_refunds_asked_for(till: Till, stripe: ScriptedStripe) -> None:
    payment = till.paid("20")
    known = stripe.refund(payment.receipt, 300)
    stripe.refund(payment.receipt, 200)
    till.tell(scripted.event("refund.created", known))
    charge = {"id": "ch_1", "payment_intent": payment.receipt, "metadata": {"payment": str(payment.pk)}}
    said = scripted.event("charge.refunded", charge)
    stripe.failing = 500
    answer = till.tell(said)
    assert (answer.status_code, answer["Retry-After"]) == (503, "30")
    stripe.failing = 0
    assert till.tell(said).content == b"applied"
    asked = len(stripe.asked)
    assert till.tell(said).content == b"repeated"
    assert len(stripe.asked) == asked
    assert till.balance == "15"
    stranger = scripted.event("charge.refunded", {**charge, "metadata": {}})
    assert till.tell(stranger).content == b"ignored"
    assert len(stripe.asked) == asked


def test_money_that_is_spent_already_becomes_a_debt_and_stops_the_wallet(till: Till) -> None:
    payment = till.paid("20")
    till.spend("14")
    back = scripted.refund(payment.receipt, 2000)
    assert till.tell(scripted.event("refund.created", back)).content == b"applied"
    assert till.balance == "0"
    assert till.moved("refund") == [("wallet", "payments", "6"), ("receivable", "payments", "14")]
    assert till.account.frozen == f"payment {payment.pk} was taken back and could not be paid"
    assert till.tell(scripted.event("refund.failed", back | {"status": "canceled"})).content == b"applied"
    assert till.moved("refund")[2:] == [("payments", "receivable", "14"), ("payments", "wallet", "6")]
    assert (till.balance, till.account.frozen) == ("6", "")


def test_money_that_open_calls_hold_is_not_taken(till: Till) -> None:
    payment = till.paid("20")
    Account.objects.filter(pk=till.wallet).update(credit_limit=money.parse("3"))
    back = scripted.refund(payment.receipt, 2000)
    till.spend("20")
    assert till.tell(scripted.event("refund.created", back)).content == b"applied"
    assert till.balance == "-3"
    assert till.moved("refund") == [("wallet", "payments", "3"), ("receivable", "payments", "17")]


def test_a_dispute_takes_the_money_and_stops_the_wallet_until_it_is_won(till: Till) -> None:
    payment = till.paid("20")
    claim = scripted.dispute(payment.receipt, 2000)
    assert till.tell(scripted.event("charge.dispute.created", claim)).content == b"applied"
    assert till.tell(scripted.event("charge.dispute.funds_withdrawn", claim)).content == b"repeated"
    payment.refresh_from_db()
    assert (payment.state, till.balance) == ("disputed", "0")
    assert till.account.frozen == f"payment {payment.pk} is disputed"
    won = claim | {"status": "won"}
    assert till.tell(scripted.event("charge.dispute.funds_reinstated", won)).content == b"applied"
    assert till.tell(scripted.event("charge.dispute.closed", won)).content == b"repeated"
    payment.refresh_from_db()
    assert (payment.state, till.balance, till.account.frozen) == ("paid", "20", "")


def test_a_freeze_for_another_reason_stays_when_a_dispute_is_won(till: Till) -> None:
    payment = till.paid("20")
    ledger.freeze(wallet=till.account, reason="audit")
    claim = scripted.dispute(payment.receipt, 2000)
    till.tell(scripted.event("charge.dispute.created", claim))
    till.tell(scripted.event("charge.dispute.closed", claim | {"status": "won"}))
    assert (till.balance, till.account.frozen) == ("20", "audit")


def test_a_wallet_stays_stopped_while_another_payment_is_disputed(till: Till) -> None:
    first, second = till.paid("20"), till.paid("10")
    won, waiting = scripted.dispute(first.receipt, 2000), scripted.dispute(second.receipt, 1000)
    for claim in (won, waiting):
        till.tell(scripted.event("charge.dispute.created", claim))
    till.tell(scripted.event("charge.dispute.closed", won | {"status": "won"}))
    assert till.account.frozen == f"payment {second.pk} is disputed"
    till.tell(scripted.event("charge.dispute.closed", waiting | {"status": "won"}))
    assert (till.balance, till.account.frozen) == ("30", "")


def test_an_invoice_that_is_paid_frees_no_wallet_with_a_disputed_payment(till: Till) -> None:
    payment = till.paid("20")
    ledger.stop(till.wallet, reason=f"{OVERDUE}INV-2026-00001")
    claim = scripted.dispute(payment.receipt, 2000)
    till.tell(scripted.event("charge.dispute.created", claim))
    assert invoices.enforce() == [till.wallet]
    assert till.account.frozen == f"payment {payment.pk} is disputed"
    till.tell(scripted.event("charge.dispute.closed", claim | {"status": "won"}))
    assert till.account.frozen == ""


def test_an_old_dispute_that_an_administrator_has_settled_stops_nobody_again(till: Till) -> None:
    lost, other = till.paid("20"), till.paid("10")
    till.tell(scripted.event("charge.dispute.closed", scripted.dispute(lost.receipt, 2000, status="lost")))
    ledger.unfreeze(wallet=till.account)
    claim = scripted.dispute(other.receipt, 1000)
    till.tell(scripted.event("charge.dispute.created", claim))
    till.tell(scripted.event("charge.dispute.closed", claim | {"status": "won"}))
    assert till.account.frozen == ""


def test_a_lost_dispute_stays_taken(till: Till) -> None:
    payment = till.paid("20")
    claim = scripted.dispute(payment.receipt, 2000, status="lost")
    assert till.tell(scripted.event("charge.dispute.closed", claim)).content == b"applied"
    payment.refresh_from_db()
    assert (payment.state, till.balance) == ("disputed", "0")


def test_an_inquiry_moves_no_money(till: Till) -> None:
    payment = till.paid("20")
    claim = scripted.dispute(payment.receipt, 2000, status="warning_needs_response")
    assert till.tell(scripted.event("charge.dispute.created", claim)).content == b"applied"
    assert (till.balance, till.account.frozen) == ("20", "")
    assert till.tell(scripted.event("charge.dispute.closed", claim | {"status": "warning_closed"})).status_code == 200
    payment.refresh_from_db()
    assert (payment.state, till.balance) == ("paid", "20")


def test_a_payment_that_is_refunded_and_disputed_is_taken_once(till: Till) -> None:
    payment = till.paid("20")
    till.tell(scripted.event("refund.created", scripted.refund(payment.receipt, 2000)))
    claim = scripted.dispute(payment.receipt, 1900, currency="eur")
    assert till.tell(scripted.event("charge.dispute.created", claim)).content == b"applied"
    assert till.balance == "0"
    assert till.moved("dispute") == []
    till.tell(scripted.event("charge.dispute.closed", claim | {"status": "won"}))
    payment.refresh_from_db()
    assert (payment.state, till.balance) == ("refunded", "0")


@pytest.mark.parametrize("wrong", [{"amount": 0}, {"amount": -5}, {"amount": 2**63}, {"currency": "eur"}])
def test_a_refund_that_cannot_be_is_refused(till: Till, wrong: dict[str, Any]) -> None:
    payment = till.paid("20")
    back = scripted.refund(payment.receipt, 500) | wrong
    assert till.tell(scripted.event("refund.created", back)).content == b"refused"
    assert till.balance == "20"


def test_the_order_in_which_events_come_does_not_matter(till: Till) -> None:
    """Every order of one payment's five events ends in the same books; the short form tries every seventh."""
    ends = set()
    for order in list(itertools.permutations(range(5)))[:: 1 if soak.on() else 7]:
        payment = till.begin("20")
        intent = f"pi_{payment.checkout}"
        back = scripted.refund(intent, 700)
        claim = scripted.dispute(intent, 2000)
        said = [
            scripted.event("checkout.session.completed", completed(payment)),
            scripted.event("refund.created", back | {"status": "pending"}),
            scripted.event("refund.updated", back),
            scripted.event("charge.dispute.created", claim),
            scripted.event("charge.dispute.closed", claim | {"status": "won"}),
        ]
        before = till.account.balance
        for number in order:
            assert till.tell(said[number]).status_code == 200
        payment.refresh_from_db()
        ends.add((payment.state, payment.taken, till.account.balance - before, till.account.frozen))
    assert ends == {("part_refunded", 7 * money.NANO, 13 * money.NANO, "")}


def test_a_refund_that_is_told_before_its_payment_waits_for_it(till: Till) -> None:
    payment = till.begin("20")
    back = scripted.refund(f"pi_{payment.checkout}", 500)
    said = scripted.event("refund.created", back)
    assert till.tell(said).content == b"unmatched"
    till.tell(scripted.event("checkout.session.completed", completed(payment)))
    assert till.balance == "15"
    assert PaymentEvent.objects.get(event=said["id"]).outcome == "applied"


# ---- what we ask of Stripe ------------------------------------------------------------------------------------------


def test_an_order_that_could_not_be_begun_is_failed_and_said_to_be(till: Till, stripe: ScriptedStripe) -> None:
    stripe.failing = 402
    with pytest.raises(ProviderFailed):
        till.begin("20")
    payment = Payment.objects.get()
    assert (payment.state, payment.checkout_url) == ("failed", "")
    assert scripted.KEY not in payment.note


def test_a_refund_by_an_administrator_is_booked_by_its_event(till: Till, stripe: ScriptedStripe) -> None:
    payment = till.paid("20")
    for _ in range(2):
        orders.refund(payment, due=500, key=f"one form, {payment.pk}")
    (back,) = [found for found in stripe.refunds if found["payment_intent"] == payment.receipt]
    assert till.balance == "20"
    till.tell(scripted.event("refund.created", back))
    assert till.balance == "15"
    assert orders.left(payment) == 1500
    for due in (0, -1, 1501):
        with pytest.raises(NotOffered):
            orders.refund(payment, due=due, key="another")


def test_no_secret_of_ours_is_kept_with_an_event(till: Till) -> None:
    till.paid("20")
    for row in PaymentEvent.objects.all():
        kept = json.dumps([row.facts, row.note, row.kind])
        assert scripted.SECRET not in kept
        assert scripted.KEY not in kept
