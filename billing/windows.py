"""Calendar windows of budgets. Pure."""

import datetime as dt
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


@lru_cache(maxsize=256)
def zone(name: str) -> dt.tzinfo:
    """The named zone, UTC where the name is unknown, so that a bad name never stops a call."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return dt.UTC


def start_of(window: str, now: dt.datetime, zone_name: str) -> dt.datetime:
    """The moment (UTC) when the current window began. Weeks begin on Monday; `total` began at the epoch."""
    if window == "total":
        return EPOCH
    local = now.astimezone(zone(zone_name)).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if window == "week":
        local -= dt.timedelta(days=local.weekday())
    elif window == "month":
        local = local.replace(day=1)
    elif window != "day":
        raise ValueError(f"unknown window {window!r}")
    return local.astimezone(dt.UTC)
