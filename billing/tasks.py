"""Celery jobs of the ledger."""

import structlog
from celery import shared_task

from billing import audit

log = structlog.get_logger(__name__)


@shared_task
def audit_books() -> int:
    """Checks every invariant and logs each violation as an error; the number of them."""
    findings = audit.run()
    for finding in findings:
        log.error("audit.violation", check=finding.check, subject=finding.subject, detail=finding.detail)
    log.info("audit.done", violations=len(findings))
    return len(findings)
