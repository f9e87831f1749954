"""The end of a month: what every postpaid wallet owes for it becomes an invoice, once.

A month of a wallet is closed when the ledger can have no more of it (`entries.whole`). It is read without a lock; then
one transaction writes the invoice with its number and lines, its state and the closed month, of which there can be one
only. So a job that is killed leaves all or nothing of a wallet's month, and the next goes on with the others.

A wallet is invoiced from the month on in which it is first seen with a credit limit, or, where it owes something from
before, from the month in which it began to. Its months follow one another without a gap, also when the team moves to
another time zone, and each is invoiced while there is a limit or a debt.
"""

import datetime as dt
from collections.abc import Callable

import msgspec
import structlog
from django.db import IntegrityError, transaction
from django.utils import timezone

from billing.invoices import amounts, entries, issuing, items, months
from billing.invoices.items import Month
from billing.models import Account, ClosedMonth, ClosingOutcome, Invoice, InvoicedWallet

log = structlog.get_logger(__name__)

# After a month's end, so that clocks that differ a little do not matter.
CUT = dt.timedelta(minutes=10)
MOST_BACK = 240  # months that a wallet's debt is followed back


class NotOver(Exception):
    """The month has not ended, or transactions of it are still under way."""


class Preview(msgspec.Struct, frozen=True):
    """What closing a month would come to: nothing of it is written."""

    account: Account
    month: dt.date
    zone: str
    starts_at: dt.datetime
    ends_at: dt.datetime
    content: Month
    opening: int
    carried_in: int
    payable: amounts.Payable

    @property
    def closing(self) -> int:
        """The wallet's position at the end."""
        return self.opening + self.content.paid - self.content.owed

    @property
    def outcome(self) -> ClosingOutcome:
        if self.payable.amount:
            return ClosingOutcome.INVOICED
        return ClosingOutcome.CARRIED if self.content.owed or self.content.usage else ClosingOutcome.EMPTY


def postpaid_ids() -> list[int]:
    """The wallets that are invoiced: those with a credit limit, those that owe, and those that have been invoiced."""
    return list(InvoicedWallet.objects.order_by("pk").values_list("pk", flat=True))


def close_all(now: dt.datetime | None = None) -> list[ClosedMonth]:
    """Closes every month that is over, of every postpaid wallet. One that fails does not stop the others."""
    closed: list[ClosedMonth] = []
    for number in postpaid_ids():
        try:
            closed.extend(close_due(Account.objects.select_related("team").get(pk=number), now=now))
        except NotOver:
            log.info("invoices.waiting", account=number)
        except Exception:
            log.exception("invoices.not_closed", account=number)
    return closed


def close_due(account: Account, *, now: dt.datetime | None = None) -> list[ClosedMonth]:
    """Closes the wallet's months that are over, in their order. Raises NotOver where one that is must wait."""
    moment = now or timezone.now()
    last = _last(account) or begin(account, moment=moment)
    closed = []
    while (ended := months.end(months.after(last.month), _zone(account))) + CUT <= moment:
        if not entries.whole(ended):
            raise NotOver(f"transactions of before {ended} are still under way")
        last = close(preview(account, last), moment=moment)
        closed.append(last)
    return closed


def begin(account: Account, *, moment: dt.datetime | None = None) -> ClosedMonth:
    """From when on the wallet is invoiced: a row that closes the month before the first one. The same if it is there.

    The first month is the running one; where the wallet owes something from before, that in which it began to.
    """
    if (known := _last(account)) is not None:
        return known
    zone = _zone(account)
    month = months.first_of(moment or timezone.now(), zone)
    for _ in range(MOST_BACK):
        position = entries.net(entries.accounts_of(account), before=months.start(month, zone))
        if position >= 0:
            break
        month = months.before(month)
    row = ClosedMonth(
        account=account,
        month=months.before(month),
        zone=zone,
        ends_at=months.start(month, zone),
        outcome=ClosingOutcome.BEGAN,
        position=position,
    )
    return _write_once(row, row.save)


def preview(account: Account, last: ClosedMonth | None = None) -> Preview:
    """The wallet's next month as it stands, whether it is over or not."""
    before = last or _last(account) or begin(account)
    zone, month = _zone(account), months.after(before.month)
    ends_at = months.end(month, zone)
    content = items.gather(entries.read(entries.accounts_of(account), before.ends_at, ends_at, usage=True))
    payable = amounts.payable(content.owed + before.carried_out, account.currency)
    return Preview(account, month, zone, before.ends_at, ends_at, content, before.position, before.carried_out, payable)


def close(found: Preview, *, actor: str = "", moment: dt.datetime | None = None) -> ClosedMonth:
    """Writes what was found. The row of whoever was quicker, where another worker has closed the month meanwhile.

    Raises NotOver for a month that is not over.
    """
    if not over(found, moment):
        raise NotOver(f"the month ends at {found.ends_at}")
    row = ClosedMonth(
        account=found.account,
        month=found.month,
        zone=found.zone,
        starts_at=found.starts_at,
        ends_at=found.ends_at,
        outcome=found.outcome,
        items=found.content.owed,
        invoiced=found.payable.amount,
        carried_in=found.carried_in,
        carried_out=found.payable.carried,
        position=found.closing,
        actor=actor,
    )

    def write() -> None:
        if found.payable.amount:
            row.invoice = _issued(found, actor)
        row.save()

    written = _write_once(row, write)
    log.info("invoices.closed", account=row.account_id, month=str(row.month), outcome=written.outcome)
    return written


def over(found: Preview, moment: dt.datetime | None = None) -> bool:
    """Whether the month has ended, and the ledger can have no more of it."""
    return (moment or timezone.now()) >= found.ends_at + CUT and entries.whole(found.ends_at)


def _issued(found: Preview, actor: str) -> Invoice:
    document = issuing.Document(
        account=found.account,
        month=found.month,
        starts_at=found.starts_at,
        ends_at=found.ends_at,
        zone=found.zone,
        items=found.content.owed,
        carried_in=found.carried_in,
        carried_out=found.payable.carried,
        amount=found.payable.amount,
    )
    return issuing.issue(document, found.content, opening=found.opening, closing=found.closing, actor=actor)


def _write_once(row: ClosedMonth, write: Callable[[], None]) -> ClosedMonth:
    """Writes in one transaction; where the month is there already, what was written before."""
    try:
        with transaction.atomic():
            known = ClosedMonth.objects.filter(account_id=row.account_id, month=row.month).first()
            if known is not None:
                return known
            write()
            return row
    except IntegrityError:
        known = ClosedMonth.objects.filter(account_id=row.account_id, month=row.month).first()
        if known is None:
            raise
        return known


def _last(account: Account) -> ClosedMonth | None:
    return ClosedMonth.objects.filter(account=account).order_by("-ends_at").first()


def _zone(account: Account) -> str:
    assert account.team is not None
    return account.team.time_zone
