"""The wallet's page, read side: its figures, and one list of everything that moved its money.

Charges are summed by day; every other transfer is a line of its own; payments that have not come stand among them and
move nothing. A page ends where the next begins by the moment of its last line (and the balance there), so pages stay
as they are while new lines come on top.
"""

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from django.core import signing
from django.db.models import Count, F, Q, Sum
from django.db.models.functions import TruncDay
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from billing import ledger, selectors
from billing.audit import snapshot
from billing.models import Account, Transfer, TransferKind
from billing.payments.models import OPEN, Payment, PaymentState
from relay import selectors as calls
from relay.selectors import Wanted

PAGE = 20
WINDOW = dt.timedelta(days=31)  # that a page looks back at most, so that a long history costs no more than a short one
DAY = dt.timedelta(days=1)
TICK = dt.timedelta(microseconds=1)
_SALT = "wallet.cursor"

# The chips above the list: which kinds of transfers each shows.
FILTERS: dict[str, tuple[Any, tuple[TransferKind, ...]]] = {
    "": (gettext_lazy("All"), ()),
    "charges": (gettext_lazy("Charges"), (TransferKind.CHARGE,)),
    "topups": (gettext_lazy("Top-ups"), (TransferKind.PAYMENT, TransferKind.CREDIT)),
    "redeemed": (gettext_lazy("Redeemed"), (TransferKind.REDEMPTION,)),
    "refunds": (gettext_lazy("Refunds"), (TransferKind.REFUND, TransferKind.DISPUTE, TransferKind.REVERSAL)),
    "adjustments": (gettext_lazy("Adjustments"), (TransferKind.ADJUSTMENT,)),
}
_TOPUPS = ("", "topups")
LOOKS = {
    PaymentState.CREATED: ("info", "clock"),
    PaymentState.PROCESSING: ("info", "clock"),
    PaymentState.PAID: ("ok", "ok"),
    PaymentState.FAILED: ("bad", "bad"),
    PaymentState.EXPIRED: ("off", "clock"),
    PaymentState.PARTLY_REFUNDED: ("warn", "left"),
    PaymentState.REFUNDED: ("off", "left"),
    PaymentState.DISPUTED: ("bad", "warn"),
}


class Line(msgspec.Struct):
    """A line of the list. `effect` is what it did to the balance, `amount` what it shows; `balance` stands after it.

    `day` lines are sums, and `link` asks the usage page for their calls; `payment` is the one that a line is about.
    """

    moment: dt.datetime
    kind: str
    what: str
    amount: int
    effect: int
    day: bool = False
    link: str = ""
    payment: Payment | None = None
    balance: int | None = None


class Statement(msgspec.Struct, frozen=True):
    """One page of the list, newest first; `older` is the next page's cursor, empty at the end."""

    lines: list[Line]
    older: str


class Figures(msgspec.Struct, frozen=True):
    """The tiles, in nano-units. `days_left` is None where nothing was spent lately."""

    wallet: Account
    available: int
    open_calls: int
    spent: int
    since: dt.datetime
    days_left: int | None
    owed: int


def figures(team: int) -> Figures:
    wallet = ledger.wallet_of(team)
    now = timezone.now()
    month = now.astimezone(dt.UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    lately = calls.totals(Wanted(team=team, start=now - 7 * DAY, end=now)).spend
    return Figures(
        wallet=wallet,
        available=wallet.available,
        open_calls=selectors.open_holds(wallet.pk),
        spent=calls.totals(Wanted(team=team, start=month, end=now)).spend,
        since=month,
        days_left=max(0, wallet.available * 7 // lately) if lately > 0 else None,
        owed=selectors.owed(selectors.debt_of(wallet)),
    )


def statement(wallet: Account, *, wanted: str = "", cursor: str = "", size: int = PAGE) -> Statement:
    """A page of the list from `cursor` back. A filter or a cursor that is not ours shows the first page of all."""
    wanted = wanted if wanted in FILTERS else ""
    with snapshot.taken():
        before, balance = _opened(cursor)
        if before is None:
            before = timezone.now() + DAY
            balance = Account.objects.values_list("balance", flat=True).get(pk=wallet.pk)
        start = _day(before) - WINDOW
        lines = [line for source in _SOURCES for line in source(wallet, wanted, start, before, size + 1)]
        lines.sort(key=lambda line: line.moment, reverse=True)
        shown = [line for line in lines if len(lines) <= size or line.moment >= lines[size - 1].moment]
        running = balance
        for line in shown:
            if not wanted and line.effect:
                line.balance = running
            running -= line.effect
        end = shown[-1].moment if len(lines) > len(shown) else _latest(wallet, wanted, start)
    older = "" if end is None else signing.dumps([end.isoformat(), running], salt=_SALT, compress=True)
    return Statement(shown, older)


def _opened(cursor: str) -> tuple[dt.datetime | None, int]:
    try:
        moment, balance = signing.loads(cursor, salt=_SALT)
    except signing.BadSignature:
        return None, 0
    return dt.datetime.fromisoformat(moment), int(balance)


def _day(moment: dt.datetime) -> dt.datetime:
    return moment.astimezone(dt.UTC).replace(hour=0, minute=0, second=0, microsecond=0)


# ---- where lines come from ------------------------------------------------------------------------------------------


def _others(wallet: Account) -> Any:
    """The wallet's transfers but for charges, each side by its own index."""
    return Transfer.objects.filter(Q(debit=wallet) | Q(credit=wallet)).exclude(kind=TransferKind.CHARGE)


def _transfers(wallet: Account, wanted: str, start: dt.datetime, before: dt.datetime, most: int) -> Iterator[Line]:
    kinds = FILTERS[wanted][1]
    rows = _others(wallet).filter(created_at__gte=start, created_at__lt=before)
    if kinds:
        rows = rows.filter(kind__in=kinds)
    found = list(rows.order_by("-created_at", "-pk")[:most])
    paid = {str(row.pk): row for row in Payment.objects.filter(pk__in=_payment_ids(found))}
    for row in found:
        effect = row.amount if row.credit_id == wallet.pk else -row.amount
        payment = paid.get(row.reference)
        name = _("top-up") if payment else row.get_kind_display()
        yield Line(row.created_at, name, _what(row, payment), effect, effect, payment=payment)


def _payment_ids(rows: list[Transfer]) -> list[str]:
    return [row.reference for row in rows if row.kind == TransferKind.PAYMENT]


def _what(row: Transfer, payment: Payment | None) -> str:
    if payment is not None:
        return paid_by(payment)
    internal = (TransferKind.REFUND, TransferKind.DISPUTE, TransferKind.PAYMENT)
    return "" if row.kind in internal else row.reason


def paid_by(payment: Payment) -> str:
    """How a payment is made, in words."""
    from_names = {"stripe": "Stripe", "epay": "EPay"}
    name = from_names.get(payment.provider, payment.provider)
    return f"{name}, {payment.method}" if payment.method else name


def _waiting(wallet: Account, wanted: str, start: dt.datetime, before: dt.datetime, most: int) -> Iterator[Line]:
    """Payments that have not come, or will not."""
    if wanted not in _TOPUPS:
        return
    states = (*OPEN, PaymentState.FAILED, PaymentState.EXPIRED)
    rows = Payment.objects.filter(wallet=wallet, state__in=states, created_at__gte=start, created_at__lt=before)
    for row in rows.order_by("-created_at")[:most]:
        yield Line(row.created_at, _("top-up"), paid_by(row), row.amount, 0, payment=row)


def _charges(wallet: Account, wanted: str, start: dt.datetime, before: dt.datetime, most: int) -> Iterator[Line]:
    """A line a day, at the day's end: what a day cost stands above whatever else happened on it."""
    if wanted not in ("", "charges"):
        return
    end = _day(before)  # the day of `before` itself has its line on an earlier page
    days = (
        Transfer.objects.filter(debit=wallet, kind=TransferKind.CHARGE, created_at__gte=start, created_at__lt=end)
        .annotate(day=TruncDay("created_at", tzinfo=dt.UTC))
        .values("day")
        .annotate(number=Count("pk"), total=Sum("amount"))
        .order_by(F("day").desc())[:most]
    )
    for row in days:
        number = row["number"]
        what = ngettext("%(n)s call", "%(n)s calls", number) % {"n": f"{number:,}"}
        first = row["day"].date().isoformat()
        yield Line(
            moment=row["day"] + DAY - TICK,
            kind=_("charges"),
            what=what,
            amount=-row["total"],
            effect=-row["total"],
            day=True,
            link=f"period={first}",
        )


_SOURCES: tuple[Callable[[Account, str, dt.datetime, dt.datetime, int], Iterator[Line]], ...] = (
    _transfers,
    _waiting,
    _charges,
)


def _latest(wallet: Account, wanted: str, start: dt.datetime) -> dt.datetime | None:
    """Just after the newest thing that is older than `start`; None where there is nothing."""
    kinds = FILTERS[wanted][1]
    found: list[dt.datetime] = []
    others = _others(wallet).filter(created_at__lt=start)
    if kinds:
        others = others.filter(kind__in=kinds)
    found.extend(others.order_by("-created_at").values_list("created_at", flat=True)[:1])
    if wanted in ("", "charges"):
        charges = Transfer.objects.filter(debit=wallet, kind=TransferKind.CHARGE, created_at__lt=start)
        found.extend(_day(moment) + DAY for moment in charges.order_by("-pk").values_list("created_at", flat=True)[:1])
    if wanted in _TOPUPS:
        rows = Payment.objects.filter(wallet=wallet, paid_at__isnull=True, created_at__lt=start)
        found.extend(rows.order_by("-created_at").values_list("created_at", flat=True)[:1])
    return max(found) + TICK if found else None
