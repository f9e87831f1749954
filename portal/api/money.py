"""The team's wallet, its ledger, the plans, and the prices of models."""

import datetime as dt
import uuid
from typing import Any

from django.db.models import Q
from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.utils.translation import gettext as _
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers, status
from rest_framework.request import Request
from rest_framework.response import Response

from billing import ledger, plans, selectors
from billing.catalog import Price
from billing.models import Account, Plan, PlanOffer, Transfer, TransferKind
from billing.prices import ONE
from portal import paying, pricing
from portal.api import errors, pages
from portal.api.access import View
from portal.api.fields import LARGEST_ID, Amount


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
        found |= {"available": wallet.free, "frozen": bool(wallet.frozen)}
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


class TransferFilter(serializers.Serializer[Any]):
    kind = serializers.ChoiceField(choices=TransferKind.choices, required=False)


class Transfers(View):
    @extend_schema(
        operation_id="transfers_list",
        parameters=[*pages.PARAMETERS, TransferFilter],
        responses=pages.of(TransferShape),
        summary="The ledger, newest first",
    )
    def get(self, request: Request) -> Response:
        own = list(Account.objects.filter(team=self.team).values_list("pk", flat=True))
        rows = Transfer.objects.filter(Q(debit__in=own) | Q(credit__in=own)).select_related("debit", "credit")
        asked = TransferFilter(data=request.query_params)
        asked.is_valid(raise_exception=True)
        if kind := asked.validated_data.get("kind"):
            rows = rows.filter(kind=kind)
        return pages.answer(self, rows, TransferShape, team=self.team.pk)


class CardShape(serializers.Serializer[Any]):
    """What the team pays, its group's multiplier included. `own` is a price of its group's own."""

    in_force_from = serializers.DateTimeField()
    own = serializers.BooleanField()
    rates = serializers.DictField(help_text="As price cards are written: per 1,000,000 tokens, per call, per picture …")


class PriceShape(serializers.Serializer[Any]):
    model = serializers.CharField()
    kind = serializers.CharField()
    provider = serializers.CharField()
    context_window = serializers.IntegerField(allow_null=True)
    max_output = serializers.IntegerField(allow_null=True)
    price = CardShape(allow_null=True, help_text="In force now; null for a model that will have its first price.")
    upcoming = CardShape(many=True, help_text="Prices that are planned, in the order of their moments.")


class Prices(View):
    @extend_schema(
        operation_id="models_list",
        responses=PriceShape(many=True),
        summary="Models, and what the team pays for them now and later",
    )
    def get(self, request: Request) -> Response:
        group = ledger.wallet_of(self.team.pk).group
        multiplier = group.multiplier if group else ONE
        offers = selectors.price_list(timezone.now(), group=group.pk if group else None)
        return Response(PriceShape([_priced(offer, multiplier) for offer in offers], many=True).data)


def _priced(offer: selectors.Offer, multiplier: int) -> dict[str, Any]:
    model = offer.model
    names = ("kind", "provider", "context_window", "max_output")
    return {
        "model": model.name,
        **{name: getattr(model, name) for name in names},
        "price": _card(offer.price, multiplier) if offer.price else None,
        "upcoming": [_card(price, multiplier) for price in offer.upcoming],
    }


def _card(price: Price, multiplier: int) -> dict[str, Any]:
    return {
        "in_force_from": dt.datetime.fromtimestamp(price.valid_from, dt.UTC),
        "own": price.own,
        "rates": pricing.written(price, multiplier),
    }


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
        return Amount().to_representation(plan.account.free)


class Purchase(serializers.Serializer[Any]):
    offer = serializers.IntegerField(min_value=1, max_value=LARGEST_ID, help_text="The id of a plan for sale.")
    order = serializers.UUIDField(help_text="Yours, new for each purchase: the same one again buys nothing more.")
    price = Amount(required=False, help_text="What you agree to pay at most; the price of this moment if left out.")


class Offers(View):
    @extend_schema(operation_id="plan_offers_list", responses=OfferShape(many=True), summary="Plans for sale")
    def get(self, request: Request) -> Response:
        return Response(OfferShape(plans.for_sale(), many=True).data)


class Plans(View):
    @extend_schema(
        operation_id="plans_list",
        parameters=pages.PARAMETERS,
        responses=pages.of(PlanShape),
        summary="The team's plans, newest first",
    )
    def get(self, request: Request) -> Response:
        return pages.answer(self, Plan.objects.filter(team=self.team).select_related("account"), PlanShape)

    @extend_schema(
        operation_id="plans_buy",
        request=Purchase,
        responses={201: PlanShape, 402: errors.DetailShape, 404: errors.DetailShape, 409: errors.DetailShape},
        summary="Buy from the wallet",
    )
    def post(self, request: Request) -> Response:
        asked = Purchase(data=request.data)
        asked.is_valid(raise_exception=True)
        offer = get_object_or_404(plans.for_sale(), pk=asked.validated_data["offer"])
        order: uuid.UUID = asked.validated_data["order"]
        agreed: int = asked.validated_data.get("price", offer.price)
        try:
            bought = plans.buy(team=self.team.pk, offer=offer, at_most=agreed, order=order, actor=self.actor)
        except ledger.InsufficientFunds as error:
            raise errors.CannotPay from error
        except plans.Owing as error:
            raise errors.CannotPay(str(paying.OWING)) from error
        except plans.Dearer as error:
            raise errors.Conflict(str(paying.DEARER)) from error
        except (plans.TooMany, plans.NotForSale) as error:
            raise errors.Conflict(
                _("The team has as many of these as it may, or it is not for sale any more.")
            ) from error
        return Response(PlanShape(bought).data, status=status.HTTP_201_CREATED)
