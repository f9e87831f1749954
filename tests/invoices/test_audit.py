"""The audit finds what is wrong between invoices and the books."""

import pytest

from billing import audit, ledger, money
from billing.invoices import closing, issuing
from billing.models import Invoice
from tests.invoices.made import Past, at
from tests.kit.corrupting import found, found_without

UNIT = money.NANO
MONTH = "month = '2026-02-01'"


@pytest.fixture
def past(books: str) -> Past:
    """January with an amount that is carried on, February, and a credit note for it."""
    made = Past()
    closing.begin(made.wallet, moment=at("2026-01-05 00:00"))
    made.call(2 * UNIT + 7, at("2026-01-10 00:00"))
    made.pay(2 * UNIT, at("2026-01-20 00:00"))
    made.call(3 * UNIT, at("2026-02-10 00:00"))
    made.pay(4 * UNIT, at("2026-03-02 00:00"))
    closing.close_due(made.wallet, now=at("2026-03-10 00:00"))
    invoice = Invoice.objects.get(month=at("2026-02-01 00:00").date())
    issuing.credit(invoice=invoice, amount=UNIT, reason="slow", actor="root", request="one")
    ledger.forget_revenue_account()
    return made


def whole() -> list[str]:
    """What the audit says of invoices; the past was written without its attempts and prices."""
    return [str(found) for found in audit.run() if "invoice" in found.check or "month" in found.check]


def test_books_with_invoices_are_whole(past: Past) -> None:
    assert Invoice.objects.count() == 3
    assert whole() == []


@pytest.mark.parametrize(
    ("table", "change", "said"),
    [
        ("billing_closedmonth", f"items = items + 1, carried_out = carried_out + 1 WHERE {MONTH}", "used 3000000001"),
        ("billing_closedmonth", f"position = position + 1 WHERE {MONTH}", "2026-02-01: used 3000000000, ledger"),
        (
            "billing_closedmonth",
            f"carried_in = carried_in + 1, carried_out = carried_out + 1 WHERE {MONTH}",
            "2026-02-01 brings 8 from a month that carried 7",
        ),
        ("billing_transfer", "created_at = '2026-02-10 00:00:00+00' WHERE amount = 2000000007", "2026-01-01: used"),
        ("billing_transfer", "amount = amount + 1 WHERE kind = 'adjustment'", "transfer of 1000000001"),
        ("billing_invoiceline", "amount = amount + 1 WHERE kind = 'usage'", "lines"),
        ("billing_invoice", "amount = amount + 1 WHERE kind = 'credit_note'", "over 1000000001, transfer of"),
        ("billing_invoice", "zone = 'Europe/Berlin' WHERE kind = 'invoice'", "is another"),
        ("billing_invoicestate", "credited = credited + 1", "credited, notes"),
        ("billing_invoiceseries", "last = last + 1", "documents"),
    ],
)
def test_whatever_is_changed_in_them_is_found(past: Past, table: str, change: str, said: str) -> None:
    assert said in found(table, change)


def test_a_document_that_is_gone_is_found(past: Past) -> None:
    assert "numbered to" in found_without("billing_invoiceline", "position = 1")
    said = found_without("billing_invoice", "kind = 'credit_note'")
    assert "no document of credit-note:one" in said
    assert "CN 2026: last 1, documents 0" in said
    assert "brings 7 from a month that carried 0" in found_without("billing_closedmonth", "month = '2026-01-01'")
