"""The page of usage: what a filter's calls came to by day, model, key or channel, as a chart and as a table."""

from collections.abc import Sequence

import msgspec
from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy as _lazy

from billing.prices import INPUT_BUCKETS, OUTPUT_BUCKETS
from portal import dashboard
from portal.dashboard import Breakdown, By
from portal.models import Team
from portal.periods import Period
from portal.templatetags.pisces import decimals_of
from relay import reports
from relay.reports import Line, Wanted
from relay.selectors import Slice, Totals

GROUPS: tuple[By, ...] = ("day", "model", "key", "channel")
LABELS = (("day", _lazy("Day")), ("model", _lazy("Model")), ("key", _lazy("Key")), ("channel", _lazy("Channel")))


class Group(msgspec.Struct, frozen=True):
    """A row of the table. `value` is what filters for it, empty for a day; `cost` is nano-units."""

    name: str
    value: str
    calls: int
    errors: int
    tokens_in: int
    tokens_out: int
    cost: int
    share: str


class Report(msgspec.Struct, frozen=True):
    """`total` has no name. `decimals` fit its cost."""

    by: By
    groups: tuple[Group, ...]
    total: Group
    drawn: Breakdown
    decimals: int


def group_named(name: str) -> By:
    return next((by for by in GROUPS if by == name), "day")


def report(team: Team, wanted: Wanted, period: Period, by: By) -> Report:
    """What the page shows; its sums are those of the calls."""
    columns = (dashboard.COLUMNS[by],) if by != "day" else ()
    found = reports.lines(wanted, by=columns, edges=period.edges, of=reports.TOKENS)
    names = dashboard.names_of(team, by)
    total = _group("", "", found, 0)
    pieces: dict[str, list[Line]] = {}
    for line in found:
        pieces.setdefault(_value(line, period, by), []).append(line)
    groups = [_group(_name(value, names, by), value, lines, total.cost) for value, lines in pieces.items()]
    if by != "day":
        groups.sort(key=lambda group: (-group.cost, -group.calls, group.name))
    return Report(by, tuple(groups), total, _drawn(found, period, by, names), decimals_of(total.cost))


def totals(found: Report) -> Totals:
    """The same as the list of calls says below its page."""
    return Totals(found.total.calls, found.total.errors, found.total.cost)


def _value(line: Line, period: Period, by: By) -> str:
    if by == "day":
        return period.buckets[line.bucket].strftime("%Y-%m-%d %H:00" if period.step == "hour" else "%Y-%m-%d")
    return str(getattr(line, dashboard.COLUMNS[by]) or "")


def _name(value: str, names: dict[str, str], by: By) -> str:
    return names.get(value, value) or "—"


def _group(name: str, value: str, found: Sequence[Line], whole: int) -> Group:
    cost = sum(line.cost for line in found)
    return Group(
        name=name,
        value=value,
        calls=sum(line.calls for line in found),
        errors=sum(line.errors for line in found),
        tokens_in=_used(found, INPUT_BUCKETS),
        tokens_out=_used(found, OUTPUT_BUCKETS),
        cost=cost,
        share=f"{100 * cost / whole:.1f} %" if whole else "",
    )


def _used(found: Sequence[Line], buckets: Sequence[str]) -> int:
    return sum(getattr(line, f"used_{bucket}") for line in found for bucket in buckets)


def _drawn(found: Sequence[Line], period: Period, by: By, names: dict[str, str]) -> Breakdown:
    every = _("Spend (%(currency)s)") % {"currency": settings.CURRENCY}
    slices = [
        Slice(
            period.buckets[line.bucket],
            every if by == "day" else _value(line, period, by),
            line.calls,
            line.errors,
            line.cost,
        )
        for line in found
    ]
    return dashboard.breakdown(slices, period, names)
