"""A batch of operations as a script of statements: what is locked, what is decided, what is written. Pure.

`script` yields trips of statements and is sent back their rows; the drivers (`billing.postgres`, `billing.sqlite`)
carry them out in one transaction, so both databases obey the same rules in the same order. Lock order: the holds (by
compare-and-set), budgets by id, accounts by id, then inserts. An idempotency key belongs to a wallet and is looked for
and written under that wallet's lock, so it needs none of its own.

The database's clock is the only one: nodes whose clocks differ agree on windows and leases.
"""

import datetime as dt
from collections.abc import Callable, Generator, Iterable, Sequence
from enum import Enum, auto
from typing import Any

import msgspec

from billing import rules
from billing.operations import ActiveHold, Claimed, CloseHold, OpenHold, Operation, Outcome, RenewLeases, Row, Table
from billing.rules import AccountTotals, BudgetTotals, Changes


class Verb(Enum):
    """The statements that there are, besides inserting rows into a table."""

    CLOSE_HOLDS = auto()  # (id, generation, charged or None) → (id, generation) of those that were open
    RENEW_LEASES = auto()  # (id, generation, seconds, progress)
    LOCK_BUDGETS = auto()  # ids → BudgetTotals' fields
    LOCK_ACCOUNTS = auto()  # ids → AccountTotals' fields, the time
    FIND_CLAIMS = auto()  # (wallet, key) → (wallet, key, hold, fingerprint) of those younger than CLAIM_LASTS
    WRITE_CLAIMS = auto()  # (wallet, key, hold, fingerprint, time)
    DROP_CLAIMS = auto()  # (hold,)
    FIND_RECEIVABLES = auto()  # wallet ids → (wallet, receivable)
    WRITE_BUDGETS = auto()  # (id, starts_at, used, held, over)
    WRITE_ACCOUNTS = auto()  # (id, balance, held, frozen)


class Statement(msgspec.Struct, frozen=True):
    """A verb, or a table to insert into, and its rows; for the verbs that lock or find, a list of ids."""

    what: Verb | Table
    rows: list[Any]


class Proof(msgspec.Struct, frozen=True):
    """A row that only this batch can have written, by which it is known to have been committed: a hold that it opened,
    a transfer that it posted, or a hold that it closed in this generation. `what` says which."""

    what: str  # opened, posted, closed
    key: str  # the hold's id, or the transfer's reference
    detail: str = ""  # the transfer's kind, or the hold's generation


class Trip(msgspec.Struct, frozen=True):
    """Statements that go together. The last trip has the outcomes, which are true once it has committed, and a proof
    of that; a batch that changes nothing has none."""

    statements: list[Statement]
    outcomes: list[Outcome] | None = None
    proof: Proof | None = None


CLAIM_LASTS = dt.timedelta(hours=24)
Script = Generator[Trip, list[list[tuple[Any, ...]]], None]

HOLD = Table(
    "billing_hold",
    (
        ("id", "uuid"),
        ("account_id", "bigint"),
        ("amount", "bigint"),
        ("charged", "bigint"),
        ("state", "text"),
        ("generation", "int"),
        ("price_id", "bigint"),
        ("budgets", "jsonb"),
        ("parts", "jsonb"),
        ("facts", "jsonb"),
        ("lease_owner", "text"),
        ("lease_until", "timestamptz"),
        ("created_at", "timestamptz"),
    ),
)
TRANSFER = Table(
    "billing_transfer",
    (
        ("kind", "text"),
        ("debit_id", "bigint"),
        ("credit_id", "bigint"),
        ("amount", "bigint"),
        ("reference", "text"),
        ("actor", "text"),
        ("reason", "text"),
        ("reverses_id", "bigint"),
        ("created_at", "timestamptz"),
    ),
)


def script(operations: Sequence[Operation], *, revenue: int) -> Script:
    """Carries out the operations: two trips, a third where a debt must be booked."""
    accounts, budgets = rules.touched(operations)
    closing = {  # of two closings of one hold the first counts
        (op.hold.id, op.hold.generation): (op.hold.id, op.hold.generation, op.charged)
        for op in reversed(operations)
        if isinstance(op, CloseHold)
    }
    locking = [
        Statement(Verb.CLOSE_HOLDS, list(closing.values())),
        Statement(
            Verb.RENEW_LEASES,
            [renewal for op in operations if isinstance(op, RenewLeases) for renewal in op.renewals],
        ),
        Statement(Verb.LOCK_BUDGETS, sorted(budgets)),
        Statement(Verb.LOCK_ACCOUNTS, sorted(accounts)),
        Statement(Verb.FIND_CLAIMS, sorted({(op.account, op.claim.key) for op in _claiming(operations) if op.claim})),
    ]
    closed, _, budget_rows, account_rows, claims = yield Trip(locking)
    books = rules.Books(
        accounts={row[0]: AccountTotals(*row[:-1]) for row in account_rows},
        budgets={row[0]: BudgetTotals(*row) for row in budget_rows},
        closed=set(closed),
        revenue=revenue,
        now=account_rows[0][-1] if account_rows else dt.datetime.now(dt.UTC),
        claims={(wallet, key): Claimed(hold, fingerprint) for wallet, key, hold, fingerprint in claims},
    )
    outcomes, changes = rules.decide(books, operations)
    debtors = sorted({transfer.wallet for transfer in changes.transfers if transfer.wallet is not None})
    receivables: dict[int, int] = {}
    if debtors:
        (found,) = yield Trip([Statement(Verb.FIND_RECEIVABLES, debtors)])
        receivables = dict(found)
    yield Trip(_writes(books, changes, receivables), outcomes, _proof(closed, changes))


def _proof(closed: Sequence[tuple[Any, ...]], changes: Changes) -> Proof | None:
    """What is never written a second time comes first: a closing is tried again while its fate is in doubt."""
    if changes.holds:
        return Proof("opened", str(changes.holds[0][1].id))
    if changes.transfers:
        return Proof("posted", changes.transfers[0].reference, changes.transfers[0].kind)
    if closed:
        return Proof("closed", str(closed[0][0]), str(closed[0][1]))
    return None


def _claiming(operations: Iterable[Operation]) -> list[OpenHold]:
    return [op for op in operations if isinstance(op, OpenHold) and op.claim is not None]


def _writes(books: rules.Books, changes: Changes, receivables: dict[int, int]) -> list[Statement]:
    now = books.now
    return [
        Statement(HOLD, [_hold_row(op, hold, now) for op, hold in changes.holds]),
        Statement(Verb.DROP_CLAIMS, [(hold,) for hold in changes.unclaimed]),
        Statement(
            Verb.WRITE_CLAIMS,
            [
                (op.account, op.claim.key, op.id, op.claim.fingerprint, now)
                for op in _claiming(op for op, _ in changes.holds)
                if op.claim
            ],
        ),
        Statement(Verb.WRITE_BUDGETS, [(b.id, b.starts_at, b.used, b.held, b.over) for b in books.budgets.values()]),
        Statement(
            Verb.WRITE_ACCOUNTS, [(a.id, a.balance, a.held, a.frozen) for a in books.accounts.values() if a.counted]
        ),
        Statement(TRANSFER, [_transfer_row(transfer, now, receivables) for transfer in changes.transfers]),
        *(Statement(table, rows) for table, rows in _by_table(changes.rows).items()),
    ]


def _hold_row(op: OpenHold, hold: ActiveHold, now: dt.datetime) -> tuple[Any, ...]:
    return (
        op.id,
        op.account,
        hold.amount,
        0,
        "dispatched",
        hold.generation,
        op.price,
        hold.budgets,
        hold.parts,
        op.facts,
        op.lease_owner,
        now + dt.timedelta(seconds=op.lease),
        op.created_at,
    )


def _transfer_row(transfer: rules.NewTransfer, now: dt.datetime, receivables: dict[int, int]) -> tuple[Any, ...]:
    debit = transfer.debit if transfer.wallet is None else receivables[transfer.wallet]
    return (
        transfer.kind,
        debit,
        transfer.credit,
        transfer.amount,
        transfer.reference,
        transfer.actor,
        transfer.reason,
        transfer.reverses,
        now,
    )


def _by_table(rows: Iterable[Row]) -> dict[Table, list[tuple[Any, ...]]]:
    grouped: dict[Table, list[tuple[Any, ...]]] = {}
    for row in rows:
        grouped.setdefault(row.table, []).append(row.values)
    return grouped


def drive(work: Script, carry_out: Callable[[Trip], list[list[tuple[Any, ...]]]]) -> list[Outcome]:
    """Runs a script with a driver that needs no awaiting, and leaves the commit to the caller."""
    trip = next(work)
    while True:
        rows = carry_out(trip)
        if trip.outcomes is not None:
            return trip.outcomes
        trip = work.send(rows)
