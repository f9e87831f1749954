"""The periods that pages and exports offer: half-open ranges in whole hours or days. Pure.

Pages speak UTC; an export may ask for the days of a time zone. The last bucket is the one that is running. What a
period is compared with is as long as what has passed of it, so that a morning is not set against a whole day.
"""

import datetime as dt
from collections.abc import Iterator
from typing import Literal

import msgspec

HOUR, DAY = dt.timedelta(hours=1), dt.timedelta(days=1)
DEFAULT = "30d"
_SPANS: dict[str, tuple[Literal["hour", "day"], int]] = {
    "24h": ("hour", 24),
    "7d": ("day", 7),
    "30d": ("day", 30),
    "90d": ("day", 90),
}
NAMES = tuple(_SPANS)
EARLIEST = dt.date(2020, 1, 1)  # nothing of ours is older


class Period(msgspec.Struct, frozen=True):
    """`buckets` are the beginnings of its hours or days; `start` is the first of them and `end` closes the last."""

    name: str
    step: Literal["hour", "day"]
    buckets: tuple[dt.datetime, ...]
    start: dt.datetime
    end: dt.datetime
    before_start: dt.datetime
    before_end: dt.datetime

    @property
    def edges(self) -> tuple[dt.datetime, ...]:
        """Where its buckets begin, and where the last of them ends."""
        return (*self.buckets, self.end)


def named(name: str, now: dt.datetime) -> Period:
    """The period with this name that ends with the current hour or day; the default one for an unknown name."""
    if name not in _SPANS:
        name = DEFAULT
    step, count = _SPANS[name]
    length = HOUR if step == "hour" else DAY
    last = now.astimezone(dt.UTC).replace(minute=0, second=0, microsecond=0)
    if step == "day":
        last = last.replace(hour=0)
    start = last - length * (count - 1)
    span = length * count
    buckets = tuple(start + length * number for number in range(count))
    return Period(name, step, buckets, start, start + span, start - span, now - span)


def asked(name: str, now: dt.datetime) -> Period:
    """As `named`; and for a date such as `2026-11-21` the hours of that day, if it has begun."""
    try:
        day = dt.date.fromisoformat(name)
    except ValueError:
        return named(name, now)
    if not EARLIEST <= day <= now.astimezone(dt.UTC).date():
        return named(name, now)
    start = midnight(day, dt.UTC)
    buckets = tuple(start + HOUR * number for number in range(24))
    return Period(day.isoformat(), "hour", buckets, start, start + DAY, start - DAY, start)


def midnight(day: dt.date, zone: dt.tzinfo) -> dt.datetime:
    """When the day begins by the zone's clocks."""
    return dt.datetime(day.year, day.month, day.day, tzinfo=zone).astimezone(dt.UTC)


def edges(first: dt.date, last: dt.date, step: Literal["hour", "day"], zone: dt.tzinfo) -> Iterator[dt.datetime]:
    """Where the buckets from the first day up to and with the last begin, and where the last one ends, in UTC.

    Hours are those of the day: one that the clocks repeat is two, one that they skip is none.
    """
    day, end = first, midnight(last + dt.timedelta(days=1), zone)
    while day <= last:
        moment, following = midnight(day, zone), midnight(day + dt.timedelta(days=1), zone)
        while moment < following:
            yield moment
            moment = moment + HOUR if step == "hour" else following
        day += dt.timedelta(days=1)
    yield end
