"""What must be true in the middle of a life and at its end."""

import csv
import datetime as dt
import hashlib
import itertools
from typing import TYPE_CHECKING

from django.db.models import Sum
from django.utils import translation

from billing import audit, money, selectors
from billing.credit_models import RedeemCode
from billing.invoices import issuing, standing, statements
from billing.invoices.statements import GROUPS, Statement
from billing.models import (
    Account,
    ClosedMonth,
    DocumentKind,
    Invoice,
    InvoiceLine,
    InvoiceSeries,
    Plan,
    PlanState,
    Transfer,
    TransferKind,
)
from portal.invoices import document, pdf
from tests.life.reference import CUT, Customer
from tests.life.world import Purse

if TYPE_CHECKING:
    from tests.life.play import Play

EVERY = [groups for size in range(1, 5) for groups in itertools.combinations(GROUPS, size)]


class Checks:
    """`keep` remembers what documents looked like when they were made; the others compare."""

    def __init__(self, play: "Play") -> None:
        self.play = play
        self.documents: dict[tuple[int, str], str] = {}
        self.statements: dict[tuple[int, dt.datetime, dt.datetime, str, tuple[str, ...]], str] = {}

    # ---- what is kept

    def keep(self) -> None:
        """Each document that is new, in one language, and the statement of each month that was closed."""
        known = {number for number, _ in self.documents}
        for number in Invoice.objects.exclude(pk__in=known).values_list("pk", flat=True):
            language = self.play.draw.choice(("en", "zh-hans"))
            self.documents[number, language] = _document(number, language)
        draw = self.play.draw
        purse = draw.choice(self.play.world.purses)
        end = self.play.world.latest - CUT - dt.timedelta(hours=draw.randrange(2000))
        start, zone = end - dt.timedelta(hours=draw.randrange(1, 3000)), draw.choice(("UTC", "Asia/Shanghai"))
        key = purse.wallet, start, end, zone, draw.choice(EVERY)
        self.statements[key] = _digest("".join(_lines(*key)).encode())

    def again(self, *, share: float) -> None:
        for (number, language), before in self.documents.items():
            if self.play.draw.random() < share:
                assert _document(number, language) == before, f"document {number} has changed"
        for key, before in self.statements.items():
            if self.play.draw.random() < share:
                assert _digest("".join(_lines(*key)).encode()) == before, f"the statement {key} has changed"

    # ---- what is compared

    def everything(self, *, share: float = 1.0) -> None:
        self.play.world.renew()
        for purse, customer in zip(self.play.world.purses, self.play.customers, strict=True):
            self._purse(purse, customer)
            self._plans(purse, customer)
            self._months(purse, customer)
            self._grouped(purse, customer)
        self._numbers()
        self._payments()
        self.again(share=share)
        assert [str(finding) for finding in audit.run()] == []

    def _purse(self, purse: Purse, customer: Customer) -> None:
        wallet, debt = purse.account, Account.objects.get(pk=purse.debt)
        assert (wallet.balance, wallet.held, wallet.credit_limit, selectors.owed(debt)) == (
            customer.wallet, customer.held, customer.limit, customer.debt,
        )  # fmt: skip
        expected = customer.stopped.replace(" is owed", " was taken back and could not be paid")
        expected = expected.replace("owing", "what the team owes could not be paid")
        same = wallet.frozen.startswith(expected) if expected else not wallet.frozen
        assert same, f"stopped for {wallet.frozen!r}, should be {customer.stopped!r}"

    def _plans(self, purse: Purse, customer: Customer) -> None:
        rows = Plan.objects.filter(team=purse.team).select_related("account")
        found = {
            row.account_id: (row.account.balance, row.account.held, row.state == PlanState.RUNNING, row.fill_at)
            for row in rows
        }
        assert found == {
            pot.number: (pot.balance, customer.pot_held(pot.number), pot.running, pot.fill_at)
            for pot in customer.pots.values()
        }

    def _months(self, purse: Purse, customer: Customer) -> None:
        """Invoices equal the ledger: theirs and what is carried is what was charged and bought."""
        rows = list(ClosedMonth.objects.filter(account=purse.wallet).order_by("ends_at"))
        found = [(row.month, row.ends_at, row.items, row.invoiced, row.carried_out, row.position) for row in rows[1:]]
        assert found == [
            (bill.month, bill.ends_at, bill.items, bill.amount, bill.carried, customer.position(bill.ends_at))
            for bill in customer.bills
        ]
        documents = Invoice.objects.filter(account=purse.wallet, kind=DocumentKind.INVOICE)
        lines = InvoiceLine.objects.filter(invoice__in=documents, kind__in=issuing.OWED)
        asked = int(lines.aggregate(total=Sum("amount"))["total"] or 0)
        assert asked == sum(documents.values_list("amount", flat=True)) == sum(bill.amount for bill in customer.bills)
        if customer.bills:
            assert customer.invoiced_from is not None
            first, last = customer.invoiced_from[1], customer.bills[-1]
            sold = sum(move.amount for move in customer.moves if move.sold and first <= move.at < last.ends_at)
            assert asked + last.carried == -sold
        left = [(one.invoice.month, one.credited, one.outstanding) for one in standing.of(purse.wallet)]
        assert left == [(bill.month, bill.credited, due) for bill, due in customer.standing()]

    def _grouped(self, purse: Purse, customer: Customer) -> None:
        """A period, grouped in one of all ways, adds up to what the wallet had and has."""
        draw = self.play.draw
        end = self.play.now - dt.timedelta(hours=draw.randrange(3000))
        start = end - dt.timedelta(hours=draw.randrange(1, 5000))
        opening, *rows, closing = csv.DictReader(_lines(purse.wallet, start, end, "UTC", draw.choice(EVERY)))
        total = sum(money.parse(row["amount"], negative=True) for row in rows)
        assert total == customer.between(start, end)
        assert money.parse(closing["balance"], negative=True) == customer.between(dt.datetime.min.replace(
            tzinfo=dt.UTC), end)  # fmt: skip
        assert money.parse(opening["balance"], negative=True) + total == money.parse(closing["balance"], negative=True)

    def _numbers(self) -> None:
        for series in InvoiceSeries.objects.all():
            found = Invoice.objects.filter(series=series.series, year=series.year).order_by("serial")
            assert list(found.values_list("serial", flat=True)) == list(range(1, series.last + 1))
        assert not Invoice.objects.exclude(series__in=InvoiceSeries.objects.values("series")).exists()

    def _payments(self) -> None:
        """Each true payment is credited once, when it was told, for its amount, and no other."""
        found = Transfer.objects.filter(kind=TransferKind.PAYMENT).values_list("reference", "amount")
        credited = {
            (name, order.amount)
            for customer in self.play.customers
            for name, order in customer.orders.items()
            if order.credited
        }
        assert sorted(found) == sorted(credited)
        assert {name for name, _ in credited} <= self.play.true
        if not self.play.under_way:
            assert {name for name, _ in credited} == self.play.true
        codes = Transfer.objects.filter(kind=TransferKind.REDEMPTION).count()
        assert codes == RedeemCode.objects.filter(state="redeemed").count() == len(self.play.used)


def _lines(wallet: int, start: dt.datetime, end: dt.datetime, zone: str, groups: tuple[str, ...]) -> list[str]:
    account = Account.objects.select_related("team").get(pk=wallet)
    return list(statements.as_csv(Statement(account, start, end, zone, groups)))


def _document(number: int, language: str) -> str:
    with translation.override(language):
        return _digest(pdf.render(document.of(Invoice.objects.get(pk=number))))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
