"""Celery jobs of the portal."""

import structlog
from celery import shared_task

from billing.catalog_import import proposals
from portal import proposing

log = structlog.get_logger(__name__)


@shared_task
def propose_prices() -> int | None:
    """Compares the installed list prices with the catalogue. The proposal's id; None where nothing would change, or
    where the rules cannot be applied, which the log says."""
    try:
        proposal = proposing.propose_daily()
    except proposals.Refused as refused:
        log.warning("prices.not_compared", why=str(refused))
        return None
    return proposal.pk if proposal is not None else None
