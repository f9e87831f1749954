"""Calls whose process died: what becomes of their money, and the record of them.

What was seen is charged, what was never sent is given back. Whether the upstream did the work of a call that was sent
and not yet answered nobody can tell: its hold goes into review, and an administrator decides (`resolve`).
"""

from collections.abc import Mapping
from typing import Any

from django.db import transaction

from billing import catalog, holds, prices
from billing import usage as usages
from billing.holds import Orphan
from billing.models import Hold, HoldState
from billing.operations import Progress
from billing.prices import NOTHING, Charge, Line, PriceCard
from billing.usage import Usage
from relay import counting, records

UNCLEAR = "sent to {channel}, and no answer was seen before the process died"
UNKNOWN = "the process died, and nobody knows whether the call was sent"


class NotInReview(Exception):
    """Somebody else has resolved it."""


def recover(orphan: Orphan) -> bool:
    """Settles, voids or reviews a claimed hold. False where somebody else has it by now."""
    row, progress = orphan.row, orphan.progress
    if progress is not None and (progress.answering or progress.usage is not None):
        usage = _used(progress, records.model_of(row, progress))
        charge = _charge(row, usage)
        return holds.recover(row, charged=charge.amount, rows=records.lost_rows(row, progress, usage, charge))
    if orphan.was_sent is False:
        return holds.recover(row, charged=None, rows=records.lost_rows(row, progress, None, NOTHING))
    channel = records.channel_of(row, progress)
    return holds.review(row, why=UNCLEAR.format(channel=channel) if orphan.was_sent else UNKNOWN)


def _used(progress: Progress, model: str) -> Usage:
    """What the upstream had reported and what had come since, else what had come."""
    if progress.usage is not None:
        return usages.of(progress.usage)
    return Usage(
        input=counting.estimate(progress.input_bytes, model), output=counting.estimate(progress.output_bytes, model)
    )


def _charge(row: Hold, usage: Usage) -> Charge:
    return prices.capped(due(usage, row.facts, catalog.card_of(row.price)), row.amount)


def due(usage: Usage, facts: Mapping[str, Any], card: PriceCard) -> Charge:
    """What a call of these facts costs for this usage by the card that is in force for it, but for a flat rate."""
    mode, multiplier = str(facts.get("billing", "metered")), int(facts.get("multiplier", prices.ONE))
    if "rate" in facts:
        card = prices.flat(int(facts["rate"]))
    return prices.charge(usage, card, mode=mode, multiplier=multiplier)


def decided(charged: int) -> Charge:
    """The charge of an administrator's decision: one line of its own kind."""
    return Charge(charged, (Line("review", 1, charged * prices.ONE, prices.ONE, charged),)) if charged else NOTHING


@transaction.atomic
def resolve(*, hold: Hold, charged: int, actor: str, reason: str) -> None:
    """An administrator's decision: `charged` nano-units, at most what is held; 0 gives all of it back.

    Raises ValueError for an amount outside that or without a reason, NotInReview where it has been decided.
    """
    if not 0 <= charged <= hold.amount:
        raise ValueError(f"the charge must lie between 0 and {hold.amount}")
    if not reason.strip():
        raise ValueError("a decision needs a reason")
    rows = records.lost_rows(hold, None, None, decided(charged))
    note = f"{hold.note}; {actor}: {reason.strip()}"
    in_review = Hold.objects.filter(pk=hold.pk, generation=hold.generation, state=HoldState.REVIEW).exists()
    if not in_review or not holds.recover(hold, charged=charged or None, rows=rows, note=note):
        raise NotInReview(str(hold.pk))
