"""Celery jobs of the ledger."""

import threading

import structlog
from celery import shared_task
from django.db import close_old_connections

from billing.audit import reports

log = structlog.get_logger(__name__)

_whole = threading.Lock()


@shared_task
def audit_recent() -> int:
    """Checks what is new and a slice of everything; the number of violations."""
    return len(reports.look_at_recent())


@shared_task
def audit_books() -> bool:
    """Begins a full audit beside the worker's other jobs, which must not wait for it. False where one is running."""
    if not _whole.acquire(blocking=False):
        return False
    threading.Thread(target=_audit_everything, name="audit", daemon=True).start()
    return True


def _audit_everything() -> None:
    try:
        reports.full()
    except Exception:
        log.exception("audit.failed")  # the report says so as well
    finally:
        close_old_connections()
        _whole.release()
