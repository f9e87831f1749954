"""Calendar windows of budgets. Pure.

A window is a day, a week beginning on Monday or a month in a time zone; days are as long as the zone's clocks make
them. Where a team changes its zone in the middle of a window, the running window keeps its beginning and what was
spent in it, and lasts until the window of the new zone that holds that moment ends (`kept_until`). From then on the
calendar of the new zone counts.
"""

import datetime as dt
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
# About half a window: what is so much later than its beginning is in the same window, whatever clocks are changed.
HALF = {"day": dt.timedelta(hours=12), "week": dt.timedelta(hours=84), "month": dt.timedelta(days=14)}


@lru_cache(maxsize=256)
def zone(name: str) -> dt.tzinfo:
    """The named zone, UTC where the name is unknown, so that a bad name never stops a call."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError):
        return dt.UTC


@lru_cache(maxsize=1)
def known_zones() -> tuple[str, ...]:
    """The zones that a person may choose: the IANA names of places, and UTC."""
    return ("UTC", *sorted(name for name in available_timezones() if "/" in name and not name.startswith("Etc/")))


def start_of(window: str, now: dt.datetime, zone_name: str) -> dt.datetime:
    """The moment (UTC) when the current window began. Weeks begin on Monday; `total` began at the epoch."""
    if window == "total":
        return EPOCH
    return _first_day(window, now, zone_name).astimezone(dt.UTC)


def end_of(window: str, now: dt.datetime, zone_name: str) -> dt.datetime | None:
    """The moment (UTC) when the current window ends and the next one begins; a total never ends."""
    if window == "total":
        return None
    first = _first_day(window, now, zone_name)
    if window == "month":
        following = first.replace(year=first.year + first.month // 12, month=first.month % 12 + 1)
    else:
        following = first + dt.timedelta(days=7 if window == "week" else 1)
    return following.astimezone(dt.UTC)


def turns(window: str, since: dt.datetime, until: dt.datetime, zone_name: str) -> int:
    """How many windows begin after `since`, up to and with `until`. A total never begins anew."""
    if window == "total":
        return 0
    return _number(window, until, zone_name) - _number(window, since, zone_name)


def _number(window: str, now: dt.datetime, zone_name: str) -> int:
    """Windows of one kind, counted without a gap."""
    first = _first_day(window, now, zone_name)
    if window == "month":
        return first.year * 12 + first.month
    return first.toordinal() // (7 if window == "week" else 1)


def _first_day(window: str, now: dt.datetime, zone_name: str) -> dt.datetime:
    """Midnight of the window's first day by the zone's clocks: the first of two, or the jump that skips it."""
    local = now.astimezone(zone(zone_name)).replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if window == "week":
        return local - dt.timedelta(days=local.weekday())
    if window == "month":
        return local.replace(day=1)
    if window != "day":
        raise ValueError(f"unknown window {window!r}")
    return local


def running(
    window: str, zone_name: str, *, starts_at: dt.datetime, kept_until: dt.datetime | None, now: dt.datetime
) -> dt.datetime:
    """When the window began that counts now: `starts_at`, or later where that window has ended."""
    if kept_until is not None and now < kept_until:
        return starts_at
    return max(starts_at, start_of(window, now, zone_name))
