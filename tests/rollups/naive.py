"""What reports must say: the same sums, one call after the other, without any roll-up."""

import datetime as dt
import os
import random
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from relay import reports
from relay.models import CallLog
from relay.reports import Dimension, Line, Wanted
from relay.rollups import EVERYBODY, USED


def seeded() -> random.Random:
    """Prints its seed; `ROLLUPS_SEED` plays it again."""
    seed = int(os.environ.get("ROLLUPS_SEED") or random.SystemRandom().randrange(2**32))
    print(f"ROLLUPS_SEED={seed}")
    return random.Random(seed)


def lines(
    wanted: Wanted, by: Sequence[Dimension], edges: Sequence[dt.datetime]
) -> dict[tuple[Any, ...], dict[str, int]]:
    """Sums by bucket and dimensions, of what customers see."""
    found: dict[tuple[Any, ...], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for call in CallLog.objects.filter(created_at__gte=wanted.start, created_at__lt=wanted.end):
        if not _wanted(call, wanted):
            continue
        bucket = max(number for number, edge in enumerate(edges) if edge <= call.created_at)
        values = {"key_id": call.key_id or 0, "model": call.model, "channel": call.channel, "state": call.state}
        sums = found[(bucket, *(values[name] for name in by))]
        sums["calls"] += 1
        sums["errors"] += call.state in reports.ERRORS
        sums["cost"] += call.cost
        for name in USED:
            sums[name] += call.usage.get(name.removeprefix("used_"), 0)
    return found


def _wanted(call: CallLog, wanted: Wanted) -> bool:
    return (
        (wanted.team == EVERYBODY or call.team_id == wanted.team)
        and (wanted.key is None or (call.key_id or 0) == wanted.key)
        and all(not value or getattr(call, name) == value for name, value in _texts(wanted))
    )


def _texts(wanted: Wanted) -> list[tuple[str, str]]:
    return [("model", wanted.model), ("channel", wanted.channel), ("state", wanted.state)]


def same(found: Sequence[Line], by: Sequence[Dimension], naive: dict[tuple[Any, ...], dict[str, int]]) -> None:
    """Fails with the first difference."""
    seen = {(line.bucket, *(getattr(line, name) for name in by)): line for line in found}
    assert len(seen) == len(found)
    assert seen.keys() == naive.keys()
    for key, sums in naive.items():
        for name, value in sums.items():
            assert getattr(seen[key], name) == value, (key, name)
