"""Celery jobs of the relay."""

import datetime as dt

import structlog
from celery import shared_task
from django.utils import timezone

from billing import holds, tasks
from billing.holds import Orphan
from relay import (
    idempotency,
    partitions,
    probing,
    recovery,
    rollup_audit,
    rollups,
    services,
    standing,
    stored_responses,
)
from relay.models import Heartbeat
from relay.statements import services as statements

log = structlog.get_logger(__name__)


@shared_task
def sweep_holds() -> int:
    """Settles, voids or puts into review the holds whose process died. How many."""
    Heartbeat.objects.update_or_create(name="sweep_holds", defaults={"at": timezone.now()})
    swept = sum(_swept(orphan) for orphan in holds.expired())
    if swept:
        log.warning("holds.recovered", count=swept)
    holds.remove_journals()
    return swept


def _swept(orphan: Orphan) -> bool:
    try:
        return recovery.recover(orphan)
    except Exception:  # one hold that cannot be closed must not keep the others open
        log.exception("hold.not_recovered", call=str(orphan.row.pk))
        return False


@shared_task
def forget_answers() -> int:
    """Deletes the idempotency keys that are older than a day, with the answers kept for them. How many."""
    return idempotency.forget_old()


@shared_task
def forget_responses() -> int:
    """Deletes the stored responses that have expired and that no other goes on from. How many."""
    return stored_responses.forget_old()


@shared_task
def probe_channels() -> bool:
    """Begins to ask the providers of credentials that were disabled by themselves whether they take them again: these
    may let us wait. False where that is not over yet since the last time."""
    standing.forget_old()
    return tasks.aside("probe-channels", _probe_due)


def _probe_due() -> None:
    for row in probing.due():
        if services.claim_probe(row):
            _probe(row)


def _probe(row: services.Disabled) -> None:
    try:
        probing.probe(row)
    except Exception:  # one channel that cannot be asked must not keep the others waiting
        log.exception("channel.not_probed", row=str(row.pk))


ROLL_UP_WITHIN = 10.0  # seconds, so that other jobs do not wait long where there is much to catch up with


@shared_task
def roll_up_usage() -> int:
    """Adds the calls that have ended to the roll-ups, and audits some hours of these. How many rows were touched."""
    try:
        touched = rollups.roll_up(within=ROLL_UP_WITHIN)
    except rollups.Restarted:
        rollups.restart()
        return 0
    rollup_audit.step()
    return touched


@shared_task
def tend_call_log() -> int:
    """Makes the call log's partitions of the next months, and prunes what is too old. How many partitions or rows."""
    return partitions.make_ahead() + partitions.prune()


@shared_task
def read_statements() -> bool:
    """Begins to read the running totals of an hour, and beside these the bill of each day that is due: providers may
    let us wait. False where one of the two is not over yet since the last time."""
    begun = [tasks.aside("read-totals", statements.read_totals), tasks.aside("read-bills", _read_bills)]
    return all(begun)


def _read_bills() -> None:
    for source, day in statements.due():
        _read_bill(source, day)


def _read_bill(source: int, day: dt.date) -> None:
    try:
        statements.reconcile(source, day)
    except Exception:  # one bill that cannot be compared must not keep the others waiting
        log.exception("statement.not_read", source=source, day=day.isoformat())
