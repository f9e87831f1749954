"""Payments pay the oldest invoice first; what is late is overdue; a credit note pays the invoice that it names."""

import datetime as dt

import pytest
from django.db import DatabaseError, connection

from billing import invoices, ledger, money
from billing.invoices import closing, issuing, standing
from billing.models import Account, Invoice, InvoiceState
from billing.rules import OVERDUE
from tests.invoices.made import Past, at

UNIT = money.NANO
LATER = dt.timedelta(days=15)


@pytest.fixture
def past(books: str) -> Past:
    """Owes 1, 2 and 3 units for January, February and March; the invoices are of today."""
    made = Past()
    closing.begin(made.wallet, moment=at("2026-01-05 00:00"))
    for month in (1, 2, 3):
        made.call(month * UNIT, at(f"2026-0{month}-10 00:00"))
    closing.close_due(made.wallet, now=at("2026-04-02 00:00"))
    return made


def found(past: Past) -> list[tuple[int, str, int]]:
    """Month, state and what is outstanding, oldest first, as written down."""
    standing.refresh(past.number)
    rows = InvoiceState.objects.order_by("invoice__month").select_related("invoice")
    return [(row.invoice.month.month, row.state, row.outstanding) for row in rows]


def now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


def test_the_oldest_invoice_is_paid_first(past: Past) -> None:
    assert found(past) == [(1, "open", UNIT), (2, "open", 2 * UNIT), (3, "open", 3 * UNIT)]
    past.pay(2 * UNIT, now())
    assert found(past) == [(1, "paid", 0), (2, "open", UNIT), (3, "open", 3 * UNIT)]
    past.pay(10 * UNIT, now())
    assert [state for _, state, _ in found(past)] == ["paid"] * 3


def test_calls_of_the_running_month_neither_pay_nor_owe(past: Past) -> None:
    past.call(50 * UNIT, now())
    assert found(past) == [(1, "open", UNIT), (2, "open", 2 * UNIT), (3, "open", 3 * UNIT)]


def test_a_payment_that_goes_back_leaves_its_invoice_unpaid_again(past: Past) -> None:
    payment = past.pay(6 * UNIT, now())
    assert [state for _, state, _ in found(past)] == ["paid"] * 3
    past.move("reversal", 6 * UNIT, now(), out=True, reverses=payment)
    assert found(past) == [(1, "open", UNIT), (2, "open", 2 * UNIT), (3, "open", 3 * UNIT)]


def test_what_was_paid_before_the_invoice_was_written_has_paid_it(books: str) -> None:
    made = Past()
    made.pay(5 * UNIT, at("2026-03-01 00:00"))
    closing.begin(made.wallet, moment=at("2026-03-05 00:00"))
    made.call(4 * UNIT, at("2026-03-10 00:00"))
    closing.close_due(made.wallet, now=at("2026-04-02 00:00"))
    assert found(made) == [(3, "paid", 0)]
    assert invoices.overdue(made.number, now() + LATER) is None


def test_an_invoice_is_overdue_after_its_term_until_it_is_paid(past: Past) -> None:
    assert invoices.overdue(past.number) is None
    assert invoices.mark_overdue() == []
    late = now() + LATER
    oldest = invoices.overdue(past.number, late)
    assert oldest is not None
    assert oldest.month.month == 1
    assert len(invoices.mark_overdue(late)) == 3
    assert invoices.mark_overdue(late) == []  # each is told once
    assert [state for _, state, _ in found_at(past, late)] == ["overdue"] * 3
    past.pay(UNIT, now())
    following = invoices.overdue(past.number, late)
    assert following is not None
    assert following.month.month == 2
    past.pay(5 * UNIT, now())
    assert invoices.overdue(past.number, late) is None
    assert [state for _, state, _ in found_at(past, late)] == ["paid"] * 3


def frozen(past: Past) -> str:
    return str(Account.objects.values_list("frozen", flat=True).get(pk=past.number))


def test_a_wallet_with_an_overdue_invoice_is_stopped_and_runs_again_once_it_has_paid(past: Past) -> None:
    late = now() + LATER
    assert invoices.enforce(late) == []  # nothing has been marked yet
    invoices.mark_overdue(late)
    assert invoices.enforce(late) == [past.number]
    oldest = invoices.overdue(past.number, late)
    assert oldest is not None
    assert frozen(past) == f"{OVERDUE}{oldest.number}"
    assert invoices.enforce(late) == []
    past.pay(UNIT, now())
    assert invoices.enforce(late) == [], "two are still to be paid"
    past.pay(5 * UNIT, now())
    assert invoices.enforce(late) == [past.number]
    assert frozen(past) == ""
    assert [state for _, state, _ in found_at(past, late)] == ["paid"] * 3


def test_a_wallet_that_is_frozen_for_another_reason_stays_so_whatever_is_paid(past: Past) -> None:
    late = now() + LATER
    ledger.freeze(wallet=past.wallet, reason="by hand")
    invoices.mark_overdue(late)
    assert invoices.enforce(late) == []
    past.pay(6 * UNIT, now())
    assert invoices.enforce(late) == []
    assert frozen(past) == "by hand"


def found_at(past: Past, moment: dt.datetime) -> list[tuple[int, str, int]]:
    standing.refresh(past.number, moment)
    rows = InvoiceState.objects.order_by("invoice__month").select_related("invoice")
    return [(row.invoice.month.month, row.state, row.outstanding) for row in rows]


def note(past: Past, month: int, amount: int, request: str = "r1", reason: str = "outage") -> Invoice:
    invoice = Invoice.objects.get(month=dt.date(2026, month, 1), kind="invoice")
    return issuing.credit(invoice=invoice, amount=amount, reason=reason, actor="root", request=request)


def test_a_credit_note_pays_the_invoice_that_it_names(past: Past) -> None:
    written = note(past, 3, UNIT)
    assert written.corrects is not None
    assert (written.number[:3], written.corrects.month.month) == ("CN-", 3)
    assert written.serial == 1
    assert past.wallet.balance == -5 * UNIT
    assert found(past) == [(1, "open", UNIT), (2, "open", 2 * UNIT), (3, "open", 2 * UNIT)]
    note(past, 3, 2 * UNIT, "r2")
    assert found(past)[-1] == (3, "credited", 0)
    assert note(past, 3, 2 * UNIT, "r2").number == "CN-" + str(written.year) + "-00002"  # the same again
    assert Invoice.objects.filter(kind="credit_note").count() == 2


@pytest.mark.parametrize(
    ("amount", "reason", "says"),
    [
        (4 * UNIT, "x", "no more than 3.00"),
        (0, "x", "positive"),
        (-UNIT, "x", "positive"),
        (1, "x", "can be paid"),
        (UNIT, "  ", "reason"),
    ],
)
def test_a_credit_note_that_cannot_be_is_refused(past: Past, amount: int, reason: str, says: str) -> None:
    before = past.wallet.balance
    with pytest.raises(invoices.InvalidCreditNote, match=says):
        note(past, 3, amount, reason=reason)
    written = note(past, 1, UNIT)
    with pytest.raises(invoices.InvalidCreditNote, match="only an invoice"):
        issuing.credit(invoice=written, amount=UNIT, reason="x", actor="", request="r3")
    assert past.wallet.balance == before + UNIT
    assert list(Invoice.objects.filter(kind="credit_note").values_list("serial", flat=True)) == [1]


def test_only_the_state_of_an_invoice_changes(past: Past) -> None:
    note(past, 1, UNIT)
    with pytest.raises(DatabaseError, match="append-only"), connection.cursor() as cursor:
        cursor.execute("UPDATE billing_invoice SET amount = amount + 1")


def test_a_wallet_without_invoices_is_never_overdue(books: str) -> None:
    made = Past()
    assert invoices.overdue(made.number) is None
    ledger.credit(wallet=made.wallet, amount=UNIT, actor="tests", reason="x")
    assert invoices.mark_overdue() == []
    assert Account.objects.get(pk=made.number).balance == UNIT
