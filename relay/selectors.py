"""The read side of calls. Each query starts from a team; sums are integer nano-units over half-open UTC ranges."""

import datetime as dt
import uuid
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import msgspec
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Subquery, Sum
from django.db.models.functions import TruncDay, TruncHour
from django.utils import timezone

from billing import catalog
from keys.models import ApiKey
from relay.models import CallLog, CallState, Channel

ERRORS = (CallState.FAILED, CallState.REFUSED, CallState.LOST)
PAGE = 50


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls: of a team, from `start` up to and without `end`, and what they must have besides."""

    team: int
    start: dt.datetime
    end: dt.datetime
    key: int | None = None
    model: str = ""
    state: str = ""
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
    """The sums of one model or key in one hour or day, which began at `bucket`."""

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
    if wanted.search:
        found = period & Q(request_id__startswith=wanted.search)
        if (number := _as_uuid(wanted.search)) is not None:
            found |= Q(pk=number)
        period = found
    calls = of_team(wanted.team).filter(period)
    if wanted.key is not None:
        calls = calls.filter(key_id=wanted.key)
    if wanted.model:
        calls = calls.filter(model=wanted.model)
    if wanted.state:
        calls = calls.filter(state=wanted.state)
    return calls


def page(wanted: Wanted, cursor: str = "", *, size: int = PAGE) -> Page:
    """The page that the cursor names; the newest for an empty or a malformed one. Keyset: depth costs nothing."""
    towards, mark = _read_cursor(cursor)
    calls = matching(wanted)
    if mark is not None and towards == "newer":
        rows = list(calls.filter(_after(mark)).order_by("created_at", "id")[: size + 1])
        more = len(rows) > size
        rows = rows[:size][::-1]
        return Page(rows, _cursor("newer", rows[:1]) if more else "", _cursor("older", rows[-1:]))
    if mark is not None:
        calls = calls.filter(_before(mark))
    rows = list(calls.order_by("-created_at", "-id")[: size + 1])
    more, rows = len(rows) > size, rows[:size]
    return Page(rows, _cursor("newer", rows[:1]) if mark else "", _cursor("older", rows[-1:]) if more else "")


def totals(wanted: Wanted) -> Totals:
    """The filter's sums over its period."""
    found = matching(wanted).aggregate(
        calls=Count("pk"), errors=Count("pk", filter=Q(state__in=ERRORS)), spend=Sum("cost")
    )
    return Totals(found["calls"], found["errors"], int(found["spend"] or 0))


def slices(
    *, team: int, start: dt.datetime, end: dt.datetime, by: Literal["model", "key_id"], step: Literal["hour", "day"]
) -> list[Slice]:
    """The period's sums by bucket and by model or key; buckets without a call are left out."""
    trunc = (TruncHour if step == "hour" else TruncDay)("created_at", tzinfo=dt.UTC)
    rows = (
        CallLog.objects.filter(team_id=team, created_at__gte=start, created_at__lt=end)
        .annotate(bucket=trunc, series=F(by))
        .values("bucket", "series")
        .annotate(calls=Count("pk"), errors=Count("pk", filter=Q(state__in=ERRORS)), spend=Sum("cost"))
        .order_by("bucket")
    )
    return [
        Slice(row["bucket"], str(row["series"] or ""), row["calls"], row["errors"], int(row["spend"])) for row in rows
    ]


def any_call(team: int) -> bool:
    return CallLog.objects.filter(team_id=team).exists()


def recent(team: int, count: int) -> list[CallLog]:
    return list(of_team(team).order_by("-created_at", "-id")[:count])


def models_called(team: int, start: dt.datetime, end: dt.datetime) -> list[str]:
    """The names of the models that were called in the period."""
    calls = CallLog.objects.filter(team_id=team, created_at__gte=start, created_at__lt=end)
    return sorted(calls.order_by().values_list("model", flat=True).distinct())


# ---- what keys were used for ----------------------------------------------------------------------------------------


def with_last_use(keys: QuerySet[ApiKey]) -> QuerySet[ApiKey, Any]:
    """The keys with `last_used`, the time of their latest call or None: one step into the index for each."""
    latest = CallLog.objects.filter(key_id=OuterRef("pk")).order_by("-created_at").values("created_at")[:1]
    return keys.annotate(last_used=Subquery(latest))


def never_used(keys: QuerySet[ApiKey]) -> QuerySet[ApiKey]:
    return keys.filter(~Exists(CallLog.objects.filter(key_id=OuterRef("pk"))))


def spend_by_key(team: int, start: dt.datetime, end: dt.datetime) -> dict[int, int]:
    """Nano-units spent in the period, by key."""
    calls = CallLog.objects.filter(team_id=team, created_at__gte=start, created_at__lt=end, key_id__isnull=False)
    return {row["key_id"]: int(row["spend"]) for row in calls.order_by().values("key_id").annotate(spend=Sum("cost"))}


def calls_with_key(key: int, start: dt.datetime) -> int:
    return CallLog.objects.filter(key_id=key, created_at__gte=start).count()


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


def _as_uuid(text: str) -> uuid.UUID | None:
    try:
        return uuid.UUID(text)
    except ValueError:
        return None
