"""What the pages of invoices and statements show, read once a page."""

import datetime as dt
from collections.abc import Iterator

import msgspec
from django.db.models import Count, QuerySet, Sum
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from billing import ledger
from billing.invoices import entries, months, statements
from billing.models import (
    Account,
    BillingDetails,
    ClosedMonth,
    ClosingOutcome,
    DocumentKind,
    Invoice,
    PaymentState,
    Transfer,
    TransferKind,
)
from portal.invoices.forms import StatementForm
from portal.models import Team

MOST_MONTHS = 120
# Tone and icon of an invoice's state.
LOOKS = {
    PaymentState.OPEN.value: ("info", "clock"),
    PaymentState.PAID.value: ("ok", "ok"),
    PaymentState.OVERDUE.value: ("bad", "bad"),
    PaymentState.CREDITED.value: ("off", "x"),
}


class Line(msgspec.Struct, frozen=True):
    """An invoice or a credit note in the list: how it stands, by icon, word and tone."""

    invoice: Invoice
    tone: str
    icon: str
    word: str
    outstanding: int | None


class Overview(msgspec.Struct, frozen=True):
    """A team's invoices, newest first, what of them is to be paid, and the months for which there is none."""

    lines: list[Line]
    outstanding: int
    overdue: int
    next_due: dt.datetime | None
    skipped: list[ClosedMonth]
    account: Account


def overview(team: Team) -> Overview:
    account = ledger.wallet_of(team.pk)
    lines = [line(invoice) for invoice in documents(team).order_by("-pk")[:MOST_MONTHS]]
    due = [found for found in lines if found.outstanding]
    skipped = ClosedMonth.objects.filter(account=account).exclude(
        outcome__in=(ClosingOutcome.INVOICED, ClosingOutcome.BEGAN)
    )
    return Overview(
        lines,
        sum(found.outstanding or 0 for found in due),
        sum(found.outstanding or 0 for found in due if found.tone == "bad"),
        min((found.invoice.due_at for found in due if found.invoice.due_at), default=None),
        list(skipped.order_by("-month")[:12]),
        account,
    )


def documents(team: Team) -> QuerySet[Invoice]:
    """The team's invoices and credit notes."""
    return Invoice.objects.filter(account__team=team).select_related("corrects", "standing")


def line(invoice: Invoice) -> Line:
    if invoice.kind == DocumentKind.CREDIT_NOTE:
        return Line(invoice, "off", "out", str(_("Credit note")), None)
    standing = invoice.standing
    tone, icon = LOOKS[standing.state]
    return Line(invoice, tone, icon, str(standing.get_state_display()), standing.outstanding)


def details(team: Team) -> BillingDetails:
    """What is known of the team for its invoices; not written down before there is anything."""
    return BillingDetails.objects.filter(team=team).first() or BillingDetails(team=team, name=team.name)


# ---- statements -----------------------------------------------------------------------------------------------------


class Sums(msgspec.Struct, frozen=True):
    """All transfers of a kind in a period; nano-units, negative where they went out. `kind` is the word for `code`."""

    code: str
    kind: str
    transfers: int
    amount: int


class Month(msgspec.Struct, frozen=True):
    """A month of the team's wallet: `first` and `last` are its days by the team's calendar, `end` may be to come."""

    account: Account
    month: dt.date
    zone: str
    first: dt.date
    last: dt.date
    opening: int
    sums: list[Sums]
    closing: int
    running: bool
    months: list[dt.date]


def statement(team: Team, month: str) -> Month:
    """The month that is named, the running one for a text that names none."""
    account, now = ledger.wallet_of(team.pk), timezone.now()
    known = _months(account, team.time_zone, now)
    try:
        wanted = months.parse(month)
    except ValueError:
        wanted = known[0]
    start, end = months.start(wanted, team.time_zone), months.end(wanted, team.time_zone)
    opening, sums = moved(account, start, end)
    return Month(
        account,
        wanted,
        team.time_zone,
        wanted,
        months.after(wanted) - dt.timedelta(days=1),
        opening,
        sums,
        opening + sum(found.amount for found in sums),
        end > now,
        known,
    )


def _months(account: Account, zone: str, now: dt.datetime) -> list[dt.date]:
    """From the running month back to that in which the wallet was made."""
    month, first = months.first_of(now, zone), months.first_of(account.created_at, zone)
    found = [month]
    while month > first and len(found) < MOST_MONTHS:
        month = months.before(month)
        found.append(month)
    return found


def moved(account: Account, start: dt.datetime, end: dt.datetime) -> tuple[int, list[Sums]]:
    """The balance before `start`, and what has moved from then up to `end`, by kind."""
    return entries.net([account.pk], before=start), _sums(account, start, end)


def _sums(account: Account, start: dt.datetime, end: dt.datetime) -> list[Sums]:
    period = Transfer.objects.filter(created_at__gte=start, created_at__lt=end).order_by()
    found: dict[str, tuple[int, int]] = {}
    sides = ((-1, period.filter(debit=account)), (1, period.filter(credit=account).exclude(kind=TransferKind.CHARGE)))
    for sign, rows in sides:
        for kind, number, total in rows.values_list("kind").annotate(number=Count("pk"), total=Sum("amount")):
            count, amount = found.get(kind, (0, 0))
            found[kind] = (count + number, amount + sign * int(total))
    named = dict(TransferKind.choices)
    order = list(TransferKind.values)
    return [
        Sums(kind, str(named.get(kind, kind)), *found[kind])
        for kind in sorted(found, key=lambda kind: order.index(kind) if kind in order else len(order))
    ]


def csv(wanted: statements.Statement) -> Iterator[str]:
    return statements.as_csv(wanted)


def file_name(form: StatementForm) -> str:
    """Of the period's days alone: letters that every system takes."""
    return f"statement-{form.cleaned_data['start']}-{form.cleaned_data['end']}.csv"
