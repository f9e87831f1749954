"""What of an invoice is still to be paid, and since when it is overdue. Derived from the ledger, every time.

A wallet's payments pay its oldest invoice first. What is unpaid in all is what the last closing left, less what was
paid since; so it lies on the newest invoices. A refund or a dispute takes back what a payment had paid. A credit note
pays the invoice that it names.
"""

import datetime as dt
from collections.abc import Iterable, Sequence

import msgspec
from django.db.models import Sum
from django.utils import timezone

from billing import ledger, stops
from billing.invoices import entries, items
from billing.models import Account, ClosedMonth, DocumentKind, Invoice, InvoiceState, PaymentState
from billing.rules import OVERDUE


class Standing(msgspec.Struct, frozen=True):
    """How an invoice stands; nano-units."""

    invoice: Invoice
    credited: int
    outstanding: int

    def state(self, now: dt.datetime) -> PaymentState:
        if self.outstanding:
            late = self.invoice.due_at is not None and self.invoice.due_at <= now
            return PaymentState.OVERDUE if late else PaymentState.OPEN
        return PaymentState.CREDITED if self.credited >= self.invoice.amount else PaymentState.PAID


def share_out(unpaid: int, invoices: Iterable[tuple[Invoice, int]]) -> list[Standing]:
    """Shares what is unpaid in all among invoices with what was credited of each, given newest first. Pure."""
    found = []
    for invoice, credited in invoices:
        outstanding = min(max(0, unpaid), invoice.amount - credited)
        unpaid -= outstanding
        found.append(Standing(invoice, credited, outstanding))
    return found


def of(account: int) -> list[Standing]:
    """How the wallet's invoices stand now, newest first."""
    documents = Invoice.objects.filter(account=account).order_by("-ends_at", "-pk")
    invoices = [document for document in documents if document.kind == DocumentKind.INVOICE]
    if not invoices:
        return []
    notes = Invoice.objects.filter(account=account, kind=DocumentKind.CREDIT_NOTE).values_list("corrects")
    credited = dict(notes.annotate(total=Sum("amount")).order_by())
    return share_out(unpaid(account), ((invoice, int(credited.get(invoice.pk, 0))) for invoice in invoices))


def unpaid(account: int) -> int:
    """What is invoiced and not paid, in nano-units; below zero where more was paid."""
    last = ClosedMonth.objects.filter(account=account).select_related("account").order_by("-ends_at").first()
    if last is None:
        return 0
    return -last.position - last.carried_out - _paid_since(entries.accounts_of(last.account), last.ends_at)


def _paid_since(accounts: Sequence[int], since: dt.datetime) -> int:
    """Payments, less what of them went back. Charges are left out, so this is quick whatever was called since."""
    return sum(entry.amount for entry in entries.besides_charges(accounts, since) if not items.is_owed(entry))


# ---- what is written down -------------------------------------------------------------------------------------------


def refresh(account: int, now: dt.datetime | None = None) -> list[Invoice]:
    """Writes down how the wallet's invoices stand. Those that have become overdue by it."""
    moment = now or timezone.now()
    return [standing.invoice for standing in of(account) if _write(standing, moment)]


def _write(standing: Standing, now: dt.datetime) -> bool:
    """Whether it has become overdue. Says nothing where nothing has changed."""
    state = standing.state(now)
    row = InvoiceState.objects.filter(invoice=standing.invoice)
    before = row.first()
    if before is None:
        return False
    late, done = state == PaymentState.OVERDUE, not standing.outstanding
    if (before.state, before.outstanding, before.credited) == (state, standing.outstanding, standing.credited):
        return False
    changed = row.filter(state=before.state, outstanding=before.outstanding, credited=before.credited).update(
        state=state,
        outstanding=standing.outstanding,
        credited=standing.credited,
        overdue_since=(before.overdue_since or now) if late else None,
        settled_at=(before.settled_at or now) if done else None,
    )
    return bool(changed) and late and before.state != PaymentState.OVERDUE


def mark_overdue(now: dt.datetime | None = None) -> list[Invoice]:
    """Looks at every wallet that has been invoiced; the invoices that have become overdue, each told once."""
    found: list[Invoice] = []
    for account in Invoice.objects.order_by().values_list("account", flat=True).distinct():
        found.extend(refresh(account, now))
    return found


def enforce(now: dt.datetime | None = None) -> list[int]:
    """Stops the wallets with an overdue invoice, and lets those run again that were stopped for one and have paid.

    A wallet that is frozen for another reason stays so, also where that came after the invoice was overdue: a payment
    that is disputed. The accounts that were changed.
    """
    changed = []
    late = InvoiceState.objects.filter(state=PaymentState.OVERDUE).values_list("invoice__account", flat=True)
    for account in late.order_by().distinct():
        invoice = overdue(account, now)
        if invoice is not None and ledger.stop(account, reason=f"{OVERDUE}{invoice.number}"):
            changed.append(account)
    for account, reason in Account.objects.filter(frozen__startswith=OVERDUE).values_list("pk", "frozen"):
        if overdue(account, now) is None:
            refresh(account, now)
            due = Invoice.objects.filter(number=reason.removeprefix(OVERDUE)).values_list("due_at", flat=True).first()
            other = stops.still(Account.objects.get(pk=account), since=due)
            if Account.objects.filter(pk=account, frozen=reason).update(frozen=other):
                changed.append(account)
    return changed


def overdue(account: int, now: dt.datetime | None = None) -> Invoice | None:
    """The wallet's oldest invoice that should have been paid, as the ledger says at this moment; None where all is."""
    moment = now or timezone.now()
    late = [standing.invoice for standing in of(account) if standing.state(moment) == PaymentState.OVERDUE]
    return late[-1] if late else None
