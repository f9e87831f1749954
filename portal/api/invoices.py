"""Invoices with their lines and as PDF, who they are written to, and statements of any period."""

import datetime as dt
from typing import Any

from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema, extend_schema_field
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from billing import ledger
from billing.invoice_models import PaymentState
from billing.invoices import statements
from billing.models import BillingDetails, DocumentKind, Invoice, InvoiceLine, TransferKind
from portal import services, streaming
from portal.api import errors, pages
from portal.api.access import View
from portal.api.fields import Amount, Zone
from portal.invoices import downloads, reading
from portal.invoices.forms import StatementForm


class StandingShape(serializers.Serializer[Any]):
    """What is still to be paid of an invoice."""

    state = serializers.ChoiceField(choices=PaymentState.choices)
    outstanding = Amount()
    credited = Amount(help_text="What credit notes gave back.")
    overdue_since = serializers.DateTimeField(allow_null=True)
    settled_at = serializers.DateTimeField(allow_null=True)


class InvoiceShape(serializers.ModelSerializer[Invoice]):
    """An invoice, or a credit note, which has no standing of its own."""

    corrects: serializers.SlugRelatedField[Invoice] = serializers.SlugRelatedField(
        "number", read_only=True, allow_null=True
    )
    month = serializers.DateField()
    amount = Amount()
    tax = Amount(help_text="What of the amount is tax.")
    tax_rate = serializers.IntegerField(help_text="Parts per million.")
    standing = serializers.SerializerMethodField()

    class Meta:
        model = Invoice
        fields = (
            *("id", "kind", "number", "corrects", "month", "starts_at", "ends_at", "zone", "currency", "amount"),
            *("tax_name", "tax_rate", "tax", "issued_at", "due_at", "standing"),
        )

    @extend_schema_field(StandingShape(allow_null=True))
    def get_standing(self, invoice: Invoice) -> Any:
        return StandingShape(invoice.standing).data if invoice.kind == DocumentKind.INVOICE else None


class LineShape(serializers.ModelSerializer[InvoiceLine]):
    """A line. Those from usage to `carried_out` add up to the amount; the others say what was paid."""

    amount = Amount()
    quantities = serializers.DictField(child=serializers.IntegerField(), help_text="Units by bucket.")

    class Meta:
        model = InvoiceLine
        fields = ("position", "kind", "code", "model", "key", "text", "calls", "quantities", "amount", "at")


class WholeInvoice(InvoiceShape):
    items = Amount(help_text="What was owed for the month: the amount, less what was carried in, and what goes on.")
    carried_in = Amount()
    carried_out = Amount()
    seller = serializers.DictField(child=serializers.CharField(allow_blank=True))
    buyer = serializers.DictField(child=serializers.CharField(allow_blank=True))
    lines = LineShape(many=True)
    credit_notes: serializers.SlugRelatedField[Invoice] = serializers.SlugRelatedField(
        "number", many=True, read_only=True
    )

    class Meta(InvoiceShape.Meta):
        fields = (  # type: ignore[assignment]
            *InvoiceShape.Meta.fields,
            *("reason", "items", "carried_in", "carried_out", "seller", "buyer", "lines", "credit_notes"),
        )


class Invoices(View):
    @extend_schema(
        operation_id="invoices_list",
        parameters=pages.PARAMETERS,
        responses=pages.of(InvoiceShape),
        summary="Invoices and credit notes, newest first",
    )
    def get(self, request: Request) -> Response:
        return pages.answer(self, reading.documents(self.team), InvoiceShape)


class OneInvoice(View):
    @extend_schema(operation_id="invoices_read", responses=WholeInvoice, summary="One invoice with its lines")
    def get(self, request: Request, pk: int) -> Response:
        return Response(WholeInvoice(get_object_or_404(reading.documents(self.team), pk=pk)).data)


class InvoicePdf(View):
    @extend_schema(
        operation_id="invoices_pdf",
        responses={(200, "application/pdf"): OpenApiTypes.BINARY},
        summary="An invoice as PDF, in the language of `Accept-Language`",
    )
    def get(self, request: Request, pk: int) -> HttpResponseBase:
        return downloads.pdf(get_object_or_404(reading.documents(self.team), pk=pk))


class DetailsShape(serializers.ModelSerializer[BillingDetails]):
    """Who invoices are written to."""

    class Meta:
        model = BillingDetails
        fields = ("name", "address", "tax_id", "email")


class Details(View):
    @extend_schema(operation_id="billing_details_read", responses=DetailsShape, summary="Who invoices are written to")
    def get(self, request: Request) -> Response:
        return Response(DetailsShape(reading.details(self.team)).data)

    @extend_schema(
        operation_id="billing_details_change",
        request=DetailsShape(partial=True),
        responses=DetailsShape,
        summary="Change who the next invoices are written to",
    )
    def patch(self, request: Request) -> Response:
        asked = DetailsShape(reading.details(self.team), data=request.data, partial=True)
        asked.is_valid(raise_exception=True)
        changed = services.set_billing_details(self.team, **asked.validated_data)
        return Response(DetailsShape(changed).data)


# ---- statements -----------------------------------------------------------------------------------------------------


class Period(serializers.Serializer[Any]):
    """Days, the last one included. They are the team's own where no zone is named."""

    start = serializers.DateField()
    end = serializers.DateField()
    zone = Zone(required=False)


class GroupedPeriod(Period):
    by = serializers.CharField(
        required=False, help_text="Of `day`, `kind`, `model` and `key`, with commas; all of them unless said otherwise."
    )


class MovedShape(serializers.Serializer[Any]):
    """All transfers of a kind: what came in is positive, what went out negative."""

    kind = serializers.ChoiceField(choices=TransferKind.choices, source="code")
    transfers = serializers.IntegerField()
    amount = Amount()


class StatementShape(serializers.Serializer[Any]):
    """`opening` and the amounts add up to `closing`."""

    start = serializers.DateTimeField()
    end = serializers.DateTimeField()
    currency = serializers.CharField()
    opening = Amount()
    moved = MovedShape(many=True)
    closing = Amount()


class StatementView(View):
    def _asked(self, request: Request) -> StatementForm:
        form = StatementForm(request.query_params, account=ledger.wallet_of(self.team.pk), zone=self.team.time_zone)
        errors.valid(form)
        return form


class Summary(StatementView):
    @extend_schema(
        operation_id="statement_read",
        parameters=[Period],
        responses=StatementShape,
        summary="What moved in the wallet during a period, by kind",
    )
    def get(self, request: Request) -> Response:
        wanted = self._asked(request).statement()
        opening, moved = reading.moved(wanted.account, wanted.start, wanted.end)
        shown = {
            "start": wanted.start.astimezone(dt.UTC),
            "end": wanted.end.astimezone(dt.UTC),
            "currency": wanted.account.currency,
            "opening": opening,
            "moved": moved,
            "closing": opening + sum(found.amount for found in moved),
        }
        return Response(StatementShape(shown).data)


class StatementCsv(StatementView):
    @extend_schema(
        operation_id="statement_csv",
        parameters=[GroupedPeriod],
        responses={(200, "text/csv"): OpenApiTypes.STR},
        summary="A statement of a period, grouped, between an opening and a closing balance",
    )
    def get(self, request: Request) -> HttpResponseBase:
        form = self._asked(request)
        name, kind = reading.file_name(form), "text/csv; charset=utf-8"
        return streaming.download(request._request, statements.as_csv(form.statement()), name=name, content_type=kind)
