"""CSV of what calls came to, for any period and grouping, and of the calls themselves: in bounded memory.

Rows are made a slice at a time, by their keys: no transaction stays open while a slow client reads, and no cursor is
held for it. The sums of every grouping are those of the ledger's charges, to the nano-unit. A call that ends while its
period is exported is in the file or not.
"""

import csv
import datetime as dt
import io
import itertools
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import msgspec
from django.conf import settings
from django.db.models import Q
from django.http import HttpRequest, StreamingHttpResponse

from billing import money, windows
from billing.usage import BUCKETS
from keys import selectors as key_selectors
from portal import periods, streaming
from relay import reports, selectors
from relay.reports import Dimension, Line
from relay.rollups import USED
from relay.selectors import Wanted

SLICE = 1_000  # calls that are read at once
EDGES = 96  # buckets that are asked for at once
DIMENSIONS: dict[str, Dimension] = {"key": "key_id", "model": "model", "channel": "channel", "state": "state"}
CALL_COLUMNS = (
    "id", "request_id", "created_at", "key_id", "model", "channel", "endpoint", "state", "status", "error", "streamed",
    "usage_source", "usage", "duration_ms", "first_byte_ms", "cost",
)  # fmt: skip


class Grouping(msgspec.Struct, frozen=True):
    """By what sums are told apart: hours or days of a zone, or the period as a whole; and by these dimensions."""

    step: Literal["hour", "day", ""] = "day"
    by: tuple[str, ...] = ()
    zone: str = "UTC"


class Summed(msgspec.Struct, frozen=True):
    """The sums of a bucket, which begins and ends then by the clocks of the grouping's zone."""

    start: dt.datetime
    end: dt.datetime
    line: Line


def grouping(asked: Sequence[str], zone: str) -> Grouping:
    """What an address asks for; names that are not offered are passed over. Days where it asks for nothing."""
    step: Literal["hour", "day", ""] = "hour" if "hour" in asked else "day" if "day" in asked or not asked else ""
    known = zone if zone in windows.known_zones() else "UTC"
    return Grouping(step, tuple(name for name in DIMENSIONS if name in asked), known)


# ---- sums -----------------------------------------------------------------------------------------------------------


def sums(wanted: Wanted, grouped: Grouping, days: tuple[dt.date, dt.date] | None = None) -> Iterator[str]:
    """The file's text in parts. `days` are the period's first and last, by the zone's clocks, if it is one of days."""
    names = names_of(wanted, grouped)
    head = [*(("from", "to") if grouped.step else ()), *_heads(grouped.by), "calls", "errors"]
    yield _text([[*head, *USED, "cost", "currency"]])
    for portion in portions(wanted, grouped, days):
        yield _text(_sum_row(found, grouped, names) for found in portion)


def portions(wanted: Wanted, grouped: Grouping, days: tuple[dt.date, dt.date] | None = None) -> Iterator[list[Summed]]:
    """The sums in the order of time, those of a few buckets at once."""
    zone = windows.zone(grouped.zone)
    for edges in _portions(_edges(wanted, grouped, days)):
        found = reports.lines(
            msgspec.structs.replace(wanted, start=edges[0], end=edges[-1]),
            by=[DIMENSIONS[name] for name in grouped.by],
            edges=edges,
        )
        local = [edge.astimezone(zone) for edge in edges]
        yield [Summed(local[line.bucket], local[line.bucket + 1], line) for line in found]


def names_of(wanted: Wanted, grouped: Grouping) -> dict[int, str]:
    """The names of the team's keys, where sums are told apart by them."""
    return {key.pk: key.name for key in key_selectors.of_team(wanted.team)} if "key" in grouped.by else {}


def _heads(by: Sequence[str]) -> Iterator[str]:
    for name in by:
        yield name
        if name == "key":
            yield "key_name"


def _edges(wanted: Wanted, grouped: Grouping, days: tuple[dt.date, dt.date] | None) -> Iterator[dt.datetime]:
    zone = windows.zone(grouped.zone)
    if not grouped.step:
        return iter((wanted.start, wanted.end))
    if days is None:
        days = wanted.start.astimezone(zone).date(), (wanted.end - dt.timedelta(microseconds=1)).astimezone(zone).date()
        inner = (edge for edge in periods.edges(*days, grouped.step, zone) if wanted.start < edge < wanted.end)
        return itertools.chain((wanted.start,), inner, (wanted.end,))
    return periods.edges(*days, grouped.step, zone)


def _portions(edges: Iterator[dt.datetime]) -> Iterator[list[dt.datetime]]:
    """Few buckets at a time; the last edge of one portion is the first of the next."""
    portion = list(itertools.islice(edges, EDGES + 1))
    while len(portion) > 1:
        yield portion
        portion = [portion[-1], *itertools.islice(edges, EDGES)]


def _sum_row(found: Summed, grouped: Grouping, names: dict[int, str]) -> list[Any]:
    row: list[Any] = [found.start.isoformat(), found.end.isoformat()] if grouped.step else []
    line = found.line
    for name in grouped.by:
        value = getattr(line, DIMENSIONS[name])
        row += [value or "", names.get(value, "")] if name == "key" else [value]
    used = [getattr(line, name) for name in USED]
    return [*row, line.calls, line.errors, *used, money.to_text(line.cost, decimals=9), settings.CURRENCY]


# ---- calls ----------------------------------------------------------------------------------------------------------


def calls(wanted: Wanted) -> Iterator[str]:
    """One row for each call, the oldest first."""
    names = {key.pk: key.name for key in key_selectors.of_team(wanted.team)}
    head = [name for name in CALL_COLUMNS if name not in ("usage", "cost")]
    head.insert(head.index("key_id") + 1, "key_name")
    yield _text([[*head, *USED, "cost", "currency"]])
    rows = selectors.matching(wanted).select_related(None).order_by("created_at", "id").values(*CALL_COLUMNS)
    found = list(rows[:SLICE])
    while found:
        yield _text(_call_row(row, head, names) for row in found)
        at, number = found[-1]["created_at"], found[-1]["id"]
        later = Q(created_at__gte=at) & (Q(created_at__gt=at) | Q(pk__gt=number))
        found = list(rows.filter(later)[:SLICE])


def _call_row(row: dict[str, Any], head: Sequence[str], names: dict[int, str]) -> list[Any]:
    known = {**row, "key_name": names.get(row["key_id"], ""), "created_at": row["created_at"].isoformat()}
    used = [row["usage"].get(bucket, 0) for bucket in BUCKETS]
    return [*(known[name] for name in head), *used, money.to_text(row["cost"], decimals=9), settings.CURRENCY]


# ---- text -----------------------------------------------------------------------------------------------------------


def _text(rows: Any) -> str:
    target = io.StringIO()
    csv.writer(target).writerows([_harmless(cell) for cell in row] for row in rows)
    return target.getvalue()


def _harmless(cell: Any) -> Any:
    """A client's own text must not become a formula in the spreadsheet of whoever opens the file."""
    return f"'{cell}" if isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")) else cell


def download(request: HttpRequest, what: str, wanted: Wanted, parts: Iterator[str]) -> StreamingHttpResponse:
    """A file of these parts, each made when the client has taken the one before."""
    name = f"{what}-{wanted.start:%Y-%m-%d}-{wanted.end - dt.timedelta(seconds=1):%Y-%m-%d}.csv"
    return streaming.download(request, parts, name=name, content_type="text/csv; charset=utf-8", together=1)
