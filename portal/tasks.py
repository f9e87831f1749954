"""Celery jobs of the portal."""

import structlog
from celery import shared_task
from kombu.exceptions import OperationalError

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


def ask_for_prices() -> bool:
    """Has a worker compare them soon. False where nobody can be asked now.

    A server has no Celery of its own: without the project's, the task would go to a broker that nobody has.
    """
    from portal.celery import app  # noqa: PLC0415 - it configures Celery for the process

    try:
        app.send_task("portal.tasks.propose_prices", expires=3600, retry=False)
    except (OperationalError, OSError) as error:
        log.warning("prices.not_asked_for", error=type(error).__name__)
        return False
    return True
