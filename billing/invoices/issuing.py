"""Writing documents: invoices with their lines, and the credit notes that correct them."""

import datetime as dt
from typing import Any

import msgspec
from django.conf import settings
from django.db import transaction
from django.db.models import Sum
from django.utils import timezone

from billing import ledger, money
from billing.invoices import amounts, numbers, sources, standing
from billing.invoices.items import Month
from billing.models import (
    Account,
    AccountKind,
    BillingDetails,
    DocumentKind,
    Invoice,
    InvoiceLine,
    InvoiceState,
    LineKind,
    TransferKind,
)


class InvalidCreditNote(ValueError):
    """Says why nothing is credited, fit for a user."""


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """What is said of an invoice besides its lines."""

    account: Account
    month: dt.date
    starts_at: dt.datetime
    ends_at: dt.datetime
    zone: str
    items: int
    carried_in: int
    carried_out: int
    amount: int


def issue(document: Document, content: Month, *, opening: int, closing: int, actor: str) -> Invoice:
    """The invoice with its number, lines and state. Inside the caller's transaction, which it belongs to."""
    now = timezone.now()
    series = numbers.PREFIXES[DocumentKind.INVOICE]
    serial = numbers.take(series, now.year)
    rate = round_rate(settings.INVOICE_TAX_RATE)
    invoice = Invoice.objects.create(
        **msgspec.structs.asdict(document),
        series=series,
        year=now.year,
        serial=serial,
        number=numbers.written(series, now.year, serial),
        currency=document.account.currency,
        tax_name=settings.INVOICE_TAX_NAME if rate else "",
        tax_rate=rate,
        tax=amounts.tax_within(document.amount, rate, document.account.currency),
        seller=seller(),
        buyer=buyer(document.account),
        actor=actor[:200],
        issued_at=now,
        due_at=now + dt.timedelta(days=settings.INVOICE_TERM_DAYS),
    )
    rows = lines(document, content, opening=opening, closing=closing)
    for position, line in enumerate(rows, start=1):
        line.invoice, line.position = invoice, position
    InvoiceLine.objects.bulk_create(rows, batch_size=500)
    owed = sum(line.amount for line in rows if line.kind in OWED)
    if owed != invoice.amount:  # by construction it is
        raise ArithmeticError(f"the lines of {invoice.number} add up to {owed}, not {invoice.amount}")
    InvoiceState.objects.create(invoice=invoice, outstanding=invoice.amount)
    return invoice


# The kinds of lines that add up to the amount.
OWED = frozenset((LineKind.USAGE, LineKind.PLAN, LineKind.CORRECTION, LineKind.CARRIED_IN, LineKind.CARRIED_OUT))


def lines(document: Document, content: Month, *, opening: int, closing: int) -> list[InvoiceLine]:
    """What was used, bought and corrected; what is carried; then what was paid, between two balances."""
    labels = sources.labels_of({usage.key for usage in content.usage.values() if usage.key})
    found = [
        InvoiceLine(
            kind=LineKind.USAGE,
            model=usage.model[:200],
            key=labels.get(usage.key, f"#{usage.key}" if usage.key else "")[:120],
            calls=usage.calls,
            quantities=usage.quantities,
            amount=usage.amount,
        )
        for usage in content.used()
    ]
    found += [_single(line.kind, line.amount, line.code, line.text, line.at) for line in content.owing]
    if document.carried_in:
        found.append(_single(LineKind.CARRIED_IN, document.carried_in))
    if document.carried_out:
        found.append(_single(LineKind.CARRIED_OUT, -document.carried_out))
    found.append(_single(LineKind.OPENING, opening, at=document.starts_at))
    found += [_single(line.kind, line.amount, line.code, line.text, line.at) for line in content.payments]
    found.append(_single(LineKind.CLOSING, closing, at=document.ends_at))
    return found


def _single(kind: LineKind, amount: int, code: str = "", text: str = "", at: dt.datetime | None = None) -> InvoiceLine:
    return InvoiceLine(kind=kind, amount=amount, code=code, text=text, at=at)


def round_rate(percent: str) -> int:
    """Parts per million of a percentage such as `"19"` or `"7.7"`. Raises money.InvalidAmount."""
    return int(money.parse(percent) // (money.NANO // 10_000))


def seller() -> dict[str, Any]:
    """Who the invoices are from, as set up."""
    return {
        "name": settings.INVOICE_SELLER_NAME,
        "address": settings.INVOICE_SELLER_ADDRESS,
        "tax_id": settings.INVOICE_SELLER_TAX_ID,
        "email": settings.INVOICE_SELLER_EMAIL,
    }


def buyer(account: Account) -> dict[str, Any]:
    """Who they are written to: what the team has told, else its name."""
    told = BillingDetails.objects.filter(team=account.team_id).first()
    if told is None:
        return {"name": str(account.team), "address": "", "tax_id": "", "email": ""}
    return {"name": told.name, "address": told.address, "tax_id": told.tax_id, "email": told.email}


# ---- credit notes ---------------------------------------------------------------------------------------------------


@transaction.atomic
def credit(*, invoice: Invoice, amount: int, reason: str, actor: str, request: str) -> Invoice:
    """Gives back `amount` of an invoice: a credit note that names it, and a transfer to the wallet.

    Asked again with the same `request`, the same note. Raises InvalidCreditNote for an amount above what is left of
    the invoice, or that cannot be paid, for no reason, and for a note of a note.
    """
    reference = f"credit-note:{request}"[:64]
    known = Invoice.objects.filter(transfer__reference=reference, transfer__kind=TransferKind.ADJUSTMENT).first()
    if known is not None:
        return known
    state = InvoiceState.objects.select_for_update().filter(invoice=invoice).first()
    if state is None or invoice.kind != DocumentKind.INVOICE:
        raise InvalidCreditNote("only an invoice can be credited")
    _check(invoice, amount, reason)
    now = timezone.now()
    series = numbers.PREFIXES[DocumentKind.CREDIT_NOTE]
    serial = numbers.take(series, now.year)
    number = numbers.written(series, now.year, serial)
    transfer = ledger.post(
        kind=TransferKind.ADJUSTMENT,
        debit=ledger.platform_account(AccountKind.PROMO),
        credit=invoice.account,
        amount=amount,
        reference=reference,
        actor=actor,
        reason=f"{number} ({invoice.number}): {reason.strip()}",
    )
    note = Invoice.objects.create(
        kind=DocumentKind.CREDIT_NOTE,
        corrects=invoice,
        transfer=transfer,
        reason=reason.strip()[:500],
        account=invoice.account,
        series=series,
        year=now.year,
        serial=serial,
        number=number,
        month=invoice.month,
        starts_at=invoice.starts_at,
        ends_at=invoice.ends_at,
        zone=invoice.zone,
        currency=invoice.currency,
        amount=amount,
        tax_name=invoice.tax_name,
        tax_rate=invoice.tax_rate,
        tax=amounts.tax_within(amount, invoice.tax_rate, invoice.currency),
        seller=invoice.seller,
        buyer=invoice.buyer,
        actor=actor[:200],
        issued_at=now,
    )
    standing.refresh(invoice.account_id)
    return note


def credited(invoice: Invoice) -> int:
    """What its credit notes have given back, in nano-units."""
    return int(invoice.credit_notes.aggregate(total=Sum("amount"))["total"] or 0)


def _check(invoice: Invoice, amount: int, reason: str) -> None:
    if not reason.strip():
        raise InvalidCreditNote("a credit note needs a reason")
    if amount <= 0 or amount % amounts.minor_unit(invoice.currency):
        raise InvalidCreditNote("the amount must be positive and one that can be paid")
    left = invoice.amount - credited(invoice)
    if amount > left:
        raise InvalidCreditNote(f"no more than {money.to_text(left, decimals=2)} is left to credit")
