"""Stores what this process has learnt from upstreams' reports, and loads what all processes have (`relay.counting`)."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any

import structlog
from asgiref.sync import sync_to_async
from django.db import close_old_connections, transaction

from billing import revisions
from relay.counting.calibration import SLOPES, Envelope, Key, Side, reports
from relay.models import Calibration

log = structlog.get_logger(__name__)

FLUSH_EVERY = 5.0  # seconds
EPOCH = 30 * 86400  # seconds; the last two epochs are in force


async def keep() -> None:
    """Runs for the life of the process."""
    while True:
        await asyncio.sleep(FLUSH_EVERY)
        await flush()


async def flush() -> None:
    """Stores what was learnt since the last time. A database that is away is tried again."""
    fresh = reports.take()
    if not fresh:
        return
    try:
        await sync_to_async(_store, thread_sensitive=False)(fresh)
    except Exception as error:
        reports.give_back(fresh)
        log.warning("calibration.not_stored", error=type(error).__name__)


def _store(fresh: Mapping[Key, Envelope]) -> None:
    try:
        store(fresh, epoch=int(time.time() // EPOCH))
    finally:
        close_old_connections()


@transaction.atomic
def store(fresh: Mapping[Key, Envelope], *, epoch: int) -> None:
    """Joins the envelopes to the epoch's rows, and tells all processes."""
    for key, learnt in sorted(fresh.items()):
        named: dict[str, Any] = {"model": key.model, "side": key.side.value, "wide": key.wide, "epoch": epoch}
        Calibration.objects.get_or_create(**named)
        row = Calibration.objects.select_for_update().get(**named)
        both = _envelope(row)
        both.join(learnt)
        row.samples, row.longest, row.heights = both.samples, both.longest, both.heights
        row.save()
    Calibration.objects.filter(epoch__lt=epoch - 1).delete()
    revisions.bump(revisions.CALIBRATION)


def load() -> None:
    """Puts the last two epochs of all processes in force in this one."""
    rows = Calibration.objects.filter(epoch__gte=int(time.time() // EPOCH) - 1)
    reports.replace((Key(row.model, Side(row.side), row.wide), _envelope(row)) for row in rows)


def _envelope(row: Calibration) -> Envelope:
    """A row of another version's slopes is worth nothing."""
    if len(row.heights) != len(SLOPES):
        return Envelope()
    return Envelope(row.samples, row.longest, list(row.heights))
