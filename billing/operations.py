"""What the books can be asked to do, and what they answer. Values only.

Every change of an account's totals, of a budget's counters, of a hold, and every new transfer is one of these,
carried out by `billing.books` after `billing.rules` has decided on it.
"""

import datetime as dt
import uuid
from enum import StrEnum
from typing import Any

import msgspec


class Table(msgspec.Struct, frozen=True):
    """A table that rows can be added to in the transaction of an operation: its columns with their SQL types."""

    name: str
    columns: tuple[tuple[str, str], ...]

    def __hash__(self) -> int:
        return hash(self.name)  # every row that is written asks for it; all columns' names and types would be felt


class Row(msgspec.Struct, frozen=True):
    """A row of another app that must be written if and only if the operation is: values in the table's order."""

    table: Table
    values: tuple[Any, ...]


class ActiveHold(msgspec.Struct, frozen=True):
    """A hold as its owner knows it: enough to resolve it without reading it again.

    `budgets` pairs a budget's id with the start of the window that it was held in, in Unix seconds. `parts` pairs the
    plans that pay first with what is held of each, in the order in which they pay; the rest is the wallet's.
    """

    id: uuid.UUID
    account: int
    amount: int
    generation: int
    budgets: tuple[tuple[int, int], ...] = ()
    claimed: bool = False  # it bears an idempotency key, which a void gives free
    parts: tuple[tuple[int, int], ...] = ()


class Claim(msgspec.Struct, frozen=True):
    """An idempotency key that a call brings, and the fingerprint of what it asks for."""

    key: str
    fingerprint: str


class Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """How far a call has got. What nobody says has not happened: without one, nothing was sent that we know of.

    `attempt` counts the channels tried. Once `answering`, output may have been produced; `usage` is what the upstream
    has reported, with an estimate of what came since; `input_bytes` and `output_bytes` are what there is to count else.
    """

    attempt: int
    input_bytes: int = 0
    output_bytes: int = 0
    answering: bool = False
    usage: dict[str, int] | None = None


class OpenHold(msgspec.Struct, frozen=True):
    """Reserve up to `wanted` and at least `minimum` nano-units, or nothing. The lease lasts `lease` seconds.

    `plans` are accounts that pay before the wallet, in this order; one that has ended or is stopped pays nothing. The
    wallet pays the rest where `wallet_pays`, with its credit where `on_credit`.
    """

    id: uuid.UUID
    account: int
    wanted: int
    minimum: int
    price: int
    budgets: tuple[int, ...]
    facts: dict[str, Any]
    lease_owner: str
    lease: float
    created_at: dt.datetime
    claim: Claim | None = None
    plans: tuple[int, ...] = ()
    wallet_pays: bool = True
    on_credit: bool = True


class CloseHold(msgspec.Struct, frozen=True):
    """Settle for `charged` nano-units, or void where it is None. `rows` are written with it."""

    hold: ActiveHold
    charged: int | None
    rows: tuple[Row, ...] = ()


class Post(msgspec.Struct, frozen=True):
    """Move `amount` from `debit` to `credit`. `reference` and `kind` together happen once."""

    kind: str
    debit: int
    credit: int
    amount: int
    reference: str
    actor: str = ""
    reason: str = ""
    reverses: int | None = None


class Record(msgspec.Struct, frozen=True):
    """Write rows that belong to no hold: a call that was refused before one was opened."""

    rows: tuple[Row, ...]


class RenewLeases(msgspec.Struct, frozen=True):
    """Keep these holds theirs for so many seconds: `(hold, generation, seconds, progress)` each.

    Says nothing of those that are lost.
    """

    renewals: tuple[tuple[uuid.UUID, int, float, Progress | None], ...]


Operation = OpenHold | CloseHold | Post | Record | RenewLeases


class Refusal(StrEnum):
    """Why nothing was reserved or posted."""

    BALANCE = "balance"
    BUDGET = "budget"
    FROZEN = "frozen"
    OVERDUE = "overdue"  # frozen because an invoice is
    UNKNOWN_ACCOUNT = "unknown_account"
    TOO_MUCH = "too_much"  # the wallet would have more than its columns can add up
    CHANGED = "changed"  # a budget that the call must fit is no more: the caller's knowledge of its key is old


class Refused(msgspec.Struct, frozen=True):
    why: Refusal
    budget: int | None = None


class Done(msgspec.Struct, frozen=True):
    """Carried out. For CloseHold, `changed` is False where the hold was no longer this owner's to close."""

    changed: bool = True


class Claimed(msgspec.Struct, frozen=True):
    """The idempotency key is another call's: its hold, and the fingerprint of what that call asked for."""

    hold: uuid.UUID
    fingerprint: str


Outcome = ActiveHold | Refused | Claimed | Done
