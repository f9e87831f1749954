"""What calls came to: sums by time, model, key, channel and state, and files of the sums and of the calls."""

import datetime as dt
from collections.abc import Sequence
from typing import Any, Literal

from django.conf import settings
from django.http.response import HttpResponseBase
from django.utils.translation import gettext as _
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from billing.usage import BUCKETS
from portal import exports
from portal.api.access import View
from portal.api.calls import Filter
from portal.api.fields import Amount, Zone
from portal.exports import Grouping, Summed
from relay.reports import Line

MOST = 10_000  # groups in an answer; a file has no end
LONGEST = {"hour": dt.timedelta(days=32), "day": dt.timedelta(days=1100)}


class UsageFilter(Filter):
    """How the calls of a period are summed."""

    step = serializers.ChoiceField(
        choices=["hour", "day", "none"], required=False, default="day", help_text="`none` sums the whole period."
    )
    by = serializers.ListField(
        child=serializers.ChoiceField(choices=list(exports.DIMENSIONS)),
        required=False,
        default=list,
        help_text="What else tells sums apart; named several times for several.",
    )
    zone = Zone(required=False, default="UTC", help_text="Whose days they are.")

    def grouping(self) -> Grouping:
        asked = self.validated_data
        step: Literal["hour", "day", ""] = "" if asked["step"] == "none" else asked["step"]
        return Grouping(step, tuple(name for name in exports.DIMENSIONS if name in asked["by"]), asked["zone"])


class SumShape(serializers.Serializer[Any]):
    """The calls of a group. What they are not told apart by is null."""

    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    key = serializers.IntegerField(allow_null=True, help_text="0 for calls without a key.")
    key_name = serializers.CharField(allow_null=True)
    model = serializers.CharField(allow_null=True)
    channel = serializers.CharField(allow_null=True)
    state = serializers.CharField(allow_null=True)
    calls = serializers.IntegerField()
    errors = serializers.IntegerField()  # type: ignore[assignment]
    usage = serializers.DictField(child=serializers.IntegerField(), help_text="Units by bucket.")
    cost = Amount()


class UsageShape(serializers.Serializer[Any]):
    """`cost` and `calls` are those of all groups together."""

    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    currency = serializers.CharField()
    calls = serializers.IntegerField()
    errors = serializers.IntegerField()  # type: ignore[assignment]
    cost = Amount()
    results = SumShape(many=True)


class Usage(View):
    @extend_schema(
        operation_id="usage_read",
        parameters=[UsageFilter],
        responses=UsageShape,
        summary="Sums of the calls of a period, never stale",
    )
    def get(self, request: Request) -> Response:
        asked = UsageFilter(data=request.query_params)
        asked.is_valid(raise_exception=True)
        wanted, grouped = asked.wanted(self.team.pk), asked.grouping()
        if grouped.step and wanted.end - wanted.start > LONGEST[grouped.step]:
            raise ValidationError({"step": [_("The period is too long for this step; the CSV file takes any.")]})
        found = _bounded(exports.portions(wanted, grouped))
        names = exports.names_of(wanted, grouped)
        shown = {
            "start": wanted.start,
            "end": wanted.end,
            "currency": settings.CURRENCY,
            "calls": sum(one.line.calls for one in found),
            "errors": sum(one.line.errors for one in found),
            "cost": sum(one.line.cost for one in found),
            "results": [_shown(one, grouped.by, names) for one in found],
        }
        return Response(UsageShape(shown).data)


def _bounded(portions: Any) -> list[Summed]:
    found: list[Summed] = []
    for portion in portions:
        found += portion
        if len(found) > MOST:
            raise ValidationError({"by": [_("These are more groups than an answer holds; the CSV file takes any.")]})
    return found


def _shown(found: Summed, by: Sequence[str], names: dict[int, str]) -> dict[str, Any]:
    line = found.line
    told = {name: getattr(line, column) if name in by else None for name, column in exports.DIMENSIONS.items()}
    return {
        "start": found.start,
        "end": found.end,
        **told,
        "key_name": names.get(line.key_id, "") if "key" in by else None,
        "calls": line.calls,
        "errors": line.errors,
        "usage": _used(line),
        "cost": line.cost,
    }


def _used(line: Line) -> dict[str, int]:
    units = {bucket: getattr(line, f"used_{bucket}") for bucket in BUCKETS}
    return {bucket: number for bucket, number in units.items() if number}


CSV = {(200, "text/csv"): OpenApiTypes.STR}


class UsageCsv(View):
    @extend_schema(operation_id="usage_csv", parameters=[UsageFilter], responses=CSV, summary="The same sums as CSV")
    def get(self, request: Request) -> HttpResponseBase:
        asked = UsageFilter(data=request.query_params)
        asked.is_valid(raise_exception=True)
        wanted = asked.wanted(self.team.pk)
        return exports.download(request._request, "usage", wanted, exports.sums(wanted, asked.grouping()))


class CallsCsv(View):
    @extend_schema(operation_id="calls_csv", parameters=[Filter], responses=CSV, summary="Calls as CSV, oldest first")
    def get(self, request: Request) -> HttpResponseBase:
        asked = Filter(data=request.query_params)
        asked.is_valid(raise_exception=True)
        wanted = asked.wanted(self.team.pk)
        return exports.download(request._request, "calls", wanted, exports.calls(wanted))
