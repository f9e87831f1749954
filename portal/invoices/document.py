"""What stands on an invoice, in words: the one source of its page and its PDF.

Everything comes from the invoice's own rows, which never change, and the reader's language; nothing from the clock. So
the same invoice reads the same for ever.
"""

import datetime as dt
from collections.abc import Iterable

import msgspec
from django.utils.translation import gettext as _

from billing import money, windows
from billing.invoices import amounts
from billing.models import DocumentKind, Invoice, InvoiceLine, LineKind, TransferKind
from portal import wording

_OWED = (LineKind.USAGE, LineKind.PLAN, LineKind.CORRECTION, LineKind.CARRIED_IN, LineKind.CARRIED_OUT)


class Cells(msgspec.Struct, frozen=True):
    """A line as it is read: what it is for, what it says besides, how many calls, the amount."""

    what: str
    more: str
    calls: str
    amount: str


class Shown(msgspec.Struct, frozen=True):
    """An invoice or a credit note. `lines` add up to `total`; `account` says what was paid, between two balances."""

    title: str
    number: str
    facts: list[tuple[str, str]]
    seller: list[str]
    buyer: list[str]
    lines: list[Cells]
    total: str
    tax: str
    account: list[Cells]
    note: str
    currency: str


def of(invoice: Invoice) -> Shown:
    """In the language that is active."""
    lines = list(invoice.lines.order_by("position"))
    credit = invoice.kind == DocumentKind.CREDIT_NOTE
    total = payable(invoice.amount, invoice.currency)
    return Shown(
        title=_("Credit note") if credit else _("Invoice"),
        number=invoice.number,
        facts=list(_facts(invoice)),
        seller=party(invoice.seller),
        buyer=party(invoice.buyer),
        lines=[Cells(invoice.reason, "", "", total)] if credit else _cells(lines, invoice, _OWED),
        total=total,
        tax=_tax(invoice),
        account=_cells(lines, invoice, (LineKind.OPENING, LineKind.PAYMENT, LineKind.CLOSING)),
        note=_note(invoice),
        currency=invoice.currency,
    )


def _facts(invoice: Invoice) -> Iterable[tuple[str, str]]:
    yield _("Date"), day(invoice.issued_at, invoice.zone)
    if invoice.corrects is not None:
        yield _("Corrects invoice"), invoice.corrects.number
    last = invoice.ends_at - dt.timedelta(microseconds=1)
    yield _("Period"), f"{day(invoice.starts_at, invoice.zone)} – {day(last, invoice.zone)} ({invoice.zone})"
    if invoice.due_at is not None:
        yield _("Payable by"), day(invoice.due_at, invoice.zone)
    yield _("Account"), str(invoice.account_id)


def party(told: dict[str, str]) -> list[str]:
    """The lines of an address: name first, tax number and e-mail last."""
    found = [told.get("name", ""), *told.get("address", "").splitlines()]
    if told.get("tax_id"):
        found.append(_("Tax number: %(number)s") % {"number": told["tax_id"]})
    found.append(told.get("email", ""))
    return [line.strip() for line in found if line.strip()]


def _cells(lines: list[InvoiceLine], invoice: Invoice, kinds: Iterable[LineKind]) -> list[Cells]:
    wanted = [line for line in lines if line.kind in set(kinds)]
    decimals = max((_decimals(line.amount) for line in wanted), default=2)
    decimals = max(decimals, amounts.decimals(invoice.currency))
    return [
        Cells(
            what(line),
            _more(line, invoice.zone),
            f"{line.calls:,}" if line.calls else "",
            grouped(money.to_text(line.amount, decimals=decimals)),
        )
        for line in wanted
    ]


def _decimals(nano: int) -> int:
    """How many decimals an amount needs."""
    return len(money.to_text(nano).partition(".")[2])


def what(line: InvoiceLine) -> str:
    """What a line is for."""
    if line.kind == LineKind.USAGE:
        return line.model or _("Calls")
    names: dict[str, str] = {
        LineKind.CARRIED_IN: _("Carried over from the month before"),
        LineKind.CARRIED_OUT: _("Carried on to the next month: less than can be paid"),
        LineKind.OPENING: _("Balance at the beginning"),
        LineKind.CLOSING: _("Balance at the end"),
    }
    return names.get(line.kind) or str(dict(TransferKind.choices).get(line.code, line.code)).capitalize()


def _more(line: InvoiceLine, zone: str) -> str:
    used = ", ".join(
        f"{wording.BUCKETS.get(bucket, bucket)} {quantity:,}" for bucket, quantity in sorted(line.quantities.items())
    )
    when = day(line.at, zone) if line.at is not None and line.kind not in (LineKind.OPENING, LineKind.CLOSING) else ""
    return " · ".join(part for part in (when, line.text, line.key, used) if part)


def _tax(invoice: Invoice) -> str:
    if not invoice.tax_rate:
        return ""
    rate = money.to_text(invoice.tax_rate * (money.NANO // 10_000))
    amount, net = payable(invoice.tax, invoice.currency), payable(invoice.net, invoice.currency)
    return _("Includes %(rate)s %% %(name)s: %(tax)s; net %(net)s") % {
        "rate": rate,
        "name": invoice.tax_name,
        "tax": amount,
        "net": net,
    }


def _note(invoice: Invoice) -> str:
    if invoice.kind == DocumentKind.CREDIT_NOTE:
        return _("The amount was put into the wallet and pays the invoice that it corrects.")
    text = _("Calls are charged when they end, and belong to the month of that moment. Days are those of %(zone)s.")
    return text % {"zone": invoice.zone}


def payable(nano: int, currency: str) -> str:
    """An amount that can be paid, with the currency's decimals."""
    return grouped(money.to_text(nano, decimals=amounts.decimals(currency)))


def grouped(text: str) -> str:
    """`-1234.50` as `−1,234.50`."""
    whole, dot, fraction = text.lstrip("-").partition(".")
    return ("−" if text.startswith("-") else "") + f"{int(whole):,}{dot}{fraction}"


def day(moment: dt.datetime, zone: str) -> str:
    return moment.astimezone(windows.zone(zone)).date().isoformat()
