"""A wallet on a PostgreSQL behind a wire that can be cut, and the usage records that make its audit whole."""

import asyncio
import datetime as dt
import uuid
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
from django.conf import settings
from django.db import connection

from billing import audit, catalog, holds, ids, ledger, prices
from billing.group_commit import writer
from billing.models import Account, Hold
from billing.operations import ActiveHold, Row
from billing.prices import Charge
from portal import services as portal
from relay import records
from relay.models import CallLog
from tests.faults.proxy import Proxy
from tests.kit import databases
from tests.kit.services import services

T = TypeVar("T")
OPENING = 1000


class Wire(msgspec.Struct):
    """A wallet with 1,000 nano-units. This process reaches its database through `proxy` only."""

    proxy: Proxy
    account: int
    team: int
    price: int

    def run(self, *work: Coroutine[Any, Any, T]) -> list[T | BaseException]:
        """Runs at once what uses the process's own writer, on a connection of its own, and closes that."""

        async def scene() -> list[T | BaseException]:
            try:
                return await asyncio.gather(*work, return_exceptions=True)
            finally:
                await writer.close()

        return asyncio.run(asyncio.wait_for(scene(), 60))

    async def hold(self, wanted: int) -> ActiveHold:
        call = ids.uuid7()
        now = dt.datetime.now(dt.UTC)
        return await holds.hold(
            call=call, account=self.account, wanted=wanted, minimum=wanted, price=self.price, budgets=(),
            facts={"team": self.team}, created_at=now, late=lambda active: self.record(active.id, active.amount, None),
        )  # fmt: skip

    async def close(self, active: ActiveHold, charged: int | None) -> None:
        rows = self.record(active.id, active.amount, charged)
        await (
            holds.release(active, rows=rows) if charged is None else holds.settle(active, charged=charged, rows=rows)
        )

    def opened(self, *amounts: int) -> list[ActiveHold]:
        found = self.run(*(self.hold(amount) for amount in amounts))
        assert all(isinstance(hold, ActiveHold) for hold in found), found
        return [hold for hold in found if isinstance(hold, ActiveHold)]

    def record(self, call: uuid.UUID, held: int, charged: int | None) -> list[Row]:
        now = dt.datetime.now(dt.UTC)
        row = Hold(pk=call, amount=held, price_id=self.price, facts={"team": self.team}, created_at=now)
        return records.lost_rows(row, None, None, Charge(charged or 0, ()))

    def wallet(self) -> Account:
        return Account.objects.get(pk=self.account)

    def open_holds(self) -> list[uuid.UUID]:
        return list(Hold.objects.exclude(state__in=("settled", "voided")).values_list("pk", flat=True))

    def state_of(self, calls: Sequence[uuid.UUID]) -> list[tuple[str, int]]:
        found = {pk: (state, charged) for pk, state, charged in Hold.objects.values_list("pk", "state", "charged")}
        return [found[call] for call in calls]

    def fresh(self) -> None:
        """The next statement of this thread makes a connection of its own."""
        connection.close()

    def is_whole(self) -> None:
        assert [str(finding) for finding in audit.run(ledger_only=True)] == []
        resolved = Hold.objects.filter(state__in=("settled", "voided")).values_list("pk", "charged")
        assert set(CallLog.objects.values_list("pk", "cost")) == set(resolved), "each resolved hold has its record"


@contextmanager
def wire() -> Iterator[Wire]:
    proxy = Proxy(services.postgres.port)
    url = databases.new("postgres")
    try:
        with databases.inside(url.replace(str(services.postgres.port), str(proxy.port))):
            _, team = portal.user_with_team("alice@example.com")
            wallet = ledger.wallet_of(team.pk)
            ledger.credit(wallet=wallet, amount=OPENING, actor="tests", reason="opening balance")
            price = catalog.set_price(catalog.save_model(name="x"), prices.parse_card({"input": "1"}), actor="tests")
            assert price is not None
            ledger.revenue_account()
            yield Wire(proxy, wallet.pk, team.pk, price.pk)
    finally:
        proxy.close()
        databases.drop(url)


def lease_ended(call: uuid.UUID) -> None:
    """So long ago that nobody need be suspected any more."""
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=settings.HOLD_LEASE) - holds.SUSPECT_FOR
    Hold.objects.filter(pk=call).update(lease_until=past, suspected_at=past)
