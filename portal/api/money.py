"""The team's wallet, its ledger, the plans, and the prices of models."""

import datetime as dt
import uuid
from typing import Any

from django.db.models import Q
from django.shortcuts import get_object_or_404
from django.utils import timezone
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.exceptions import APIException
from rest_framework.request import Request
from rest_framework.response import Response

from billing import ledger, plans, prices, selectors
from billing.models import Account, Plan, PlanOffer, Transfer
from portal.api import pages
from portal.api.access import View
from portal.api.fields import Amount


class WalletShape(serializers.Serializer[Any]):
    currency = serializers.CharField()
    balance = Amount()
    held = Amount(help_text="Reserved by calls that run.")
    available = Amount(help_text="What prepaid keys can spend.")
    credit_limit = Amount(help_text="What postpaid keys can spend beyond the balance.")
    frozen = serializers.BooleanField()


class Wallet(View):
    @extend_schema(operation_id="wallet_read", responses=WalletShape, summary="The wallet")
    def get(self, request: Request) -> Response:
        wallet = ledger.wallet_of(self.team.pk)
        names = ("currency", "balance", "held", "credit_limit")
        found = {name: getattr(wallet, name) for name in names}
        found |= {"available": wallet.balance - wallet.held, "frozen": bool(wallet.frozen)}
        return Response(WalletShape(found).data)


class TransferShape(serializers.ModelSerializer[Transfer]):
    """A row of the ledger as the team sees it: what came in is positive, what went out negative."""

    amount = serializers.SerializerMethodField()
    account = serializers.SerializerMethodField(help_text="wallet, plan or receivable")

    class Meta:
        model = Transfer
        fields = ("id", "created_at", "kind", "account", "amount", "reference", "reason")

    def _own(self, transfer: Transfer) -> tuple[Account, int]:
        team = self.context["team"]
        if transfer.credit.team_id == team:
            return transfer.credit, 1
        return transfer.debit, -1

    @extend_schema_field(Amount())
    def get_amount(self, transfer: Transfer) -> str:
        return Amount().to_representation(self._own(transfer)[1] * transfer.amount)

    def get_account(self, transfer: Transfer) -> str:
        return self._own(transfer)[0].kind


class Transfers(View):
    @extend_schema(operation_id="transfers_list", responses=pages.of(TransferShape), summary="The ledger, newest first")
    def get(self, request: Request) -> Response:
        own = list(Account.objects.filter(team=self.team).values_list("pk", flat=True))
        rows = Transfer.objects.filter(Q(debit__in=own) | Q(credit__in=own)).select_related("debit", "credit")
        if kind := request.query_params.get("kind"):
            rows = rows.filter(kind=kind)
        return pages.answer(self, rows, TransferShape, team=self.team.pk)


class PriceShape(serializers.Serializer[Any]):
    model = serializers.CharField()
    kind = serializers.CharField()
    provider = serializers.CharField()
    context_window = serializers.IntegerField(allow_null=True)
    max_output = serializers.IntegerField(allow_null=True)
    price = serializers.DictField(help_text="As price cards are written: per 1,000,000 tokens, per call, per picture …")
    in_force_from = serializers.DateTimeField(allow_null=True)
    upcoming = serializers.DictField(allow_null=True)
    upcoming_from = serializers.DateTimeField(allow_null=True)


class Prices(View):
    @extend_schema(operation_id="models_list", responses=PriceShape(many=True), summary="Models and their list prices")
    def get(self, request: Request) -> Response:
        return Response(PriceShape([_priced(offer) for offer in selectors.price_list(timezone.now())], many=True).data)


def _priced(offer: selectors.Offer) -> dict[str, Any]:
    model = offer.model
    shown: dict[str, Any] = {"model": model.name, "kind": model.kind, "provider": model.provider}
    shown |= {"context_window": model.context_window, "max_output": model.max_output}
    upcoming = offer.upcoming[0] if offer.upcoming else None
    for price, name, since in ((offer.price, "price", "in_force_from"), (upcoming, "upcoming", "upcoming_from")):
        shown[name] = prices.write_card(price.card) if price else None
        shown[since] = dt.datetime.fromtimestamp(price.valid_from, dt.UTC) if price else None
    return shown


class OfferShape(serializers.ModelSerializer[PlanOffer]):
    price = Amount()
    value = Amount()

    class Meta:
        model = PlanOffer
        fields = ("id", "name", "description", "kind", "price", "value", "calls", "days", "refill", "models")


class PlanShape(serializers.ModelSerializer[Plan]):
    price = Amount()
    value = Amount()
    left = serializers.SerializerMethodField()
    calls_left = serializers.IntegerField(allow_null=True)

    class Meta:
        model = Plan
        fields = (
            *("id", "name", "kind", "state", "price", "value", "left", "calls_left", "refill", "models"),
            *("starts_at", "ends_at", "fill_at"),
        )

    @extend_schema_field(Amount())
    def get_left(self, plan: Plan) -> str:
        return Amount().to_representation(plan.account.balance - plan.account.held)


class Purchase(serializers.Serializer[Any]):
    offer = serializers.IntegerField(help_text="The id of a plan for sale.")
    order = serializers.UUIDField(help_text="Yours, new for each purchase: the same one again buys nothing more.")


class CannotPay(APIException):
    status_code = status.HTTP_402_PAYMENT_REQUIRED
    default_detail = "The wallet has too little for this plan."
    default_code = "insufficient_funds"


class Conflict(APIException):
    status_code = status.HTTP_409_CONFLICT
    default_code = "conflict"


class Offers(View):
    @extend_schema(operation_id="plan_offers_list", responses=OfferShape(many=True), summary="Plans for sale")
    def get(self, request: Request) -> Response:
        return Response(OfferShape(plans.for_sale(), many=True).data)


class Plans(View):
    @extend_schema(operation_id="plans_list", responses=pages.of(PlanShape), summary="The team's plans, newest first")
    def get(self, request: Request) -> Response:
        return pages.answer(self, Plan.objects.filter(team=self.team).select_related("account"), PlanShape)

    @extend_schema(
        operation_id="plans_buy", request=Purchase, responses={201: PlanShape}, summary="Buy from the wallet"
    )
    def post(self, request: Request) -> Response:
        asked = Purchase(data=request.data)
        asked.is_valid(raise_exception=True)
        offer = get_object_or_404(plans.for_sale(), pk=asked.validated_data["offer"])
        order: uuid.UUID = asked.validated_data["order"]
        try:
            bought = plans.buy(team=self.team.pk, offer=offer, order=order, actor=self.actor)
        except ledger.InsufficientFunds as error:
            raise CannotPay from error
        except (plans.TooMany, plans.NotForSale) as error:
            raise Conflict("The team has as many of these as it may, or the plan is not for sale any more.") from error
        return Response(PlanShape(bought).data, status=status.HTTP_201_CREATED)
