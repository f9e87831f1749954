"""Our cost and usage of a channel's day beside a bill of it: what differs, and by how much. Pure."""

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

import msgspec
from django.utils.translation import gettext_noop as _

from relay.statements.values import CATEGORIES, Bill, Unreadable

TOLERANCE = 1000  # a difference of more than the larger figure's thousandth is one to look at
_LARGEST = 2**62  # nano-units that a column can hold and add
# Not held against a bill: what its provider counts as a request is its own affair, and `other` are no units.
_TOLD_ONLY = frozenset(("requests", "other"))
_DATED = re.compile(r"[-@](20\d\d-\d\d-\d\d|20\d{6}|\d{4}|latest)$")


class Ours(msgspec.Struct):
    """What one upstream model was used for on a channel. `cost` in nano-units; `unpriced` attempts have none."""

    model: str
    cost: int = 0
    attempts: int = 0
    answered: int = 0
    unpriced: int = 0
    usage: dict[str, int] = msgspec.field(default_factory=dict)


class Part(msgspec.Struct, frozen=True):
    """One category's units; `off` where they differ by more than the tolerance."""

    category: str
    ours: int
    theirs: int
    off: bool


class Share(msgspec.Struct, frozen=True):
    """One model's money in nano-units; None where the bill has none by model, or we have none of it."""

    model: str
    ours: int | None
    theirs: int | None


class Compared(msgspec.Struct, frozen=True):
    """`drift` is theirs less ours, in nano-units; 0 where the bill has no money. `off`: somebody should look."""

    ours: int
    theirs: int | None
    drift: int
    attempts: int
    unpriced: int
    parts: tuple[Part, ...]
    shares: tuple[Share, ...]
    off: bool


def differs(ours: int, theirs: int) -> bool:
    return abs(theirs - ours) * TOLERANCE > max(abs(ours), abs(theirs))


def in_nano(amount: Decimal, rate: int) -> int:
    """Nano-units of the ledger's currency: once a bill's total, or a line's, to the nearest. Raises Unreadable."""
    nano = int((amount * rate * 1000).to_integral_value(ROUND_HALF_EVEN))  # a rate is in millionths
    if abs(nano) >= _LARGEST:
        raise Unreadable(_("The bill is larger than the ledger can hold."))
    return nano


def stored(bill: Bill, rate: int) -> list[dict[str, Any]]:
    """A bill's lines as they are kept, those of one model and category together."""
    found: dict[tuple[str, str], tuple[int | None, Decimal | None]] = {}
    for line in bill.lines:
        quantity, amount = found.get((line.model, line.category), (None, None))
        if line.quantity is not None:
            quantity = (quantity or 0) + line.quantity
        if line.amount is not None:
            amount = (amount or Decimal(0)) + line.amount
        found[line.model, line.category] = quantity, amount
    return [
        {
            "model": model,
            "category": category,
            "quantity": quantity,
            "amount": None if amount is None else in_nano(amount, rate),
        }
        for (model, category), (quantity, amount) in sorted(found.items())
    ]


def compare(ours: Sequence[Ours], total: int | None, lines: Sequence[Mapping[str, Any]]) -> Compared:
    """What we know beside what the bill says. `total` and `lines` are as they are stored."""
    cost = sum(one.cost for one in ours)
    parts = _parts(ours, lines)
    drift = 0 if total is None else total - cost
    off = (total is not None and differs(cost, total)) or any(part.off for part in parts)
    attempts, unpriced = sum(one.attempts for one in ours), sum(one.unpriced for one in ours)
    return Compared(cost, total, drift, attempts, unpriced, parts, _shares(ours, lines), off)


def _parts(ours: Sequence[Ours], lines: Sequence[Mapping[str, Any]]) -> tuple[Part, ...]:
    """The categories that the bill tells units of; of what it does not tell nothing can be said."""
    theirs: dict[str, int] = {}
    for line in lines:
        if line["quantity"] is not None:
            theirs[line["category"]] = theirs.get(line["category"], 0) + line["quantity"]
    told = [name for name in CATEGORIES if name in theirs]
    # Where a bill has units at all, what we used of the categories beside them was billed as nothing.
    split = set(_SPLIT) & set(told) and "prompt" not in told
    if split:
        told = [name for name in CATEGORIES if name in theirs or (name in _SPLIT and _units(ours, name))]
    found = []
    for name in told:
        mine, other = _units(ours, name), theirs.get(name, 0)
        found.append(Part(name, mine, other, name not in _TOLD_ONLY and differs(mine, other)))
    return tuple(found)


_SPLIT = ("input", "cache_read", "cache_write", "cache_write_1h", "output")


def _units(ours: Sequence[Ours], category: str) -> int:
    if category == "requests":
        return sum(one.answered for one in ours)
    return sum(one.usage.get(bucket, 0) for one in ours for bucket in CATEGORIES[category])


def _shares(ours: Sequence[Ours], lines: Sequence[Mapping[str, Any]]) -> tuple[Share, ...]:
    """Money by model, where the bill has it so. A dated name and its alias are one model."""
    theirs: dict[str, int] = {}
    for line in lines:
        if line["amount"] is not None and line["model"]:
            name = family(line["model"])
            theirs[name] = theirs.get(name, 0) + line["amount"]
    mine: dict[str, int] = {}
    for one in ours:
        name = family(one.model)
        mine[name] = mine.get(name, 0) + one.cost
    both = sorted({**mine, **theirs}, key=lambda name: -max(mine.get(name, 0), theirs.get(name, 0)))
    return tuple(Share(name, mine.get(name), theirs.get(name)) for name in both)


def family(model: str) -> str:
    """A model's name without the date or the mark of a snapshot."""
    return _DATED.sub("", model)


# ---- days -----------------------------------------------------------------------------------------------------------


def span(day: dt.date) -> tuple[dt.datetime, dt.datetime]:
    """From midnight to midnight, UTC."""
    start = dt.datetime.combine(day, dt.time(), dt.UTC)
    return start, start + dt.timedelta(days=1)
