"""Celery jobs of the ledger.

An audit reads for seconds or minutes, and what asks others waits for them; a worker does one job at a time. So each of
these runs in a thread beside the jobs (`aside`), and the sweep of orphans need not wait for it.
"""

import datetime as dt
import threading
from collections.abc import Callable

import structlog
from celery import shared_task
from django.db import connection
from django.utils import timezone

from billing import debts, invoices, plans
from billing.audit import reports
from billing.payments import redeem, sweep

log = structlog.get_logger(__name__)

_running: dict[str, threading.Thread] = {}


@shared_task
def sweep_payments() -> bool:
    """Begins to ask after payments whose delivery was lost, and to end old ones. False where that is running."""
    return aside("sweep-payments", sweep.sweep)


@shared_task
def audit_recent() -> bool:
    """Begins to check what is new and a slice of everything. False where the last time is not over yet."""
    return aside("audit-recent", reports.look_at_recent)


@shared_task
def audit_books() -> bool:
    """Begins a full audit. False where one is running."""
    return aside("audit-books", reports.full)


@shared_task
def tend_plans() -> int:
    """Fills the plans that are due, and ends those whose time is over. How many."""
    now = timezone.now()
    return sum(_tended(number, now) for number in plans.due(now))


def _tended(number: int, now: dt.datetime) -> bool:
    try:
        return plans.tend(number, now=now)
    except Exception:  # one plan that cannot be filled must not keep the others waiting
        log.exception("plan.not_tended", plan=number)
        return False


@shared_task
def forget_tries() -> int:
    """Deletes the tries at redeem codes that count no more. How many."""
    return redeem.forget_attempts()


@shared_task
def close_invoices() -> bool:
    """Begins to close the months that are over, and to look which invoices are overdue. False where that is running."""
    return aside("close-invoices", _invoices)


def _invoices() -> None:
    invoices.close_all()
    invoices.mark_overdue()


@shared_task
def settle_debts() -> int:
    """Lets teams pay what they owe out of what has come into their wallets. How many."""
    return debts.settle_all()


@shared_task
def stop_overdue() -> int:
    """Stops the wallets with an overdue invoice, and frees those that have paid. How many."""
    return len(invoices.enforce())


def aside(name: str, look: Callable[[], object]) -> bool:
    """Begins a job in a thread of its own. False where it is not over yet since the last time."""
    before = _running.get(name)
    if before is not None and before.is_alive():
        return False
    _running[name] = threading.Thread(target=_look, args=(look,), name=name, daemon=True)
    _running[name].start()
    return True


def _look(look: Callable[[], object]) -> None:
    try:
        look()
    except Exception:
        # A report says so as well.
        log.exception("job.failed", job=threading.current_thread().name)
    finally:
        connection.close()  # the thread's own, which ends with it
