"""The ledger's rules: what a batch of operations does to locked totals. Pure: no database, no clock.

`decide` walks the operations in order of arrival with running totals, so that what an earlier operation took is not
there for a later one. It changes the totals that it is given and returns what has to be written besides.
"""

import datetime as dt
import uuid
from collections.abc import Iterator, Sequence

import msgspec

from billing import money, windows
from billing.operations import (
    ActiveHold,
    Claimed,
    CloseHold,
    Done,
    OpenHold,
    Operation,
    Outcome,
    Post,
    Record,
    Refusal,
    Refused,
    RenewLeases,
    Row,
)

OVERDUE = "overdue: "  # how the reason begins for which a wallet is frozen whose invoice is not paid
# How the reasons end for which a wallet is frozen whose team owes something besides.
OVERRUN, UNPAID = "cost more than the wallet could pay", "could not be paid"


class AccountTotals(msgspec.Struct):
    """A locked account. Wallets and plans keep totals; on others `counted` is False and they stay as they are.

    A plan pays for no call from `ends_at` on; None is never.
    """

    id: int
    counted: bool
    balance: int
    held: int
    credit_limit: int
    frozen: str
    ends_at: dt.datetime | None = None

    @property
    def available(self) -> int:
        return self.balance - self.held + self.credit_limit

    def pays(self, now: dt.datetime) -> bool:
        return not self.frozen and (self.ends_at is None or now < self.ends_at)


class BudgetTotals(msgspec.Struct):
    """A locked budget in its current window, which began at `starts_at`. A raise adds `extra` until `extra_until`."""

    id: int
    window: str
    cap: int
    zone: str
    starts_at: dt.datetime
    used: int
    held: int
    over: int
    extra: int = 0
    extra_until: dt.datetime | None = None
    kept_until: dt.datetime | None = None

    @property
    def room(self) -> int:
        return self.cap + self.extra - self.used - self.held

    def roll(self, now: dt.datetime) -> None:
        """Begins a new window where the old one has ended; what open holds reserve stays reserved.

        A raise that has ended counts for nothing.
        """
        if self.extra_until is None or now >= self.extra_until:
            self.extra = 0
        start = windows.running(self.window, self.zone, starts_at=self.starts_at, kept_until=self.kept_until, now=now)
        if start > self.starts_at:
            self.starts_at, self.used = start, 0
            self.count(used=0, held=0)

    def count(self, *, used: int, held: int) -> None:
        """Adds to the counters; what exceeds the plain cap shows in `over`: the constraint holds and nothing hides."""
        self.used += used
        self.held += held
        self.over = max(0, self.used + self.held - self.cap)


class NewTransfer(msgspec.Struct, frozen=True):
    """`debit` is None for the receivable account of the team that owns `wallet`."""

    kind: str
    debit: int | None
    credit: int
    amount: int
    reference: str
    actor: str = ""
    reason: str = ""
    reverses: int | None = None
    wallet: int | None = None


class Changes(msgspec.Struct):
    """What a batch writes besides the totals: new holds with their grants, transfers, other apps' rows.

    A hold that was granted with a claim claims its key.
    """

    holds: list[tuple[OpenHold, ActiveHold]] = msgspec.field(default_factory=list)
    unclaimed: list[uuid.UUID] = msgspec.field(default_factory=list)  # holds whose idempotency key is free again
    transfers: list[NewTransfer] = msgspec.field(default_factory=list)
    rows: list[Row] = msgspec.field(default_factory=list)


class Books(msgspec.Struct):
    """The locked state that a batch works on. `revenue` is the account that charges are credited to."""

    accounts: dict[int, AccountTotals]
    budgets: dict[int, BudgetTotals]
    closed: set[tuple[uuid.UUID, int]]  # holds, with their generation, whose compare-and-set succeeded just now
    revenue: int
    now: dt.datetime
    claims: dict[tuple[int, str], Claimed] = msgspec.field(default_factory=dict)  # by wallet and key


def decide(books: Books, operations: Sequence[Operation]) -> tuple[list[Outcome], Changes]:
    """The outcome of each operation, and what to write. Mutates the totals in `books`."""
    for budget in books.budgets.values():
        budget.roll(books.now)
    changes = Changes()
    outcomes: list[Outcome] = []
    for operation in operations:
        match operation:
            case OpenHold():
                outcomes.append(_open(books, operation, changes))
            case CloseHold():
                outcomes.append(_close(books, operation, changes))
            case Post():
                outcomes.append(_post(books, operation, changes))
            case Record():
                changes.rows.extend(operation.rows)
                outcomes.append(Done())
            # Written with the compare-and-sets, before anything is decided. There is no other operation.
            case RenewLeases():  # pragma: no branch
                outcomes.append(Done())
    return outcomes, changes


def _open(books: Books, op: OpenHold, changes: Changes) -> Outcome:
    if op.claim is not None and (found := books.claims.get((op.account, op.claim.key))) is not None:
        return found  # whatever became of the wallet since: that call is paid for
    account = books.accounts.get(op.account)
    if account is None:
        return Refused(Refusal.UNKNOWN_ACCOUNT)
    if account.frozen:
        return Refused(Refusal.OVERDUE if account.frozen.startswith(OVERDUE) else Refusal.FROZEN)
    if any(number not in books.budgets for number in op.budgets):
        return Refused(Refusal.CHANGED)
    budgets = [books.budgets[number] for number in op.budgets]
    for budget in budgets:
        # A spent budget stops even a call that is free, so that "0 left" means what it says.
        if budget.room < op.minimum or budget.room <= 0:
            return Refused(Refusal.BUDGET, budget.id)
    plans = [plan for number in op.plans if (plan := books.accounts.get(number)) is not None and plan.pays(books.now)]
    room = sum(plan.available for plan in plans) + _payable(account, op)
    if room < op.minimum:
        return Refused(Refusal.BALANCE)
    amount = min([op.wanted, room, *(budget.room for budget in budgets)])
    parts = tuple(_reserve(plans, account, amount))
    for budget in budgets:
        budget.count(used=0, held=amount)
    starts = tuple((budget.id, int(budget.starts_at.timestamp())) for budget in budgets)
    hold = ActiveHold(op.id, op.account, amount, 1, starts, op.claim is not None, parts)
    if op.claim is not None:
        books.claims[op.account, op.claim.key] = Claimed(op.id, op.claim.fingerprint)
    changes.holds.append((op, hold))
    return hold


def _payable(wallet: AccountTotals, op: OpenHold) -> int:
    """What the wallet may pay of a call: nothing, what it has, or what it has with its credit."""
    if not op.wallet_pays:
        return 0
    return max(0, wallet.available if op.on_credit else wallet.available - wallet.credit_limit)


def _reserve(plans: Sequence[AccountTotals], wallet: AccountTotals, amount: int) -> Iterator[tuple[int, int]]:
    """Holds `amount`, of the plans as far as they go. Yields each plan with its part; the rest is the wallet's."""
    for plan in plans:
        if part := min(plan.available, amount):
            plan.held += part
            amount -= part
            yield plan.id, part
    wallet.held += amount


def _close(books: Books, op: CloseHold, changes: Changes) -> Outcome:
    hold = op.hold
    if (hold.id, hold.generation) not in books.closed:
        return Done(changed=False)
    books.closed.remove((hold.id, hold.generation))  # a second closing in the same batch finds it closed
    account = books.accounts[hold.account]
    if op.charged is None and hold.claimed:
        changes.unclaimed.append(hold.id)
        books.claims = {key: claimed for key, claimed in books.claims.items() if claimed.hold != hold.id}
    charged = op.charged or 0
    owed = _draw(books, hold, charged, changes)
    for number, start in hold.budgets:
        budget = books.budgets.get(number)
        if budget is None:  # the quota was taken away while the call ran
            continue
        same_window = int(budget.starts_at.timestamp()) == start
        budget.count(used=charged if same_window else 0, held=-hold.amount)
    paid = min(owed, max(0, account.available))
    account.balance -= paid
    if paid:
        changes.transfers.append(NewTransfer("charge", account.id, books.revenue, paid, str(hold.id)))
    if owed > paid:
        # More was used than held, and the wallet cannot pay it: the debt is a row, and the wallet stops.
        account.frozen = account.frozen or f"call {hold.id} {OVERRUN}"
        changes.transfers.append(
            NewTransfer("shortfall", None, books.revenue, owed - paid, str(hold.id), wallet=account.id)
        )
    changes.rows.extend(op.rows)
    return Done()


def _draw(books: Books, hold: ActiveHold, charged: int, changes: Changes) -> int:
    """Gives free what the hold reserved and lets its plans pay, each at most its part. What is left to pay."""
    reserved = hold.amount
    for number, part in hold.parts:
        plan, drawn = books.accounts[number], min(part, charged)
        plan.held -= part
        plan.balance -= drawn
        reserved -= part
        charged -= drawn
        if drawn:
            changes.transfers.append(NewTransfer("draw", number, books.revenue, drawn, draw_reference(hold.id, number)))
    books.accounts[hold.account].held -= reserved
    return charged


def draw_reference(hold: uuid.UUID, plan: int) -> str:
    """What a plan's payment for a call is known by: a call may be paid by several."""
    return f"{hold}/{plan}"


def _post(books: Books, op: Post, changes: Changes) -> Outcome:
    debit, credit = books.accounts.get(op.debit), books.accounts.get(op.credit)
    if debit is None or credit is None:
        return Refused(Refusal.UNKNOWN_ACCOUNT)
    if credit.counted and credit.balance + op.amount >= money.LIMIT:
        return Refused(Refusal.TOO_MUCH)
    if debit.counted:
        if debit.available < op.amount:
            return Refused(Refusal.BALANCE)
        debit.balance -= op.amount
    if credit.counted:
        credit.balance += op.amount
    changes.transfers.append(NewTransfer(**msgspec.structs.asdict(op)))
    return Done()


def touched(operations: Sequence[Operation]) -> tuple[set[int], set[int]]:
    """The accounts and the budgets that these operations need locked."""
    accounts: set[int] = set()
    budgets: set[int] = set()
    for op in operations:
        match op:
            case OpenHold():
                accounts.update((op.account, *op.plans))
                budgets.update(op.budgets)
            case CloseHold():
                accounts.update((op.hold.account, *(number for number, _ in op.hold.parts)))
                budgets.update(number for number, _ in op.hold.budgets)
            case Post():
                accounts.update((op.debit, op.credit))
    return accounts, budgets
