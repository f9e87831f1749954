"""A wallet in an empty database of each kind, and the ledger's writer in this process."""

import asyncio
import datetime as dt
from collections.abc import Sequence

import msgspec
import pytest

from billing import audit, catalog, connections, ids, ledger, prices
from billing.audit import Finding
from billing.models import Account, Hold
from billing.operations import ActiveHold, OpenHold, Operation, Outcome
from portal import services


class Ledger(msgspec.Struct):
    """Runs operations as the writer does: each `run` is one transaction of its own."""

    kind: str
    account: int
    price: int

    def run(self, *operations: Operation) -> list[Outcome]:
        revenue = ledger.revenue_account()

        async def batch() -> list[Outcome]:
            connection = connections.new_connection()
            try:
                return await connection.run(operations, revenue=revenue)
            finally:
                await connection.close()

        return asyncio.run(batch())

    def opening(self, wanted: int, minimum: int | None = None, budgets: Sequence[int] = ()) -> OpenHold:
        now = dt.datetime.now(dt.UTC)
        least = wanted if minimum is None else minimum
        return OpenHold(
            ids.uuid7(), self.account, wanted, least, self.price, tuple(budgets), {"x": 1}, "tests", 45.0, now
        )

    def open(self, wanted: int, minimum: int | None = None, budgets: Sequence[int] = ()) -> ActiveHold:
        (outcome,) = self.run(self.opening(wanted, minimum, budgets))
        assert isinstance(outcome, ActiveHold), outcome
        return outcome

    @property
    def wallet(self) -> Account:
        return Account.objects.get(pk=self.account)

    def findings(self) -> list[Finding]:
        """What the audit says of billing's own tables; nobody writes usage records here.

        Some tests move the books' clock, but not that of the database.
        """
        found = audit.run(ledger_only=True)
        return [finding for finding in found if finding.check != "a charge was written when its hold ended"]

    def hold(self, active: ActiveHold) -> Hold:
        return Hold.objects.get(pk=active.id)


@pytest.fixture
def book(books: str) -> Ledger:
    """A wallet with 1,000 nano-units."""
    _, team = services.user_with_team("alice@example.com")
    wallet = ledger.wallet_of(team.pk)
    ledger.credit(wallet=wallet, amount=1000, actor="tests", reason="opening balance")
    model = catalog.save_model(name="chat")
    price = catalog.set_price(model, prices.parse_card({"input": "1"}), actor="tests")
    assert price is not None
    return Ledger(books, wallet.pk, price.pk)
