"""The ledgers under test: the pure books over rows in memory, and the real writer on SQLite and PostgreSQL.

Each carries out batches, does what the administration does, and shows its rows (`State`) to be compared.
"""

import asyncio
import datetime as dt
import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol
from unittest import mock

import msgspec
from django.db import connection
from django.utils import timezone

from billing import audit, books, budgets, catalog, holds, ledger, prices, rules, windows
from billing.books import Trip, Verb
from billing.group_commit import GroupCommit
from billing.models import Account, AccountKind, Budget, BudgetOwner, Hold, IdempotencyKey, Transfer
from billing.operations import ActiveHold, CloseHold, Operation, Outcome, RenewLeases, Row
from billing.prices import Charge
from portal import services
from relay import records
from relay.models import CallLog

TEAMS = 3
PLANS = 2  # of each team
OWNERS = 2  # keys with budgets
START = dt.datetime(2040, 1, 30, 22, 0, tzinfo=dt.UTC)
# The rows' times are the model's, those of leases and ends the database's.
OF_ANOTHER_TIME = {"a charge was written when its hold ended", "no hold is open long after its lease"}
LEASE = 10.0**6  # seconds; leases end when the rules say so, and never by themselves


class State(msgspec.Struct):
    """The rows. `resolved` and `transfers` are those that came since the last look."""

    wallets: dict[int, tuple[int, int, int, bool]]  # and plans: balance, held, credit limit, frozen
    budgets: dict[int, tuple[dt.datetime, int, int, int, int]]  # since, cap, used, held, over
    open: dict[uuid.UUID, tuple[int, int, int, str, list[tuple[int, int]], list[tuple[int, int]]]]
    resolved: dict[uuid.UUID, tuple[str, int, list[tuple[int, int]]]]
    transfers: list[tuple[str, str, int, int, int]]  # kind, reference, debit, credit, amount


class System(Protocol):
    """A ledger with TEAMS wallets, none of which has money, and the clock that it goes by."""

    now: dt.datetime
    revenue: int
    payments: int
    promo: int
    sold: int  # the other side of plans
    price: int
    wallets: list[tuple[int, int]]  # with their receivables
    plans: dict[int, list[int]]  # by wallet

    def run(self, batch: Sequence[Operation]) -> list[Outcome | BaseException]: ...
    def set_cap(self, owner: int, window: str, cap: int | None, zone: str) -> int | None: ...
    def raise_cap(self, budget: int, extra: int, until: dt.datetime) -> None: ...
    def end_raise(self, budget: int) -> None: ...
    def set_zone(self, zone: str) -> None: ...
    def freeze(self, wallet: int, frozen: bool) -> None: ...
    def set_credit_limit(self, wallet: int, limit: int) -> None: ...
    def set_end(self, plan: int, end: dt.datetime) -> None: ...
    def lapse(self, lapsing: Sequence[uuid.UUID], renewed: Sequence[ActiveHold]) -> set[uuid.UUID]: ...
    def recover(self, hold: ActiveHold, charged: int | None) -> bool: ...
    def review(self, hold: uuid.UUID) -> bool: ...
    def forget_claims(self) -> None: ...
    def state(self) -> State: ...
    def audit(self) -> list[str]: ...
    def close(self) -> None: ...


@contextmanager
def clock(system: System) -> Iterator[None]:
    """The ledger goes by the system's clock instead of the database's for as long as the block lasts."""
    decide = rules.decide

    def at_that_time(given: rules.Books, batch: Sequence[Operation]) -> Any:
        given.now = system.now
        return decide(given, batch)

    moving = mock.patch.object(timezone, "now", lambda: system.now)  # noqa: PT008 - it is another one each time
    with mock.patch.object(rules, "decide", at_that_time), moving:
        yield


# ---- memory ---------------------------------------------------------------------------------------------------------


class Duplicate(Exception):
    """What a unique constraint would refuse."""


class Memory:
    """The books' own script over dictionaries: the third driver, which forgets."""

    def __init__(self) -> None:
        self.now = START
        self.revenue, self.payments, self.promo, self.sold, self.price = 1, 2, 3, 4, 1
        self.wallets = [(10 + 2 * n, 11 + 2 * n) for n in range(TEAMS)]
        self.plans = {wallet: [100 * wallet + n for n in range(PLANS)] for wallet, _ in self.wallets}
        self._accounts = {n: rules.AccountTotals(n, False, 0, 0, 0, "") for n in (1, 2, 3, 4)}
        for plan in (plan for plans in self.plans.values() for plan in plans):
            self._accounts[plan] = rules.AccountTotals(plan, True, 0, 0, 0, "", START)
        for wallet, receivable in self.wallets:
            self._accounts[wallet] = rules.AccountTotals(wallet, True, 0, 0, 0, "")
            self._accounts[receivable] = rules.AccountTotals(receivable, False, 0, 0, 0, "")
        self._budgets: dict[int, rules.BudgetTotals] = {}
        self._owners: dict[tuple[int, str], int] = {}
        self._numbers = 0
        self._holds: dict[uuid.UUID, dict[str, Any]] = {}
        self._open: dict[uuid.UUID, dict[str, Any]] = {}
        self._keys: set[Any] = set()
        self._claims: dict[tuple[int, str], tuple[uuid.UUID, str]] = {}
        self._resolved: list[uuid.UUID] = []
        self._transfers: list[tuple[str, str, int, int, int]] = []

    def run(self, batch: Sequence[Operation]) -> list[Outcome | BaseException]:
        """As the writer does: what a constraint refuses is halved until only the culprit is refused."""
        try:
            return [*self._commit(batch)]
        except Duplicate as error:
            if len(batch) == 1:
                return [error]
            middle = len(batch) // 2
            return self.run(batch[:middle]) + self.run(batch[middle:])

    def _commit(self, batch: Sequence[Operation]) -> list[Outcome]:
        closing: list[tuple[Any, ...]] = []

        def carry_out(trip: Trip) -> list[list[tuple[Any, ...]]]:
            if trip.outcomes is not None:
                self._write(trip, closing)
                return []
            answers = []
            for statement in trip.statements:
                if statement.what is Verb.CLOSE_HOLDS:
                    closing.extend(row for row in statement.rows if self._is_open(row[0], row[1]))
                    answers.append([row[:2] for row in closing])
                elif statement.what is Verb.RENEW_LEASES:
                    answers.append([])
                else:
                    answers.append(self._read(statement.what, statement.rows))
            return answers

        return books.drive(books.script(batch, revenue=self.revenue), carry_out)

    def _is_open(self, hold: uuid.UUID, generation: int) -> bool:
        return hold in self._open and self._open[hold]["generation"] == generation

    def _read(self, what: Any, ids: list[Any]) -> list[tuple[Any, ...]]:
        if what is Verb.LOCK_BUDGETS:
            return [msgspec.structs.astuple(self._budgets[n]) for n in ids if n in self._budgets]
        if what is Verb.LOCK_ACCOUNTS:
            return [(*msgspec.structs.astuple(self._accounts[n]), self.now) for n in ids if n in self._accounts]
        if what is Verb.FIND_CLAIMS:
            return [(*key, *self._claims[key]) for key in ids if key in self._claims]
        assert what is Verb.FIND_RECEIVABLES
        return [pair for pair in self.wallets if pair[0] in ids]

    def _write(self, trip: Trip, closing: list[tuple[Any, ...]]) -> None:
        by_kind = {statement.what: statement.rows for statement in trip.statements}
        self._check_unique(by_kind)
        for number, _, charged in closing:
            hold = self._open.pop(number)
            hold["state"], hold["charged"] = ("voided", 0) if charged is None else ("settled", charged)
            self._resolved.append(number)
        for row in by_kind.get(books.HOLD, []):
            hold = dict(zip((name for name, _ in books.HOLD.columns), row, strict=True))
            self._holds[row[0]] = self._open[row[0]] = hold
        gone = {number for (number,) in by_kind.get(Verb.DROP_CLAIMS, [])}
        self._claims = {key: found for key, found in self._claims.items() if found[0] not in gone}
        for wallet, key, number, fingerprint, _ in by_kind.get(Verb.WRITE_CLAIMS, []):
            self._claims[wallet, key] = (number, fingerprint)
        for number, starts_at, used, held, over in by_kind.get(Verb.WRITE_BUDGETS, []):
            row = self._budgets[number]
            row.starts_at, row.used, row.held, row.over = starts_at, used, held, over
        for number, balance, held, frozen in by_kind.get(Verb.WRITE_ACCOUNTS, []):
            account = self._accounts[number]
            account.balance, account.held, account.frozen = balance, held, frozen
        for kind, debit, credit, amount, reference, *_ in by_kind.get(books.TRANSFER, []):
            self._transfers.append((kind, reference, debit, credit, amount))

    def _check_unique(self, by_kind: dict[Any, list[Any]]) -> None:
        keys: list[Any] = [row[0] for row in by_kind.get(books.HOLD, [])]
        for kind, debit, credit, _, reference, _, _, reverses, _ in by_kind.get(books.TRANSFER, []):
            keys.append((kind, reference))
            if reverses is not None:
                keys.append(reverses)
            if debit == credit:
                raise Duplicate
        if len(set(keys)) < len(keys) or not self._keys.isdisjoint(keys):
            raise Duplicate
        self._keys.update(keys)

    def set_cap(self, owner: int, window: str, cap: int | None, zone: str) -> int | None:
        number = self._owners.get((owner, window))
        if cap is None:
            if number is not None:
                del self._budgets[number], self._owners[owner, window]
            return None
        if number is None:
            self._numbers += 1
            number = self._owners[owner, window] = self._numbers
            since = windows.start_of(window, self.now, zone)
            self._budgets[number] = rules.BudgetTotals(number, window, cap, zone, since, 0, 0, 0)
        budget = self._budgets[number]
        budget.cap, budget.over = cap, max(0, budget.used + budget.held - cap)
        return number

    def raise_cap(self, budget: int, extra: int, until: dt.datetime) -> None:
        self._budgets[budget].extra, self._budgets[budget].extra_until = extra, until

    def end_raise(self, budget: int) -> None:
        self._budgets[budget].extra, self._budgets[budget].extra_until = 0, None

    def set_zone(self, zone: str) -> None:
        for budget in self._budgets.values():
            if budget.zone != zone:
                extra = budget.extra
                budget.roll(self.now)
                budget.extra = extra  # one that has ended is forgotten by whoever reads it
                budget.kept_until, budget.zone = windows.end_of(budget.window, self.now, zone), zone

    def freeze(self, wallet: int, frozen: bool) -> None:
        self._accounts[wallet].frozen = "by hand" if frozen else ""

    def set_credit_limit(self, wallet: int, limit: int) -> None:
        self._accounts[wallet].credit_limit = limit

    def set_end(self, plan: int, end: dt.datetime) -> None:
        self._accounts[plan].ends_at = end

    def lapse(self, lapsing: Sequence[uuid.UUID], renewed: Sequence[ActiveHold]) -> set[uuid.UUID]:
        alive = {hold.id for hold in renewed if self._is_open(hold.id, hold.generation)}
        found = set(lapsing) - alive
        for number in found:
            self._open[number]["generation"] += 1
            self._open[number]["state"] = "recovering"
        return found

    def forget_claims(self) -> None:
        self._claims.clear()

    def review(self, hold: uuid.UUID) -> bool:
        self._open[hold]["state"] = "review"
        return True

    def recover(self, hold: ActiveHold, charged: int | None) -> bool:
        (outcome,) = self.run([CloseHold(hold, charged)])
        return bool(getattr(outcome, "changed", False))

    def state(self) -> State:
        resolved, self._resolved = self._resolved, []
        transfers, self._transfers = self._transfers, []
        rows = ((n, self._holds[n]) for n in resolved)
        return State(
            {n: (a.balance, a.held, a.credit_limit, bool(a.frozen)) for n, a in self._accounts.items() if a.counted},
            {n: (b.starts_at, b.cap, b.used, b.held, b.over) for n, b in self._budgets.items()},
            {
                n: (h["account_id"], h["amount"], h["generation"], h["state"], list(h["budgets"]), list(h["parts"]))
                for n, h in self._open.items()
            },
            {n: (h["state"], h["charged"], list(h["budgets"])) for n, h in rows},
            transfers,
        )

    def audit(self) -> list[str]:
        return []

    def close(self) -> None:
        """Nothing is kept."""


# ---- databases ------------------------------------------------------------------------------------------------------


class Database:
    """The real writer in the database that this process works in, which is empty and migrated."""

    def __init__(self) -> None:
        self.now = START
        ledger.forget_revenue_account()
        self.revenue = ledger.revenue_account()
        self.payments = ledger.platform_account(AccountKind.PAYMENTS).pk
        self.promo = ledger.platform_account(AccountKind.PROMO).pk
        self.sold = ledger.platform_account(AccountKind.PLANS).pk
        self.wallets = [self._wallet(f"team-{n}@example.com") for n in range(TEAMS)]
        self.plans = {wallet: [self._plan(wallet) for _ in range(PLANS)] for wallet, _ in self.wallets}
        model = catalog.save_model(name="model")
        price = catalog.set_price(model, prices.parse_card({"input": "1"}), actor="tests")
        assert price is not None
        self.price = price.pk
        self._writer = GroupCommit()
        self._runner = asyncio.Runner()
        self._known: set[uuid.UUID] = set()
        self._last = 0
        self._orphans: dict[uuid.UUID, Hold] = {}

    @staticmethod
    def _wallet(email: str) -> tuple[int, int]:
        _, team = services.user_with_team(email)
        wallet = ledger.wallet_of(team.pk)
        return wallet.pk, Account.objects.get(team=team, kind=AccountKind.RECEIVABLE).pk

    @staticmethod
    def _plan(wallet: int) -> int:
        row = Account.objects.get(pk=wallet)
        return Account.objects.create(
            kind=AccountKind.PLAN, team_id=row.team_id, currency=row.currency, ends_at=START
        ).pk

    def run(self, batch: Sequence[Operation]) -> list[Outcome | BaseException]:
        return self._runner.run(self._submit([self._recorded(operation) for operation in batch]))

    async def _submit(self, batch: list[Operation]) -> list[Outcome | BaseException]:
        waiting = [self._writer.submit(operation) for operation in batch]
        return await asyncio.gather(*waiting, return_exceptions=True)

    def _recorded(self, operation: Operation) -> Operation:
        if not isinstance(operation, CloseHold):
            return operation
        return CloseHold(operation.hold, operation.charged, tuple(self._record(operation.hold, operation.charged)))

    def _record(self, hold: ActiveHold, charged: int | None) -> list[Row]:
        """The usage record that the relay would write. One whose hold is not its to close is not written."""
        row = Hold(pk=hold.id, amount=hold.amount, price_id=self.price, facts={"team": 0}, created_at=self.now)
        return records.lost_rows(row, None, None, Charge(charged or 0, ()))

    def set_cap(self, owner: int, window: str, cap: int | None, zone: str) -> int | None:
        made = budgets.set_cap(owner=BudgetOwner.KEY, owner_id=owner, window=window, cap=cap, zone=zone)
        return made.pk if made else None

    def raise_cap(self, budget: int, extra: int, until: dt.datetime) -> None:
        budgets.raise_cap(budget=budget, extra=extra, until=until, actor="model", reason="drawn")

    def end_raise(self, budget: int) -> None:
        budgets.end_raise(budget=budget, actor="model")

    def set_zone(self, zone: str) -> None:
        budgets.set_zone(team=0, keys=range(OWNERS), zone=zone, actor="model")

    def freeze(self, wallet: int, frozen: bool) -> None:
        row = Account.objects.get(pk=wallet)
        if frozen:
            ledger.freeze(wallet=row, reason="by hand")
        else:
            ledger.unfreeze(wallet=row)

    def set_credit_limit(self, wallet: int, limit: int) -> None:
        Account.objects.filter(pk=wallet).update(credit_limit=limit)

    def set_end(self, plan: int, end: dt.datetime) -> None:
        Account.objects.filter(pk=plan).update(ends_at=end)

    def lapse(self, lapsing: Sequence[uuid.UUID], renewed: Sequence[ActiveHold]) -> set[uuid.UUID]:
        """Suspected first; those that their owners renew meanwhile are not taken."""
        ended = dt.datetime.now(dt.UTC) - holds.SUSPECT_FOR - dt.timedelta(seconds=1)
        Hold.objects.filter(pk__in=lapsing).update(lease_until=ended)
        assert not list(holds.expired()), "nobody is taken without having been suspected"
        self.run([RenewLeases(tuple((hold.id, hold.generation, LEASE, None) for hold in renewed))])
        Hold.objects.filter(suspected_at__isnull=False).update(suspected_at=ended)
        found = {orphan.row.pk: orphan.row for orphan in holds.expired()}
        Hold.objects.filter(pk__in=found).update(lease_until=self.now)
        self._orphans.update(found)
        return set(found)

    def recover(self, hold: ActiveHold, charged: int | None) -> bool:
        return holds.recover(self._orphans[hold.id], charged=charged, rows=self._record(hold, charged))

    def forget_claims(self) -> None:
        IdempotencyKey.objects.all().delete()

    def review(self, hold: uuid.UUID) -> bool:
        return holds.review(self._orphans[hold], why="nobody can tell")

    def state(self) -> State:
        wallets = Account.objects.filter(kind__in=[AccountKind.WALLET, AccountKind.PLAN])
        rows = Hold.objects.exclude(pk__in=self._known) if len(self._known) < 500 else Hold.objects.all()
        opened: dict[uuid.UUID, Any] = {}
        resolved: dict[uuid.UUID, Any] = {}
        for pk, account, amount, generation, state, charged, named, parts in rows.values_list(
            "pk", "account_id", "amount", "generation", "state", "charged", "budgets", "parts"
        ):
            pairs = [(b, s) for b, s in (named if not isinstance(named, str) else json.loads(named))]
            if state in ("settled", "voided"):
                if pk not in self._known:
                    resolved[pk] = (state, charged, pairs)
            else:
                opened[pk] = (account, amount, generation, state, pairs, [(p, a) for p, a in parts])
        self._known.update(resolved)
        transfers = list(
            Transfer.objects.filter(pk__gt=self._last)
            .order_by("pk")
            .values_list("pk", "kind", "reference", "debit_id", "credit_id", "amount")
        )
        self._last = transfers[-1][0] if transfers else self._last
        return State(
            {a.pk: (a.balance, a.held, a.credit_limit, bool(a.frozen)) for a in wallets},
            {b.pk: (b.starts_at, b.cap, b.used, b.held, b.over) for b in Budget.objects.all()},
            opened,
            resolved,
            [row[1:] for row in transfers],
        )

    def audit(self) -> list[str]:
        found = [str(finding) for finding in audit.run(ledger_only=True) if finding.check not in OF_ANOTHER_TIME]
        resolved = Hold.objects.filter(state__in=("settled", "voided")).values_list("pk", "charged")
        if set(CallLog.objects.values_list("pk", "cost")) != set(resolved):
            found.append("a resolved hold has no usage record, or one with another cost")
        return found

    def close(self) -> None:
        self._runner.run(self._writer.close())
        self._runner.close()
        connection.close()
