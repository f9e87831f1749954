"""The periods that pages offer: half-open UTC ranges in whole hours or days. Pure.

The last bucket is the one that is running. What a period is compared with is as long as what has passed of it, so
that a morning is not set against a whole day.
"""

import datetime as dt
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


class Period(msgspec.Struct, frozen=True):
    """`buckets` are the beginnings of its hours or days; `start` is the first of them and `end` closes the last."""

    name: str
    step: Literal["hour", "day"]
    buckets: tuple[dt.datetime, ...]
    start: dt.datetime
    end: dt.datetime
    before_start: dt.datetime
    before_end: dt.datetime


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
