"""The overview: the tiles' figures against the period before, the chart of spend, and the first steps."""

import datetime as dt
from collections.abc import Callable, Sequence
from typing import Literal

import msgspec
from django.conf import settings
from django.utils import formats
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from billing.models import Account
from keys import selectors as key_selectors
from portal import charts
from portal.models import Team
from portal.periods import Period
from portal.templatetags.pisces import amount, decimals_of
from relay import reports, selectors
from relay.reports import Dimension
from relay.selectors import Slice, Totals, Wanted

SHOWN_SERIES = 6
TIME_MARKS = 5


class Delta(msgspec.Struct, frozen=True):
    """The change against the period before: how much, which way, and whether that is good, bad or neither."""

    text: str
    up: bool
    tone: str = ""


class Tile(msgspec.Struct, frozen=True):
    delta: Delta | None
    spark: tuple[charts.Rect, ...]


class Series(msgspec.Struct, frozen=True):
    """One colour of the chart with its figures: nano-units in all, lowest, highest and mean of a bucket."""

    number: int
    name: str
    value: str
    total: int
    share: str
    lowest: int
    highest: int
    mean: int


class Overview(msgspec.Struct, frozen=True):
    """`error_rate` is per cent with two decimals, empty where there was no call."""

    totals: Totals
    error_rate: str
    spend: Tile
    requests: Tile
    errors: Tile
    series: tuple[Series, ...]
    chart: charts.Stack | None
    chart_decimals: int
    decimals: int


class FirstSteps(msgspec.Struct, frozen=True):
    has_credit: bool
    has_key: bool

    @property
    def done(self) -> int:
        return 1 + self.has_credit + self.has_key


def first_steps(team: Team, wallet: Account) -> FirstSteps:
    """What is left to do before the first call."""
    has_key = key_selectors.kept(key_selectors.of_team(team.pk)).exists()
    return FirstSteps(wallet.balance + wallet.credit_limit > 0, has_key)


By = Literal["model", "key", "channel", "day"]
COLUMNS: dict[str, Dimension] = {"model": "model", "key": "key_id", "channel": "channel"}


class Breakdown(msgspec.Struct, frozen=True):
    """Spend by bucket, stacked by what it is grouped by. No chart where nothing was spent."""

    series: tuple[Series, ...]
    chart: charts.Stack | None
    chart_decimals: int


def breakdown(found: Sequence[Slice], period: Period, names: dict[str, str]) -> Breakdown:
    series = _series(found, period, names)
    chart = _chart(found, period, series) if any(piece.spend for piece in found) else None
    return Breakdown(series, chart, charts.decimals_of(chart.values[1][1]) if chart else 2)


def overview(team: Team, period: Period, by: By) -> Overview:
    """The team's period at a glance."""
    wanted = reports.Wanted(team=team.pk, start=period.start, end=period.end)
    found = selectors.slices(wanted, period.edges, COLUMNS[by])
    before = selectors.totals(Wanted(team=team.pk, start=period.before_start, end=period.before_end))
    totals = _sum(found)
    drawn = breakdown(found, period, names_of(team, by))
    return Overview(
        totals=totals,
        error_rate=f"{_rate(totals):.2f}" if totals.calls else "",
        spend=Tile(_relative(totals.spend, before.spend), _spark(found, period, lambda t: t.spend)),
        requests=Tile(_relative(totals.calls, before.calls), _spark(found, period, lambda t: t.calls)),
        errors=Tile(_points(totals, before), _spark(found, period, _rate)),
        series=drawn.series,
        chart=drawn.chart,
        chart_decimals=drawn.chart_decimals,
        decimals=decimals_of(totals.spend),
    )


# ---- tiles ----------------------------------------------------------------------------------------------------------


def _sum(slices: Sequence[Slice]) -> Totals:
    return Totals(sum(s.calls for s in slices), sum(s.errors for s in slices), sum(s.spend for s in slices))


def _rate(totals: Totals) -> float:
    return 100 * totals.errors / totals.calls if totals.calls else 0.0


def _relative(now: int, before: int) -> Delta | None:
    if not before:
        return None
    change = 100 * (now - before) / before
    return Delta(f"{abs(change):,.1f} %", change >= 0)


def _points(now: Totals, before: Totals) -> Delta | None:
    if not now.calls or not before.calls:
        return None
    change = round(_rate(now) - _rate(before), 2)
    text = _("%(n)s points") % {"n": f"{abs(change):.2f}"}
    return Delta(text, change >= 0, "bad" if change > 0 else "good" if change < 0 else "")


def _spark(slices: Sequence[Slice], period: Period, value: Callable[[Totals], float]) -> tuple[charts.Rect, ...]:
    by_bucket: dict[dt.datetime, list[Slice]] = {}
    for piece in slices:
        by_bucket.setdefault(piece.bucket, []).append(piece)
    return charts.spark([value(_sum(by_bucket.get(bucket, []))) for bucket in period.buckets])


# ---- chart ----------------------------------------------------------------------------------------------------------


def names_of(team: Team, by: str) -> dict[str, str]:
    """What to call a series, where that is not its own value."""
    if by != "key":
        return {}
    return {str(pk): name for pk, name in key_selectors.of_team(team.pk).values_list("pk", "name")}


def _series(slices: Sequence[Slice], period: Period, names: dict[str, str]) -> tuple[Series, ...]:
    """The dearest first; what is past the sixth is one grey series of its own."""
    totals: dict[str, int] = {}
    for piece in slices:
        totals[piece.series] = totals.get(piece.series, 0) + piece.spend
    ranked = sorted((name for name in totals if totals[name]), key=lambda name: (-totals[name], name))
    shown, rest = ranked[:SHOWN_SERIES], ranked[SHOWN_SERIES:]
    whole = sum(totals.values())
    found = [
        _figures(number, names.get(value, value) or "—", value, [s for s in slices if s.series == value], period, whole)
        for number, value in enumerate(shown, 1)
    ]
    if rest:
        name = ngettext("Other (%(n)d)", "Other (%(n)d)", len(rest)) % {"n": len(rest)}
        found.append(_figures(0, name, "", [s for s in slices if s.series in set(rest)], period, whole))
    return tuple(found)


def _figures(number: int, name: str, value: str, own: Sequence[Slice], period: Period, whole: int) -> Series:
    spent = dict.fromkeys(period.buckets, 0)
    for piece in own:
        spent[piece.bucket] = spent.get(piece.bucket, 0) + piece.spend
    total = sum(spent.values())
    return Series(
        number=number,
        name=name,
        value=value,
        total=total,
        share=f"{100 * total / whole:.1f} %",
        lowest=min(spent.values()),
        highest=max(spent.values()),
        mean=total // len(spent),
    )


def _chart(slices: Sequence[Slice], period: Period, series: Sequence[Series]) -> charts.Stack:
    numbers = {one.value: one.number for one in series if one.number}
    spent: dict[dt.datetime, dict[int, int]] = {bucket: {} for bucket in period.buckets}
    for piece in slices:
        parts, number = spent[piece.bucket], numbers.get(piece.series, 0)
        parts[number] = parts.get(number, 0) + piece.spend
    order = [one.number for one in series]
    columns = [
        (_title(bucket, period, sum(parts.values())), [(number, parts.get(number, 0)) for number in order])
        for bucket, parts in spent.items()
    ]
    every = max(1, -(-len(period.buckets) // TIME_MARKS))
    times = [(number, _label(period.buckets[number], period)) for number in range(0, len(period.buckets), every)]
    return charts.stack(columns, times)


def _title(bucket: dt.datetime, period: Period, spend: int) -> str:
    moment = bucket.strftime("%Y-%m-%d %H:00" if period.step == "hour" else "%Y-%m-%d")
    return f"{moment} · {settings.CURRENCY_SIGN}{amount(spend, decimals_of(spend))}"


def _label(bucket: dt.datetime, period: Period) -> str:
    if period.step == "hour":
        return bucket.strftime("%H:00")
    return formats.date_format(bucket, _("j M"))
