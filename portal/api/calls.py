"""The team's calls, one by one."""

import datetime as dt
import uuid
from typing import Any

from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from portal.api.access import View
from portal.api.fields import LARGEST_ID, Amount, Moment
from relay import selectors
from relay.models import CallLog, CallState

SECOND, DAY, MONTH = dt.timedelta(seconds=1), dt.timedelta(days=1), dt.timedelta(days=30)
EARLIEST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)  # older than any call


class AttemptShape(serializers.Serializer[Any]):
    number = serializers.IntegerField()
    channel = serializers.CharField()
    outcome = serializers.CharField()
    status = serializers.IntegerField(allow_null=True)
    began_ms = serializers.FloatField()
    first_byte_ms = serializers.FloatField(allow_null=True)
    ended_ms = serializers.FloatField(allow_null=True)


class CallShape(serializers.ModelSerializer[CallLog]):
    """One call. `usage` counts its buckets, `lines` are the charge's: bucket, quantity, rate and amount."""

    cost = Amount()
    held = Amount()
    lines = serializers.JSONField()
    usage = serializers.JSONField()

    class Meta:
        model = CallLog
        fields = (
            *("id", "request_id", "created_at", "key_id", "endpoint", "protocol", "model", "channel", "streamed"),
            *("state", "status", "error", "usage", "usage_source", "lines", "cost", "held", "finish"),
            *("first_byte_ms", "duration_ms"),
        )


class WholeCall(CallShape):
    attempts = AttemptShape(many=True)

    class Meta(CallShape.Meta):
        fields = (*CallShape.Meta.fields, "attempts")  # type: ignore[assignment]


class Filter(serializers.Serializer[Any]):
    """Which calls: of the last 30 days, unless said otherwise."""

    start = Moment(required=False)
    end = Moment(required=False)
    key = serializers.IntegerField(required=False, min_value=0, max_value=LARGEST_ID)
    model = serializers.CharField(required=False, max_length=200)
    channel = serializers.CharField(required=False, max_length=200)
    state = serializers.ChoiceField(choices=CallState.choices, required=False)

    def validate(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The period is cut to what can have calls."""
        now = timezone.now()
        end = min(asked.get("end") or now + SECOND, now + DAY)
        start = max(asked.get("start") or end - MONTH, EARLIEST)
        if start >= end:
            raise serializers.ValidationError({"end": [_("The period ends before it begins.")]})
        return {**asked, "start": start, "end": end}

    def wanted(self, team: int) -> selectors.Wanted:
        asked = self.validated_data
        return selectors.Wanted(
            team=team,
            start=asked["start"],
            end=asked["end"],
            key=asked.get("key"),
            model=asked.get("model", ""),
            channel=asked.get("channel", ""),
            state=asked.get("state", ""),
            search=asked.get("request_id", ""),
        )


class Asked(Filter):
    request_id = serializers.CharField(required=False, max_length=128)
    limit = serializers.IntegerField(required=False, min_value=1, max_value=200, default=50)
    cursor = serializers.CharField(required=False, max_length=200, default="")


class CallPage(serializers.Serializer[Any]):
    older = serializers.CharField(help_text="The cursor of the next page; empty on the last.")
    newer = serializers.CharField(help_text="The cursor of the page before; empty on the first.")
    results = CallShape(many=True)


class Calls(View):
    @extend_schema(operation_id="calls_list", parameters=[Asked], responses=CallPage, summary="Calls, newest first")
    def get(self, request: Request) -> Response:
        asked = Asked(data=request.query_params)
        asked.is_valid(raise_exception=True)
        terms = asked.validated_data
        page = selectors.page(asked.wanted(self.team.pk), terms["cursor"], size=terms["limit"])
        results = CallShape(page.calls, many=True).data
        return Response({"older": page.older, "newer": page.newer, "results": results})


class Call(View):
    @extend_schema(operation_id="calls_read", responses=WholeCall, summary="One call with its attempts")
    def get(self, request: Request, pk: uuid.UUID) -> Response:
        call = get_object_or_404(selectors.of_team(self.team.pk), pk=pk)
        return Response(WholeCall(call).data)
