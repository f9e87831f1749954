"""The read side of calls. Each query starts from a team; sums are integer nano-units over half-open UTC ranges."""

import datetime as dt
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from django.db import connection
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, Subquery, Sum
from django.utils import timezone

from billing import catalog, ids
from keys.models import ApiKey
from relay import call_windows, reports, rollups
from relay.models import CallLog, Channel
from relay.reports import Dimension
from relay.rollups import AROUND

PAGE = 50
MOST_FOUND = 5_000  # calls whose request ids begin alike, up to which they are looked up one by one


class Wanted(reports.Wanted, frozen=True, kw_only=True):
    """As what is reported, and besides what to search for in ids and models. Sums know nothing of a search."""

    search: str = ""


class Page(msgspec.Struct, frozen=True):
    """One page, newest first. `newer` and `older` are cursors, empty where there is nothing further."""

    calls: list[CallLog]
    newer: str
    older: str


class Totals(msgspec.Struct, frozen=True):
    """Sums of a filter. `spend` is nano-units."""

    calls: int = 0
    errors: int = 0
    spend: int = 0


class Slice(msgspec.Struct, frozen=True):
    """The sums of one model, key or channel in one bucket, which began then."""

    bucket: dt.datetime
    series: str
    calls: int
    errors: int
    spend: int


def of_team(team: int) -> QuerySet[CallLog]:
    return CallLog.objects.filter(team_id=team).select_related("key")


def matching(wanted: Wanted) -> QuerySet[CallLog]:
    """The calls that are wanted. A call's own id is found whenever it was; everything else within the period."""
    period = Q(created_at__gte=wanted.start, created_at__lt=wanted.end)
    # The same by their ids, so that PostgreSQL looks into the months of the period only.
    low, high = rollups.id_range(wanted.start, wanted.end)
    period &= Q(pk__gte=low, pk__lt=high)
    if wanted.search:
        found = period & _labelled(wanted.search)
        if (number := ids.read(wanted.search)) is not None:
            found |= Q(pk=number)
        period = found
    calls = of_team(wanted.team).filter(period)
    if wanted.key is not None:
        calls = calls.filter(key_id=wanted.key)
    if wanted.model:
        calls = calls.filter(model=wanted.model)
    if wanted.channel:
        calls = calls.filter(channel=wanted.channel)
    if wanted.state:
        calls = calls.filter(state=wanted.state)
    return calls


def _labelled(text: str) -> Q:
    """Calls whose request id begins so: by the index of request ids where these are few, else among the team's own."""
    begins = Q(request_id__startswith=text)
    if connection.vendor == "sqlite":  # its index is no help for LIKE
        begins = Q(request_id__gte=text, request_id__lt=text + "\U0010ffff")
    few = list(CallLog.objects.filter(begins).order_by().values_list("pk", flat=True)[: MOST_FOUND + 1])
    return begins if len(few) > MOST_FOUND else Q(pk__in=few)


def page(wanted: Wanted, cursor: str = "", *, size: int = PAGE) -> Page:
    """The page that the cursor names; the newest for an empty or a malformed one. Keyset: depth costs nothing."""
    towards, mark = _read_cursor(cursor)
    forward = mark is not None and towards == "newer"
    calls = matching(wanted)
    if mark is not None:
        calls = calls.filter(_after(mark) if forward else _before(mark))
    if not wanted.search and (wanted.model or wanted.channel or wanted.state):
        calls = calls.filter(_within(wanted, mark, forward, size))
    order = ("created_at", "id") if forward else ("-created_at", "-id")
    rows = list(calls.order_by(*order)[: size + 1])
    more, rows = len(rows) > size, rows[:size]
    if forward:
        rows.reverse()
        return Page(rows, _cursor("newer", rows[:1]) if more else "", _cursor("older", rows[-1:]))
    return Page(rows, _cursor("newer", rows[:1]) if mark else "", _cursor("older", rows[-1:]) if more else "")


def _within(wanted: Wanted, mark: "_Mark | None", forward: bool, size: int) -> Q:
    """Where the next page's calls are: among millions, few may be of that model, channel or state."""
    start, end = wanted.start, wanted.end
    if mark is not None:
        start, end = (max(start, mark[0]), end) if forward else (start, min(end, mark[0]))
    found = call_windows.find(wanted, start, end, forward=forward, enough=size + 1)
    if not found:
        return Q(pk__in=[])
    within = Q()
    for low, high in found:
        within |= Q(created_at__gte=low, created_at__lt=high)
    first, last = rollups.id_range(found[0][0], found[-1][1])
    return within & Q(pk__gte=first, pk__lt=last)


def totals(wanted: Wanted) -> Totals:
    """The filter's sums over its period."""
    if not wanted.search:
        found = reports.total(wanted)
        return Totals(found.calls, found.errors, found.cost)
    sums = matching(wanted).aggregate(
        calls=Count("pk"), errors=Count("pk", filter=Q(state__in=reports.ERRORS)), spend=Sum("cost")
    )
    return Totals(sums["calls"], sums["errors"], int(sums["spend"] or 0))


def slices(wanted: reports.Wanted, edges: Sequence[dt.datetime], by: Dimension) -> list[Slice]:
    """The period's sums by bucket and by model, key, channel or state; buckets without a call are left out."""
    return [
        Slice(edges[line.bucket], str(getattr(line, by) or ""), line.calls, line.errors, line.cost)
        for line in reports.lines(wanted, by=(by,), edges=edges, of=reports.SPEND)
    ]


def any_call(team: int) -> bool:
    return CallLog.objects.filter(team_id=team).exists()


def recent(team: int, count: int) -> list[CallLog]:
    return list(of_team(team).order_by("-created_at", "-id")[:count])


def offered(team: int, start: dt.datetime, end: dt.datetime) -> tuple[list[str], list[str]]:
    """The names of the models and of the channels of the period's calls."""
    found = reports.lines(reports.Wanted(team=team, start=start, end=end), by=("model", "channel"), of=reports.SPEND)
    models, channels = {line.model for line in found}, {line.channel for line in found}
    return sorted(filter(None, models)), sorted(filter(None, channels))


# ---- what keys were used for ----------------------------------------------------------------------------------------


def with_last_use(keys: QuerySet[ApiKey]) -> QuerySet[ApiKey, Any]:
    """The keys with `last_used`, the time of their latest call or None: one step into the index for each."""
    latest = CallLog.objects.filter(key_id=OuterRef("pk")).order_by("-created_at").values("created_at")[:1]
    return keys.annotate(last_used=Subquery(latest))


def never_used(keys: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
    return keys.filter(~Exists(CallLog.objects.filter(key_id=OuterRef("pk"))))


def spend_by_key(team: int, start: dt.datetime, end: dt.datetime) -> dict[int, int]:
    """Nano-units spent in the period, by key."""
    found = reports.lines(reports.Wanted(team=team, start=start, end=end), by=("key_id",), of=reports.SPEND)
    return {line.key_id: line.cost for line in found if line.key_id}


def calls_with_key(team: int, key: int, start: dt.datetime) -> int:
    wanted = reports.Wanted(team=team, start=start, end=timezone.now() + AROUND, key=key)
    return reports.total(wanted).calls


def price_lines(calls: Sequence[uuid.UUID]) -> Iterable[tuple[uuid.UUID, list[dict[str, Any]]]]:
    """The lines of these calls' charges, as far as their records are kept."""
    return CallLog.objects.filter(pk__in=calls).values_list("pk", "lines")


# ---- what can be called ---------------------------------------------------------------------------------------------


def sample_model() -> str:
    """A chat model that can be called now, for code samples; empty where there is none."""
    now = timezone.now().timestamp()
    served: set[str] = set()
    for names in Channel.objects.filter(enabled=True).values_list("models", flat=True):
        served.update(names)
    models = catalog.load().values()
    return next((m.name for m in models if m.kind == "chat" and m.name in served and m.price_at(now)), "")


# ---- cursors --------------------------------------------------------------------------------------------------------

_Mark = tuple[dt.datetime, uuid.UUID]


def _cursor(towards: str, edge: list[CallLog]) -> str:
    return f"{towards}~{edge[0].created_at.isoformat()}~{edge[0].pk}" if edge else ""


def _read_cursor(text: str) -> tuple[str, _Mark | None]:
    try:
        towards, moment, number = text.split("~")
        at = dt.datetime.fromisoformat(moment)
        if towards not in ("newer", "older") or at.tzinfo is None:
            return "", None
        return towards, (at, uuid.UUID(number))
    except ValueError:
        return "", None


def _before(mark: _Mark) -> Q:
    # The first term alone lets the database enter its index at the right place.
    return Q(created_at__lte=mark[0]) & (Q(created_at__lt=mark[0]) | Q(pk__lt=mark[1]))


def _after(mark: _Mark) -> Q:
    return Q(created_at__gte=mark[0]) & (Q(created_at__gt=mark[0]) | Q(pk__gt=mark[1]))
