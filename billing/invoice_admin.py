"""Invoices in the administration: looked at, corrected by credit notes, months closed by hand after a look at them."""

import uuid
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from billing import money
from billing.admin import Kept, ReadOnly, ReadOnlyInline, money_column
from billing.books_admin import joined, link
from billing.invoices import amounts, closing, issuing
from billing.models import (
    ClosedMonth,
    ClosingOutcome,
    DocumentKind,
    Invoice,
    InvoicedWallet,
    InvoiceLine,
    PaymentState,
)

_COLOURS: dict[str, str] = {
    PaymentState.OPEN.value: "info",
    PaymentState.PAID.value: "success",
    PaymentState.OVERDUE.value: "danger",
    PaymentState.CREDITED.value: "warning",
}


class CreditForm(forms.ModelForm):  # type: ignore[type-arg]
    """A credit note for an invoice. `request` makes a form that is sent twice count once."""

    credit = forms.CharField(
        label=_("Credit"),
        help_text=_("how much of the invoice is given back; it goes into the wallet"),
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )
    why = forms.CharField(
        max_length=400, label=_("Reason"), widget=UnfoldAdminTextareaWidget(attrs={"rows": 2}), help_text=_("printed")
    )
    request = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)

    class Meta:
        model = Invoice
        fields = ()

    def clean_credit(self) -> int:
        try:
            amount = money.parse(self.cleaned_data["credit"].strip())
        except money.InvalidAmount as error:
            raise ValidationError(str(error)) from error
        left = self.instance.amount - issuing.credited(self.instance)
        if not 0 < amount <= left:
            raise ValidationError(_("At most %(left)s is left.") % {"left": money.to_text(left, decimals=2)})
        if amount % amounts.minor_unit(self.instance.currency):
            raise ValidationError(_("The amount has more decimals than can be paid."))
        return amount


class Lines(ReadOnlyInline):
    model = InvoiceLine
    fields = ("position", "kind", "model", "key", "text", "calls", "quantities", "amount_shown")
    readonly_fields = fields
    ordering = ("position",)
    amount_shown = money_column("amount", _("amount"))


@admin.register(Invoice)
class InvoiceAdmin(Kept):
    """What is issued stays as it is. A mistake is corrected by a credit note."""

    form = CreditForm
    list_display: tuple[str, ...] = ("number", "account", "month", "amount_shown", "state_shown", "outstanding")
    list_display += ("issued_at", "due_at")
    list_filter = ("kind", "standing__state")
    search_fields = ("number", "account__team__name", "account__team__personal_of__email")
    list_select_related = ("account__team", "standing", "corrects")
    ordering = ("-pk",)
    inlines = (Lines,)
    amount_shown = money_column("amount", _("amount"))
    _facts: tuple[str, ...] = ("number", "kind", "account", "month", "starts_at", "ends_at", "zone", "amount_shown")
    _facts += ("tax_shown", "state_shown", "outstanding", "notes", "corrects", "reason", "issued_at", "due_at", "actor")
    readonly_fields = _facts

    @display(description=_("state"), label=_COLOURS)  # type: ignore[untyped-decorator]  # unfold has no types
    def state_shown(self, invoice: Invoice) -> tuple[str, Any]:
        if invoice.kind == DocumentKind.CREDIT_NOTE:
            return "", invoice.get_kind_display()
        return invoice.standing.state, invoice.standing.get_state_display()

    @admin.display(description=_("still to pay"))
    def outstanding(self, invoice: Invoice) -> str:
        if invoice.kind == DocumentKind.CREDIT_NOTE:
            return "—"
        return f"{money.to_text(invoice.standing.outstanding, decimals=2)} {invoice.currency}"

    @admin.display(description=_("tax included"))
    def tax_shown(self, invoice: Invoice) -> str:
        return f"{money.to_text(invoice.tax, decimals=2)} {invoice.currency} {invoice.tax_name}".strip()

    @admin.display(description=_("credit notes"))
    def notes(self, invoice: Invoice) -> str:
        return joined(link("admin:billing_invoice_change", note.pk, note.number) for note in invoice.credit_notes.all())

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        allowed = super().has_change_permission(request, obj)
        return bool(allowed and (obj is None or obj.kind == DocumentKind.INVOICE))

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        facts: list[Any] = [(None, {"fields": self._facts})]
        if self.has_change_permission(request, obj):
            facts.append((_("Issue a credit note"), {"fields": ("credit", "why", "request")}))
        return facts

    def save_model(self, request: HttpRequest, obj: Invoice, form: Any, change: bool) -> None:
        given = form.cleaned_data
        try:
            note = issuing.credit(
                invoice=Invoice.objects.get(pk=obj.pk),
                amount=given["credit"],
                reason=given["why"],
                actor=str(request.user),
                request=str(given["request"]),
            )
        except issuing.InvalidCreditNote as error:
            messages.error(request, str(error))
            return
        messages.success(request, gettext("Credit note %(number)s is issued") % {"number": note.number})

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        """The history says what was given back and why, as the books do."""
        given = form.cleaned_data
        return f"credited {money.to_text(given['credit'])}: {given['why']}"


@admin.register(ClosedMonth)
class ClosedMonthAdmin(ReadOnly):
    list_display = ("month", "account", "outcome", "items_shown", "invoiced_shown", "carried_shown", "invoice")
    list_filter = ("outcome",)
    search_fields = ("account__team__name", "account__team__personal_of__email")
    list_select_related = ("account__team", "invoice")
    ordering = ("-pk",)
    items_shown = money_column("items", _("used"))
    invoiced_shown = money_column("invoiced", _("invoiced"))
    carried_shown = money_column("carried_out", _("carried on"))
    position_shown = money_column("position", _("balance at the end"))
    fields: tuple[str, ...] = ("account", "month", "zone", "starts_at", "ends_at", "outcome", "invoice", "items_shown")
    fields += ("invoiced_shown", "carried_shown", "position_shown", "actor", "created_at")
    readonly_fields = fields


class ClosingForm(forms.ModelForm):  # type: ignore[type-arg]
    """Closes the month that was shown. `month` is that of the page: it is not closed unseen."""

    close = forms.BooleanField(label=_("Close this month"), help_text=_("final: the invoice cannot be changed"))
    month = forms.CharField(widget=forms.HiddenInput)
    found: closing.Preview | None = None

    class Meta:
        model = InvoicedWallet
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.found = closing.preview(self.instance)
            self.initial["month"] = self.found.month.isoformat()

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.found is None or cleaned.get("month") != self.found.month.isoformat():
            raise ValidationError(_("That month has been closed meanwhile. This is the next one."))
        if not closing.over(self.found):
            raise ValidationError(_("The month is not over, or calls of it are still being booked."))
        return cleaned


@admin.register(InvoicedWallet)
class InvoicedWalletAdmin(Kept):
    """The next month of each postpaid wallet as it stands, and closing it by hand."""

    form = ClosingForm
    list_display = ("team", "balance_shown", "credit_shown", "last_closed")
    search_fields = ("team__name", "team__personal_of__email")
    list_select_related = ("team",)
    ordering = ("pk",)
    balance_shown = money_column("balance", _("balance"))
    credit_shown = money_column("credit_limit", _("credit limit"))
    readonly_fields = ("team", "balance_shown", "credit_shown", "preview")
    fieldsets = (
        (None, {"fields": ("team", "balance_shown", "credit_shown", "preview")}),
        (_("Close by hand"), {"fields": ("close", "month")}),
    )

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description=_("closed until"))
    def last_closed(self, wallet: InvoicedWallet) -> str:
        last = ClosedMonth.objects.filter(account=wallet).order_by("-ends_at").first()
        return "—" if last is None else f"{last.month:%Y-%m}"

    @admin.display(description=_("next month"))
    def preview(self, wallet: InvoicedWallet) -> str:
        found = closing.preview(wallet)
        usage = [
            (used.model, f"{used.calls:,}", money.to_text(used.amount, decimals=2)) for used in found.content.used()
        ]
        others = [
            (line.text, "", money.to_text(line.amount, decimals=2))
            for line in (*found.content.owing, *found.content.payments)
        ]
        rows = format_html_join(
            "", '<tr><td class="pr-6">{}</td><td class="pr-6">{}</td><td>{}</td></tr>', [*usage, *others]
        )
        outcome = ClosingOutcome(found.outcome).label
        head = f"{found.month:%Y-%m} ({found.zone}): {outcome}, {money.to_text(found.payable.amount, decimals=2)}"
        return format_html("<strong>{}</strong><table>{}</table>", head, rows)

    def save_model(self, request: HttpRequest, obj: InvoicedWallet, form: Any, change: bool) -> None:
        try:
            row = closing.close(form.found, actor=str(request.user))
        except closing.NotOver:
            messages.error(request, gettext("The month is not over, or calls of it are still being booked."))
            return
        messages.success(request, f"{row.month:%Y-%m}: {row.get_outcome_display()} {row.invoice or ''}")

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        return f"closed {form.cleaned_data['month'][:7]}"
