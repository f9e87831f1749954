"""What we know ourselves: our cost and usage of a channel in a span of time, and what is left of the revenue."""

import datetime as dt
from typing import Any

import msgspec
from django.db.models import BigIntegerField, Count, Q, QuerySet, Sum
from django.db.models.fields.json import KT
from django.db.models.functions import Cast

from billing import ids
from billing.usage import BUCKETS
from relay.models import Attempt, CallLog, Channel
from relay.statements.comparing import Ours

# An id's time and its call's differ by moments; the ids find the rows by an index, the time decides.
_SLACK = dt.timedelta(hours=1)


class Margin(msgspec.Struct):
    """What one model brought in by one channel, and what its attempts there cost us: nano-units."""

    channel: str
    model: str
    calls: int = 0
    revenue: int = 0
    cost: int = 0
    unpriced: int = 0

    @property
    def margin(self) -> int:
        return self.revenue - self.cost

    @property
    def share(self) -> float | None:
        """The margin in the revenue, in per cent; None where there is no revenue."""
        return 100 * self.margin / self.revenue if self.revenue else None


def attempts(channel: str, start: dt.datetime, end: dt.datetime) -> QuerySet[Attempt]:
    """The attempts at a channel of the calls of a half-open span."""
    found = _attempts(start, end)
    return found.filter(channel=channel)


def _attempts(start: dt.datetime, end: dt.datetime) -> QuerySet[Attempt]:
    return Attempt.objects.filter(
        call_id__gte=ids.first(start - _SLACK),
        call_id__lt=ids.first(end + _SLACK),
        call__created_at__gte=start,
        call__created_at__lt=end,
    )


def ours(channel: Channel, start: dt.datetime, end: dt.datetime) -> list[Ours]:
    """By upstream model. Added up in the database, however many calls there are."""
    sums = {name: Sum(Cast(KT(f"usage__{name}"), BigIntegerField())) for name in BUCKETS}
    rows: Any = (
        attempts(channel.name, start, end)
        .order_by()
        .values("call__model", "call__upstream_model", "call__channel")
        .annotate(
            costs=Sum("cost"),
            tried=Count("pk"),
            answered=Count("pk", filter=Q(status=200)),
            unpriced=Count("pk", filter=Q(cost__isnull=True, usage__isnull=False)),
            **{f"sum_{name}": total for name, total in sums.items()},
        )
    )
    found: dict[str, Ours] = {}
    for row in rows:
        last = row["call__channel"] == channel.name and row["call__upstream_model"]
        model = last or channel.models.get(row["call__model"], row["call__model"])
        one = found.setdefault(model, Ours(model))
        one.cost += int(row["costs"] or 0)
        one.attempts += row["tried"]
        one.answered += row["answered"]
        one.unpriced += row["unpriced"]
        for name in BUCKETS:
            if count := int(row[f"sum_{name}"] or 0):
                one.usage[name] = one.usage.get(name, 0) + count
    return sorted(found.values(), key=lambda one: -one.cost)


def margins(start: dt.datetime, end: dt.datetime) -> list[Margin]:
    """By channel and offered model: the charges of the calls that it answered, less what all its attempts cost us."""
    found: dict[tuple[str, str], Margin] = {}

    def of(channel: str, model: str) -> Margin:
        return found.setdefault((channel, model), Margin(channel, model))

    calls = CallLog.objects.filter(
        pk__gte=ids.first(start - _SLACK),
        pk__lt=ids.first(end + _SLACK),
        created_at__gte=start,
        created_at__lt=end,
    ).exclude(channel="")
    for row in calls.order_by().values("channel", "model").annotate(charges=Sum("cost"), count=Count("pk")):
        one = of(row["channel"], row["model"])
        one.calls, one.revenue = row["count"], int(row["charges"] or 0)
    unpriced = Count("pk", filter=Q(cost__isnull=True, usage__isnull=False))
    tried = _attempts(start, end).order_by().values("channel", "call__model")
    for spent in tried.annotate(costs=Sum("cost"), unpriced=unpriced):
        one = of(spent["channel"], spent["call__model"])
        one.cost, one.unpriced = int(spent["costs"] or 0), spent["unpriced"]
    return sorted(found.values(), key=lambda one: (-one.revenue, one.channel, one.model))
