"""What a wallet's month comes to: what was owed for it, by model and key, and what was paid. Pure.

Owed is what left the wallet for something: calls (also what the wallet could not pay and the team owes), plans, and
corrections taken from it; less what was given back of those by a reversal. Everything else is a payment: what came in,
and what of it went back (refunds, disputes, payments reversed). The two differ by what the position changed by.
"""

import datetime as dt
from collections.abc import Iterable

import msgspec

from billing.invoices.entries import Entry
from billing.models import LineKind, TransferKind

# What the ledger takes from a wallet for something that was sold.
SOLD = frozenset(
    kind.value for kind in (TransferKind.CHARGE, TransferKind.SHORTFALL, TransferKind.PURCHASE, TransferKind.ADJUSTMENT)
)
RETURNED = frozenset(kind.value for kind in (TransferKind.REFUND, TransferKind.DISPUTE))


class Usage(msgspec.Struct):
    """All calls of a model with a key: how many, units by bucket, nano-units."""

    model: str
    key: int
    calls: int = 0
    quantities: dict[str, int] = msgspec.field(default_factory=dict)
    amount: int = 0

    def count(self, entry: Entry) -> None:
        self.amount -= entry.amount
        if entry.lines or entry.kind == TransferKind.CHARGE:
            self.calls += 1
        for line in entry.lines:
            bucket = str(line["bucket"])
            self.quantities[bucket] = self.quantities.get(bucket, 0) + int(line["quantity"])


class Single(msgspec.Struct, frozen=True):
    """One transfer that is a line of its own. A positive amount is owed; of a payment, it was paid."""

    kind: LineKind
    code: str
    text: str
    amount: int
    at: dt.datetime


class Month(msgspec.Struct):
    """`owed` and `paid` are nano-units; the lines of each add up to them."""

    usage: dict[tuple[str, int], Usage] = msgspec.field(default_factory=dict)
    owing: list[Single] = msgspec.field(default_factory=list)
    payments: list[Single] = msgspec.field(default_factory=list)
    owed: int = 0
    paid: int = 0

    def add(self, entry: Entry) -> None:
        if not is_owed(entry):
            self.paid += entry.amount
            self.payments.append(Single(LineKind.PAYMENT, entry.kind, _text(entry), entry.amount, entry.at))
            return
        self.owed -= entry.amount
        if entry.of_call:
            usage = self.usage.setdefault((entry.model, entry.key), Usage(entry.model, entry.key))
            usage.count(entry)
            return
        kind = LineKind.PLAN if entry.kind == TransferKind.PURCHASE else LineKind.CORRECTION
        self.owing.append(Single(kind, entry.kind, _text(entry), -entry.amount, entry.at))

    def used(self) -> list[Usage]:
        """What was used, the largest amounts first."""
        return sorted(self.usage.values(), key=lambda usage: (-usage.amount, usage.model, usage.key))


def is_owed(entry: Entry) -> bool:
    """Whether the transfer is part of what is owed, and not of what was paid."""
    if entry.kind == TransferKind.REVERSAL:
        return entry.amount > 0 and entry.undone in SOLD
    return entry.amount < 0 and entry.kind not in RETURNED


def gather(entries: Iterable[Entry]) -> Month:
    month = Month()
    for entry in entries:
        month.add(entry)
    return month


def _text(entry: Entry) -> str:
    return entry.reason or entry.reference
