"""Celery jobs of the relay."""

from typing import Any

import structlog
from celery import shared_task
from django.utils import timezone

from billing import holds, prices
from billing.models import Hold
from billing.prices import NOTHING, PriceCard
from billing.usage import Usage
from relay import counting, records
from relay.models import Heartbeat

log = structlog.get_logger(__name__)


@shared_task
def sweep_holds() -> int:
    """Closes the holds whose process died: charged for the output that was seen, void where none was. How many."""
    Heartbeat.objects.update_or_create(name="sweep_holds", defaults={"at": timezone.now()})
    closed = 0
    for orphan in holds.expired():
        try:
            closed += _recover(orphan)
        except Exception:  # one hold that cannot be closed must not keep the others open
            log.exception("hold.not_recovered", call=str(orphan.pk))
    if closed:
        log.warning("holds.recovered", count=closed)
    return closed


def _recover(orphan: Hold) -> bool:
    usage = _seen(orphan.progress)
    charge = NOTHING
    if usage is not None:
        card = PriceCard(orphan.price.rates)
        charge = prices.capped(
            prices.charge(usage, card, mode=str(orphan.facts.get("billing", "metered"))), orphan.amount
        )
    rows = records.lost_rows(
        orphan.pk,
        orphan.facts,
        held=orphan.amount,
        price=orphan.price_id,
        created_at=orphan.created_at,
        usage=usage,
        charge=charge,
    )
    return holds.recover(orphan, charged=charge.amount if usage is not None else None, rows=rows)


def _seen(progress: dict[str, Any] | None) -> Usage | None:
    """What the last renewal of the lease knew: usage that the upstream had reported, else output that had come."""
    if not progress:
        return None
    if reported := progress.get("usage"):
        return Usage(**reported)
    if progress.get("output_bytes"):
        return Usage(
            input=counting.estimate(progress.get("input_bytes", 0)), output=counting.estimate(progress["output_bytes"])
        )
    return None
