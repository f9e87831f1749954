"""Keys of the team: list, make, change, pause, resume, revoke. The secret is in the answer to making one, and nowhere
else."""

from typing import Any

from django.shortcuts import get_object_or_404
from drf_spectacular.utils import extend_schema, extend_schema_field
from msgspec import UNSET
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from billing import budgets, catalog
from billing.models import Window
from keys import rates, selectors, services
from keys.models import ApiKey, BillingMode, KeyType, PaymentType
from portal.api import errors, pages
from portal.api.access import View
from portal.api.fields import Amount
from portal.api.limits import BudgetShape


class KeyShape(serializers.ModelSerializer[ApiKey]):
    """A key without its secret."""

    masked = serializers.CharField(help_text="The beginning and the end of the secret.")
    quotas = serializers.SerializerMethodField()

    class Meta:
        model = ApiKey
        fields = (
            *("id", "name", "masked", "type", "payment", "billing", "state", "models", "endpoints", "networks"),
            *("rpm", "tpm", "parallel", "expires_at", "created_at", "revoked_at", "quotas"),
        )

    @extend_schema_field(BudgetShape(many=True))
    def get_quotas(self, key: ApiKey) -> Any:
        return BudgetShape(budgets.of_keys([key.pk]).get(key.pk, []), many=True).data


class KeyTerms(serializers.Serializer[Any]):
    """What a key may do. What is left out keeps its value, or has its default in a new key."""

    name = serializers.CharField(max_length=100)
    billing = serializers.ChoiceField(choices=BillingMode.choices, required=False)
    quota = Amount(required=False, allow_null=True, help_text="The cap in each window; null for none.")
    window = serializers.ChoiceField(choices=Window.choices, required=False)
    expires_at = serializers.DateTimeField(required=False, allow_null=True)
    models = serializers.ListField(child=serializers.CharField(max_length=200), required=False)
    endpoints = serializers.ListField(child=serializers.CharField(max_length=100), required=False)
    networks = serializers.ListField(child=serializers.CharField(max_length=60), required=False)
    rpm = serializers.IntegerField(required=False, allow_null=True, min_value=0)
    tpm = serializers.IntegerField(required=False, allow_null=True, min_value=0)
    parallel = serializers.IntegerField(required=False, allow_null=True, min_value=0)


class NewKey(KeyTerms):
    type = serializers.ChoiceField(choices=KeyType.choices, default=KeyType.STANDARD)
    payment = serializers.ChoiceField(choices=PaymentType.choices, default=PaymentType.PREPAID)
    billing = serializers.ChoiceField(choices=BillingMode.choices, default=BillingMode.METERED)
    window = serializers.ChoiceField(choices=Window.choices, default=Window.TOTAL)


class MadeKey(KeyShape):
    secret = serializers.CharField(help_text="Shown this once; it is not stored.")

    class Meta(KeyShape.Meta):
        fields = (*KeyShape.Meta.fields, "secret")  # type: ignore[assignment]


class Keys(View):
    @extend_schema(
        operation_id="keys_list",
        parameters=pages.PARAMETERS,
        responses=pages.of(KeyShape),
        summary="The team's keys, newest first",
    )
    def get(self, request: Request) -> Response:
        return pages.answer(self, selectors.of_team(self.team.pk), KeyShape)

    @extend_schema(operation_id="keys_create", request=NewKey, responses={201: MadeKey}, summary="Make a key")
    def post(self, request: Request) -> Response:
        terms = NewKey(data=request.data)
        terms.is_valid(raise_exception=True)
        with errors.said_as_fields():
            key, secret = services.issue(
                team_id=self.team.pk,
                spec=services.Spec(**terms.validated_data),
                created_by=request.user.pk,
                known_models=set(catalog.load()),
                actor=self.actor,
            )
        answer = Response({**KeyShape(key).data, "secret": secret}, status=status.HTTP_201_CREATED)
        answer["Cache-Control"] = "no-store"
        return answer


class Key(View):
    def _key(self, pk: int) -> ApiKey:
        return get_object_or_404(selectors.of_team(self.team.pk), pk=pk)

    @extend_schema(operation_id="keys_read", responses=KeyShape, summary="One key")
    def get(self, request: Request, pk: int) -> Response:
        return Response(KeyShape(self._key(pk)).data)

    @extend_schema(
        operation_id="keys_change", request=KeyTerms(partial=True), responses=KeyShape, summary="Change a key"
    )
    def patch(self, request: Request, pk: int) -> Response:
        """A key keeps its secret, type and payment; what is left out stays as it is.

        Of a key with one quota, `quota` and `window` each change what they name. Of a key with quotas for several
        windows only that of `window` changes, and both are needed.
        """
        key = get_object_or_404(selectors.kept(selectors.of_team(self.team.pk)), pk=pk)
        terms = KeyTerms(data=request.data, partial=True)
        terms.is_valid(raise_exception=True)
        spec = services.Spec(**{**_terms_of(key), **terms.validated_data})
        with errors.said_as_fields():
            services.change(key, spec, known_models=set(catalog.load()), actor=self.actor)
        return Response(KeyShape(key).data)

    @extend_schema(operation_id="keys_revoke", responses={204: None}, summary="Revoke a key, for good")
    def delete(self, request: Request, pk: int) -> Response:
        services.revoke(self._key(pk))
        return Response(status=status.HTTP_204_NO_CONTENT)


class Pause(Key):
    http_method_names = ("post",)

    @extend_schema(operation_id="keys_pause", request=None, responses=KeyShape, summary="Pause a key")
    def post(self, request: Request, pk: int) -> Response:
        key = self._key(pk)
        services.pause(key)
        return Response(KeyShape(key).data)


class Resume(Key):
    http_method_names = ("post",)

    @extend_schema(operation_id="keys_resume", request=None, responses=KeyShape, summary="Resume a paused key")
    def post(self, request: Request, pk: int) -> Response:
        key = self._key(pk)
        services.resume(key)
        return Response(KeyShape(key).data)


def _terms_of(key: ApiKey) -> dict[str, Any]:
    """What it has, but for its quotas, which stay unless they are asked about."""
    names = ("name", "type", "payment", "billing", "expires_at", "models", "endpoints", "networks", *rates.FIELDS)
    return {**{name: getattr(key, name) for name in names}, "quota": UNSET}
