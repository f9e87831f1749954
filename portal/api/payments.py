"""Money that comes in: payments by the providers that are configured, and redeem codes."""

import uuid
from typing import Any

from django.conf import settings
from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.debug import sensitive_variables
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.exceptions import Throttled, ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from billing import money
from billing.models import PlanOffer
from billing.payments import NotOffered, ProviderFailed, Reversal, Stage, currencies, orders, redeem
from billing.payments.models import Payment, PaymentReversal
from billing.payments.orders import Choice
from portal import addresses, paying, redeeming
from portal.api import errors, pages
from portal.api.access import View
from portal.api.fields import Amount

# ---- ways to pay ----------------------------------------------------------------------------------------------------


class MethodShape(serializers.Serializer[Any]):
    """A way to pay: `provider` and `method` begin a payment by it. The payer pays in `currency`, at `rate`."""

    provider = serializers.CharField()
    method = serializers.CharField(help_text="Empty where the provider asks the payer.")
    name = serializers.CharField()
    currency = serializers.CharField()
    rate = Amount(help_text="What one unit of the ledger's currency costs.")


class MethodsShape(serializers.Serializer[Any]):
    """The ways to pay that are configured, and the amounts that may be paid in, in the ledger's currency."""

    currency = serializers.CharField()
    smallest = Amount()
    largest = Amount()
    presets = serializers.ListField(child=Amount())
    methods = MethodShape(many=True)


class InCurrency(serializers.Serializer[Any]):
    currency = serializers.ChoiceField(
        choices=sorted(currencies.EXPONENTS),
        required=False,
        default="",
        help_text="What the payer would rather pay in; used by the providers that take it.",
    )


class Methods(View):
    @extend_schema(
        operation_id="payment_methods_list",
        parameters=[InCurrency],
        responses=MethodsShape,
        summary="Ways to pay that are configured",
    )
    def get(self, request: Request) -> Response:
        asked = InCurrency(data=request.query_params)
        asked.is_valid(raise_exception=True)
        limits = orders.limits()
        found = [
            {
                "provider": choice.provider,
                "method": choice.method.code,
                "name": str(choice.method.name),
                "currency": choice.rate.currency,
                "rate": choice.rate.rate,
            }
            for choice in orders.choices(asked.validated_data["currency"])
        ]
        names = ("smallest", "largest", "presets")
        shown = {name: getattr(limits, name) for name in names} | {"currency": settings.CURRENCY, "methods": found}
        return Response(MethodsShape(shown).data)


# ---- payments -------------------------------------------------------------------------------------------------------


class PaymentShape(serializers.ModelSerializer[Payment]):
    """A payment: `amount` is what the wallet gets, `due` what the payer pays, in `currency`."""

    amount = Amount()
    due = serializers.SerializerMethodField(help_text="A decimal string of `currency`.")
    taken = Amount(help_text="What refunds and disputes have taken of `amount`.")
    checkout_url = serializers.SerializerMethodField(help_text="Where to send the payer; empty when it is too late.")

    class Meta:
        model = Payment
        fields = (
            *("id", "order", "offer", "provider", "method", "state", "amount", "currency", "due", "taken"),
            *("checkout_url", "created_at", "expires_at", "paid_at"),
        )

    def get_due(self, payment: Payment) -> str:
        return currencies.to_text(payment.due, payment.currency)

    def get_checkout_url(self, payment: Payment) -> str:
        return payment.checkout_url if payment.is_payable(timezone.now()) else ""


class ReversalShape(serializers.Serializer[Any]):
    """A refund or a dispute; `due` is what it is about, in the payment's currency."""

    kind = serializers.ChoiceField(choices=[(kind.value, kind.value) for kind in Reversal])
    stage = serializers.SerializerMethodField()
    due = serializers.SerializerMethodField()
    created_at = serializers.DateTimeField()

    @extend_schema_field({"type": "string", "enum": [stage.name.lower() for stage in Stage]})
    def get_stage(self, reversal: PaymentReversal) -> str:
        return Stage(reversal.stage).name.lower()

    def get_due(self, reversal: PaymentReversal) -> str:
        return currencies.to_text(reversal.due, reversal.payment.currency)


class WholePayment(PaymentShape):
    reversals = ReversalShape(many=True)

    class Meta(PaymentShape.Meta):
        fields = (*PaymentShape.Meta.fields, "reversals")  # type: ignore[assignment]


class NewPayment(serializers.Serializer[Any]):
    provider = serializers.CharField(max_length=16)
    method = serializers.CharField(max_length=16, required=False, allow_blank=True, default="")
    currency = serializers.ChoiceField(choices=sorted(currencies.EXPONENTS), required=False, default="")
    amount = Amount(help_text="What the wallet gets.")
    order = serializers.UUIDField(help_text="Yours, new for each payment: the same one again begins nothing more.")
    offer = serializers.PrimaryKeyRelatedField(
        queryset=PlanOffer.objects.filter(active=True),
        required=False,
        allow_null=True,
        default=None,
        help_text="A plan that the payment buys as soon as it is confirmed; `amount` is then its price.",
    )

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["offer"] is not None and attrs["amount"] != attrs["offer"].price:
            raise ValidationError({"amount": [_("The plan has another price.")]})
        return attrs

    def choice(self) -> Choice:
        """The way to pay that is asked for. Raises ValidationError where there is none."""
        asked = self.validated_data
        for choice in orders.choices(asked["currency"]):
            if (choice.provider, choice.method.code) == (asked["provider"], asked["method"]):
                return choice
        raise ValidationError({"provider": [_("This way to pay is not offered.")]})


class Payments(View):
    @extend_schema(
        operation_id="payments_list",
        parameters=pages.PARAMETERS,
        responses=pages.of(PaymentShape),
        summary="Payments into the wallet, newest first",
    )
    def get(self, request: Request) -> Response:
        return pages.answer(self, orders.of_team(self.team.pk), PaymentShape)

    @extend_schema(
        operation_id="payments_begin",
        request=NewPayment,
        responses={201: PaymentShape, 409: errors.DetailShape, 502: errors.DetailShape},
        summary="Begin a payment; its `checkout_url` is where the payer goes",
    )
    def post(self, request: Request) -> Response:
        asked = NewPayment(data=request.data)
        asked.is_valid(raise_exception=True)
        terms = asked.validated_data
        try:
            payment = paying.begin(
                team=self.team,
                choice=asked.choice(),
                amount=terms["amount"],
                actor=self.actor,
                email=self.person.email,
                order=terms["order"],
                offer=terms["offer"],
            )
        except NotOffered as error:
            raise ValidationError({"amount": [str(error)]}) from error
        except orders.OrderReused as error:
            raise errors.Conflict(str(error)) from error
        except ProviderFailed as error:
            raise errors.ProviderDown from error
        return Response(PaymentShape(payment).data, status=status.HTTP_201_CREATED)


class OnePayment(View):
    @extend_schema(operation_id="payments_read", responses=WholePayment, summary="One payment, with what was refunded")
    def get(self, request: Request, pk: uuid.UUID) -> Response:
        return Response(WholePayment(get_object_or_404(orders.of_team(self.team.pk), pk=pk)).data)


# ---- redeem codes ---------------------------------------------------------------------------------------------------


class Code(serializers.Serializer[Any]):
    code = serializers.CharField(max_length=100, help_text="As it was given out: PX-…")


class RedeemedShape(serializers.Serializer[Any]):
    """What the wallet got, and its transfer."""

    amount = Amount()
    transfer = serializers.IntegerField()


class Redeem(View):
    """The person in whose name a program redeems is the one who answers for the team; tries are counted as theirs."""

    @extend_schema(
        operation_id="codes_redeem",
        request=Code,
        responses={201: RedeemedShape, 409: errors.DetailShape},
        summary="Redeem a code into the wallet",
    )
    @sensitive_variables()
    def post(self, request: Request) -> Response:
        asked = Code(data=request.data)
        asked.is_valid(raise_exception=True)
        http: HttpRequest = request._request
        try:
            done = redeem.redeem(
                text=asked.validated_data["code"],
                team=self.team.pk,
                user=self.person.pk,
                actor=self.actor,
                address=addresses.of(http),
            )
        except redeem.Again as error:
            raise errors.Conflict(redeeming.said(error)) from error
        except redeem.TooMany as error:
            raise Throttled(wait=error.seconds, detail=redeeming.said(error)) from error
        except redeem.NotRedeemed as error:
            raise ValidationError({"code": [redeeming.said(error)]}) from error
        except money.InvalidAmount as error:
            raise ValidationError({"code": [_("The wallet cannot hold that much more.")]}) from error
        shown = {"amount": done.amount, "transfer": done.transfer}
        return Response(RedeemedShape(shown).data, status=status.HTTP_201_CREATED)
