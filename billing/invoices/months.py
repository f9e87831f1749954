"""Calendar months in a time zone, as half-open ranges of UTC. Pure."""

import datetime as dt

from billing import windows


def first_of(moment: dt.datetime, zone: str) -> dt.date:
    """The first day of the month that the moment is in, by the zone's calendar."""
    return moment.astimezone(windows.zone(zone)).date().replace(day=1)


def after(month: dt.date) -> dt.date:
    """The first day of the following month."""
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)


def before(month: dt.date) -> dt.date:
    return (month - dt.timedelta(days=1)).replace(day=1)


def start(month: dt.date, zone: str) -> dt.datetime:
    """The moment (UTC) at which the month begins there."""
    noon = dt.datetime(month.year, month.month, 1, 12, tzinfo=windows.zone(zone))
    return windows.start_of("day", noon, zone)


def end(month: dt.date, zone: str) -> dt.datetime:
    """The moment (UTC) at which the following month begins there."""
    return start(after(month), zone)


def parse(text: str) -> dt.date:
    """`2026-11`, of the years that anybody asks for. Raises ValueError."""
    found = dt.datetime.strptime(text, "%Y-%m").date()
    if not 1970 <= found.year < 3000:
        raise ValueError(f"there is nothing of {found.year}")
    return found
