"""What the team and its keys may spend: caps by window, temporary raises, whose days they are, and who changed it."""

from typing import Any

from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.exceptions import NotFound
from rest_framework.request import Request
from rest_framework.response import Response

from billing import budgets
from billing.models import Budget, BudgetAction, BudgetChange, BudgetOwner, Window
from keys import selectors
from keys import services as keys
from portal import limits, services
from portal.api import errors, pages
from portal.api.access import View
from portal.api.fields import Amount, Moment, Zone


class BudgetShape(serializers.Serializer[Any]):
    """A spending cap in its running window. `left` counts what the cap is raised by."""

    id = serializers.IntegerField()
    window = serializers.ChoiceField(choices=Window.choices)
    cap = Amount()
    extra = Amount(help_text="What the cap is raised by now.")
    extra_until = serializers.DateTimeField(allow_null=True)
    used = Amount()
    held = Amount()
    left = Amount()
    resets_at = serializers.SerializerMethodField(help_text="When the next window begins; null for a total.")

    @extend_schema_field(serializers.DateTimeField(allow_null=True))
    def get_resets_at(self, budget: Budget) -> Any:
        ends = budgets.resets_at(budget, timezone.now())
        return serializers.DateTimeField().to_representation(ends) if ends else None


class RatesShape(serializers.Serializer[Any]):
    rpm = serializers.IntegerField(allow_null=True)
    tpm = serializers.IntegerField(allow_null=True)
    parallel = serializers.IntegerField(allow_null=True)


class LimitsShape(serializers.Serializer[Any]):
    """The team's own limits; those of a key are with the key."""

    time_zone = serializers.CharField(help_text="Days, weeks and months of windows are those of this zone.")
    rates = RatesShape(help_text="Requests and tokens a minute and calls at once, of all keys; null for any number.")
    quotas = BudgetShape(many=True)


class TimeZone(serializers.Serializer[Any]):
    time_zone = Zone()


class Caps(serializers.Serializer[Any]):
    """A cap for each window, null for none. What is left out stays as it is."""

    day = Amount(required=False, allow_null=True)
    week = Amount(required=False, allow_null=True)
    month = Amount(required=False, allow_null=True)
    total = Amount(required=False, allow_null=True)


class Raise(serializers.Serializer[Any]):
    extra = Amount()
    until = Moment()
    reason = serializers.CharField(max_length=500, help_text="It is kept, with your name.")


class ChangeShape(serializers.ModelSerializer[BudgetChange]):
    """A change of a cap. `key` is null where it is the team's."""

    key = serializers.SerializerMethodField()
    action = serializers.ChoiceField(choices=BudgetAction.choices)
    cap = Amount(allow_null=True)
    extra = Amount()

    class Meta:
        model = BudgetChange
        fields = ("id", "created_at", "key", "window", "action", "cap", "extra", "until", "zone", "actor", "reason")

    def get_key(self, change: BudgetChange) -> int | None:
        return change.owner_id if change.owner_kind == BudgetOwner.KEY else None


class Limits(View):
    @extend_schema(operation_id="limits_read", responses=LimitsShape, summary="The team's limits")
    def get(self, request: Request) -> Response:
        return Response(self._shown())

    @extend_schema(
        operation_id="limits_change", request=TimeZone, responses=LimitsShape, summary="Count windows in another zone"
    )
    def patch(self, request: Request) -> Response:
        asked = TimeZone(data=request.data)
        asked.is_valid(raise_exception=True)
        services.set_time_zone(self.team, asked.validated_data["time_zone"], actor=self.actor)
        return Response(self._shown())

    def _shown(self) -> Any:
        team = self.team
        found = {"time_zone": team.time_zone, "rates": keys.team_rates(team), "quotas": budgets.of_team(team.pk)}
        return LimitsShape(found).data


class TeamCaps(View):
    @extend_schema(
        operation_id="limits_team_caps",
        request=Caps,
        responses=BudgetShape(many=True),
        summary="Set the team's caps",
    )
    def patch(self, request: Request) -> Response:
        asked, team = Caps(data=request.data), self.team
        asked.is_valid(raise_exception=True)
        budgets.set_caps(
            owner=BudgetOwner.TEAM,
            owner_id=team.pk,
            caps=asked.validated_data,
            zone=team.time_zone,
            actor=self.actor,
        )
        return Response(BudgetShape(budgets.of_team(team.pk), many=True).data)


class KeyCaps(View):
    @extend_schema(
        operation_id="limits_key_caps", request=Caps, responses=BudgetShape(many=True), summary="Set a key's caps"
    )
    def patch(self, request: Request, pk: int) -> Response:
        key = get_object_or_404(selectors.kept(selectors.of_team(self.team.pk)), pk=pk)
        asked = Caps(data=request.data)
        asked.is_valid(raise_exception=True)
        keys.set_caps(key, asked.validated_data, actor=self.actor)
        return Response(BudgetShape(budgets.of_keys([key.pk]).get(key.pk, []), many=True).data)


class OneBudget(View):
    def _budget(self, pk: int) -> Budget:
        """A budget of the team or of its keys; those of others do not exist."""
        found = budgets.one(pk, team=self.team.pk, keys=limits.key_ids(self.team))
        if found is None:
            raise NotFound
        return found

    def _shown(self, pk: int) -> Response:
        return Response(BudgetShape(self._budget(pk)).data)


class RaiseCap(OneBudget):
    @extend_schema(
        operation_id="limits_raise", request=Raise, responses=BudgetShape, summary="Raise a cap until a moment"
    )
    def post(self, request: Request, pk: int) -> Response:
        budget, asked = self._budget(pk), Raise(data=request.data)
        asked.is_valid(raise_exception=True)
        with errors.said_as_fields():
            budgets.raise_cap(budget=budget.pk, actor=self.actor, **asked.validated_data)
        return self._shown(pk)


class LowerCap(OneBudget):
    @extend_schema(operation_id="limits_lower", request=None, responses=BudgetShape, summary="End a raise now")
    def post(self, request: Request, pk: int) -> Response:
        budgets.end_raise(budget=self._budget(pk).pk, actor=self.actor)
        return self._shown(pk)


class Changes(View):
    @extend_schema(
        operation_id="limits_changes_list",
        parameters=pages.PARAMETERS,
        responses=pages.of(ChangeShape),
        summary="Who changed which cap, newest first",
    )
    def get(self, request: Request) -> Response:
        rows = budgets.changes(team=self.team.pk, keys=limits.key_ids(self.team))
        return pages.answer(self, rows, ChangeShape)
