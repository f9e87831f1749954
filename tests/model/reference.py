"""What the ledger promises, in the fewest words: derived from open holds and finished charges, nothing kept twice.

Deliberately unlike `billing.rules`: what is held is always the sum of the open holds, what was spent is looked up by
window, and operations are applied one after another. It knows nothing of batches, locks, statements or retries.
"""

import datetime as dt
import uuid
from typing import Any

import msgspec

from billing import windows
from billing.operations import (
    ActiveHold,
    Claimed,
    CloseHold,
    Done,
    OpenHold,
    Operation,
    Outcome,
    Post,
    Refusal,
    Refused,
)

OPEN = ("dispatched", "recovering", "review")


class Failed(msgspec.Struct, frozen=True):
    """The operation must raise: the database's constraints do not take it."""


class Wallet(msgspec.Struct):
    """A plan is one without a debt, and with an end."""

    receivable: int
    balance: int = 0
    credit_limit: int = 0
    frozen: bool = False
    ends_at: dt.datetime | None = None


class Budget(msgspec.Struct):
    """`since` is the start of the latest window that it was used in, which lasts at least until `kept_until`."""

    cap: int
    window: str
    zone: str
    since: dt.datetime
    kept_until: dt.datetime | None = None
    extra: int = 0
    extra_until: dt.datetime = windows.EPOCH

    def running(self, now: dt.datetime) -> dt.datetime:
        if self.kept_until is not None and now < self.kept_until:
            return self.since
        return max(self.since, windows.start_of(self.window, now, self.zone))


class Hold(msgspec.Struct):
    account: int
    amount: int
    budgets: tuple[tuple[int, int], ...]
    claimed: bool = False
    parts: tuple[tuple[int, int], ...] = ()
    generation: int = 1
    state: str = "dispatched"
    charged: int = 0


class Reference:
    def __init__(self, revenue: int) -> None:
        self.revenue = revenue
        self.platform: set[int] = {revenue}
        self.wallets: dict[int, Wallet] = {}
        self.budgets: dict[int, Budget] = {}
        self.holds: dict[uuid.UUID, Hold] = {}
        self.open: dict[uuid.UUID, Hold] = {}
        self.spent: dict[tuple[int, int], int] = {}  # by budget and start of window
        self.transfers: dict[tuple[str, str], tuple[int, int, int]] = {}
        self.reversed: set[int] = set()
        self.claims: dict[tuple[int, str], Claimed] = {}

    # ---- what follows from the rows

    def held(self, account: int) -> int:
        """By a wallet's holds without what plans pay of them, or by those that name a plan."""
        own = sum(h.amount - sum(part for _, part in h.parts) for h in self.open.values() if h.account == account)
        return own + sum(part for h in self.open.values() for plan, part in h.parts if plan == account)

    def available(self, number: int) -> int:
        wallet = self.wallets[number]
        return wallet.balance + wallet.credit_limit - self.held(number)

    def used(self, budget: int) -> int:
        return self.spent.get((budget, int(self.budgets[budget].since.timestamp())), 0)

    def budget_held(self, budget: int) -> int:
        return sum(hold.amount for hold in self.open.values() if any(b == budget for b, _ in hold.budgets))

    def room(self, number: int, now: dt.datetime) -> int:
        budget = self.budgets[number]
        raised = budget.extra if now < budget.extra_until else 0
        return budget.cap + raised - self.used(number) - self.budget_held(number)

    # ---- operations

    def apply(self, operation: Operation, now: dt.datetime) -> Outcome | Failed:
        match operation:
            case OpenHold():
                return self._open(operation, now)
            case CloseHold():
                self._touch([number for number, _ in operation.hold.budgets], now)
                return Done(changed=self._close(operation))
            case Post():
                return self._post(operation)
        return Done()

    def _touch(self, budgets: Any, now: dt.datetime) -> None:
        for budget in (self.budgets[number] for number in budgets if number in self.budgets):
            budget.since = budget.running(now)

    def _admit(self, op: OpenHold, now: dt.datetime) -> int | Refused | Claimed:
        """How much may be held; refused for the first reason that there is."""
        if op.claim is not None and (op.account, op.claim.key) in self.claims:
            return self.claims[op.account, op.claim.key]
        wallet = self.wallets.get(op.account)
        if wallet is None:
            return Refused(Refusal.UNKNOWN_ACCOUNT)
        if wallet.frozen:
            return Refused(Refusal.FROZEN)
        if not all(number in self.budgets for number in op.budgets):
            return Refused(Refusal.CHANGED)
        for number in op.budgets:
            if self.room(number, now) < max(1, op.minimum):
                return Refused(Refusal.BUDGET, number)
        room = sum(self.payable(op, now).values())
        if room < op.minimum:
            return Refused(Refusal.BALANCE)
        return min([op.wanted, room, *(self.room(number, now) for number in op.budgets)])

    def payable(self, op: OpenHold, now: dt.datetime) -> dict[int, int]:
        """Who pays, in this order, and the most that each can; the wallet comes last."""
        found = {}
        for number in op.plans:
            plan = self.wallets.get(number)
            if plan is not None and not plan.frozen and (plan.ends_at is None or now < plan.ends_at):
                found[number] = self.available(number)
        if op.wallet_pays:
            credit = 0 if op.on_credit else self.wallets[op.account].credit_limit
            found[op.account] = max(0, self.available(op.account) - credit)
        return found

    def _open(self, op: OpenHold, now: dt.datetime) -> Outcome | Failed:
        before = {number: self.budgets[number].since for number in op.budgets if number in self.budgets}
        self._touch(op.budgets, now)
        amount = self._admit(op, now)
        if not isinstance(amount, int):
            return amount
        if op.id in self.holds:  # what is not written moves no window either
            for number, since in before.items():
                self.budgets[number].since = since
            return Failed()
        budgets = tuple((number, int(self.budgets[number].since.timestamp())) for number in op.budgets)
        left, parts = amount, []
        for number, most in self.payable(op, now).items():
            if number != op.account and min(most, left):
                parts.append((number, min(most, left)))
                left -= min(most, left)
        if op.claim is not None:
            self.claims[op.account, op.claim.key] = Claimed(op.id, op.claim.fingerprint)
        self.holds[op.id] = self.open[op.id] = Hold(op.account, amount, budgets, op.claim is not None, tuple(parts))
        return ActiveHold(op.id, op.account, amount, 1, budgets, op.claim is not None, tuple(parts))

    def _close(self, op: CloseHold) -> bool:
        hold = self.open.get(op.hold.id)
        if hold is None or hold.generation != op.hold.generation:
            return False
        del self.open[op.hold.id]
        hold.state, hold.charged = ("voided", 0) if op.charged is None else ("settled", op.charged)
        if op.charged is None:  # what was not paid for may be asked for again
            self.claims = {key: claimed for key, claimed in self.claims.items() if claimed.hold != op.hold.id}
        for number, start in hold.budgets:
            self.spent[number, start] = self.spent.get((number, start), 0) + hold.charged
        wallet, owed = self.wallets[hold.account], hold.charged
        for plan, part in hold.parts:
            if drawn := min(part, owed):
                self.wallets[plan].balance -= drawn
                self.transfers["draw", f"{op.hold.id}/{plan}"] = (plan, self.revenue, drawn)
                owed -= drawn
        paid = max(0, min(owed, self.available(hold.account)))
        wallet.balance -= paid
        if paid:
            self.transfers["charge", str(op.hold.id)] = (hold.account, self.revenue, paid)
        if owed := owed - paid:
            self.transfers["shortfall", str(op.hold.id)] = (wallet.receivable, self.revenue, owed)
            wallet.frozen = True
        return True

    def _post(self, op: Post) -> Outcome | Failed:
        debit, credit = self.wallets.get(op.debit), self.wallets.get(op.credit)
        for number, found in ((op.debit, debit), (op.credit, credit)):
            if found is None and number not in self.platform:
                return Refused(Refusal.UNKNOWN_ACCOUNT)
        if debit is not None and self.available(op.debit) < op.amount:
            return Refused(Refusal.BALANCE)
        if (op.kind, op.reference) in self.transfers or op.debit == op.credit or op.reverses in self.reversed:
            return Failed()
        for wallet, amount in ((debit, -op.amount), (credit, op.amount)):
            if wallet is not None:
                wallet.balance += amount
        self.transfers[op.kind, op.reference] = (op.debit, op.credit, op.amount)
        if op.reverses is not None:
            self.reversed.add(op.reverses)
        return Done()

    # ---- administration

    def set_zone(self, zone: str, now: dt.datetime) -> None:
        """A running window is kept to the end of the one that the new zone has at this moment."""
        for budget in self.budgets.values():
            if budget.zone != zone:
                budget.since = budget.running(now)
                budget.kept_until, budget.zone = windows.end_of(budget.window, now, zone), zone

    # ---- recovery

    def take(self, hold: uuid.UUID) -> None:
        """The sweep takes a hold whose lease has ended: its old owner can change nothing any more."""
        self.open[hold].generation += 1
        self.open[hold].state = "recovering"
