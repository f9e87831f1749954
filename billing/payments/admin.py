"""Payments in the administration: looked at, with what the providers said; refunds are asked for here, never booked.

Exchange rates are added and never changed.
"""

import uuid
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminSplitDateTimeWidget, UnfoldAdminTextInputWidget

from billing import ids, money
from billing.admin import Kept, ReadOnly, ReadOnlyInline, money_column
from billing.books_admin import Bounded
from billing.payments import NotOffered, ProviderFailed, currencies, orders, rates
from billing.payments.models import ExchangeRate, Payment, PaymentEvent, PaymentReversal

REFUNDABLE = ("stripe",)


class RefundForm(forms.ModelForm):  # type: ignore[type-arg]
    """How much to ask the provider to give back. `reference` makes a form that is sent twice count once."""

    refund = forms.CharField(
        required=False,
        max_length=20,
        label=_("Give back"),
        help_text=_("in the payer's currency; the books change when the provider's event comes"),
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )
    reference = forms.UUIDField(widget=forms.HiddenInput, initial=uuid.uuid4)
    due = 0

    class Meta:
        model = Payment
        fields = ()

    def clean_refund(self) -> str:
        text = str(self.cleaned_data["refund"]).strip()
        if not text:
            return text
        due = currencies.parse(text, self.instance.currency)
        if due is None or not 0 < due <= orders.left(self.instance):
            left = currencies.to_text(orders.left(self.instance), self.instance.currency)
            raise ValidationError(_("Write an amount of at most %(left)s.") % {"left": left})
        self.due = due
        return text


class Events(ReadOnlyInline):
    model = PaymentEvent
    fields = ("received_at", "kind", "event", "outcome", "note")
    readonly_fields = fields
    ordering = ("-pk",)


class Reversals(ReadOnlyInline):
    model = PaymentReversal
    fields = ("created_at", "kind", "reference", "due", "stage")
    readonly_fields = fields
    ordering = ("-created_at",)


@admin.register(Payment)
class PaymentAdmin(Kept):
    form = RefundForm
    paginator = Bounded
    list_display = ("created_at", "team", "provider", "method", "amount_shown", "due_shown", "state", "receipt", "note")
    list_filter = ("state", "provider")
    list_select_related = ("wallet__team",)
    search_fields = ("=receipt", "=checkout", "=actor")
    search_help_text = _("our id, the provider's payment or checkout, or who paid")
    ordering = ("-pk",)
    inlines = (Events, Reversals)
    amount_shown = money_column("amount", _("credit"))
    taken_shown = money_column("taken", _("taken back"))
    _facts: tuple[str, ...] = ("id", "team", "provider", "method", "amount_shown", "due_shown", "rate_shown", "state")
    _facts += ("taken_shown", "checkout", "receipt", "actor", "note", "created_at", "expires_at", "paid_at")
    readonly_fields = _facts
    fieldsets = ((None, {"fields": _facts}), (_("Refund"), {"fields": ("refund", "reference")}))

    @admin.display(description=_("team"), ordering="wallet__team")
    def team(self, payment: Payment) -> str:
        return str(payment.wallet.team)

    @admin.display(description=_("price"))
    def due_shown(self, payment: Payment) -> str:
        return f"{currencies.to_text(payment.due, payment.currency)} {payment.currency}"

    @admin.display(description=_("rate"))
    def rate_shown(self, payment: Payment) -> str:
        return f"{money.to_text(payment.rate, decimals=2)} {payment.currency} = 1 {settings.CURRENCY}"

    def get_search_results(self, request: HttpRequest, queryset: Any, search_term: str) -> tuple[Any, bool]:
        if (number := ids.read(search_term.strip())) is not None:
            return queryset.filter(pk=number), False
        found, distinct = super().get_search_results(request, queryset, search_term)
        return found, bool(distinct)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        allowed = bool(super().has_change_permission(request, obj))
        return allowed and (obj is None or (obj.provider in REFUNDABLE and orders.left(obj) > 0))

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        return fieldsets if self.has_change_permission(request, obj) else fieldsets[:1]

    def save_model(self, request: HttpRequest, obj: Payment, form: Any, change: bool) -> None:
        if not form.due:
            return
        try:
            orders.refund(obj, due=form.due, key=str(form.cleaned_data["reference"]))
        except (NotOffered, ProviderFailed) as error:
            messages.error(request, str(error))
            return
        messages.info(request, _("The provider was asked. The books change when its event comes."))

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        """The history says what was asked for."""
        asked = f"refund of {form.cleaned_data['refund']} {form.instance.currency} asked for"
        return asked if form.due else super().construct_change_message(request, form, formsets, add)


@admin.register(PaymentEvent)
class PaymentEventAdmin(ReadOnly):
    paginator = Bounded
    list_display = ("received_at", "provider", "kind", "event", "outcome", "payment", "note")
    list_filter = ("outcome", "provider")
    search_fields = ("=event",)
    ordering = ("-pk",)
    fields = ("received_at", "provider", "kind", "event", "outcome", "payment", "note", "facts")
    readonly_fields = fields


class RateForm(forms.ModelForm):  # type: ignore[type-arg]
    """A rate as a decimal, and from when it holds."""

    code = forms.ChoiceField(label=_("Currency"))
    written = forms.CharField(
        label=_("Rate"),
        max_length=24,
        help_text=_("what one unit of the ledger's currency costs in this one, such as 7.1035"),
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )
    moment = forms.SplitDateTimeField(
        required=False,
        label=_("Valid from"),
        help_text=_("UTC; empty for now. A rate never changes backwards."),
        widget=UnfoldAdminSplitDateTimeWidget(),
    )
    made: ExchangeRate | None = None

    class Meta:
        model = ExchangeRate
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "code" in self.fields:
            field = self.fields["code"]
            assert isinstance(field, forms.ChoiceField)
            codes = sorted(currencies.EXPONENTS.keys() - {settings.CURRENCY})
            field.choices = [(code, code) for code in codes]

    def clean_written(self) -> int:
        try:
            return rates.parse(self.cleaned_data["written"])
        except money.InvalidAmount as error:
            raise ValidationError(str(error)) from error

    def clean(self) -> dict[str, Any]:
        """Carried out here, where what is wrong can still be said; the administration's request is one transaction."""
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        self.made = rates.put(
            currency=cleaned["code"], rate=cleaned["written"], actor=self.actor, valid_from=cleaned["moment"]
        )
        if self.made is None:
            raise ValidationError(_("This is the rate in force already."))
        return cleaned

    actor = ""


@admin.register(ExchangeRate)
class ExchangeRateAdmin(ReadOnly):
    list_display = ("valid_from", "currency", "shown", "actor", "created_at")
    list_filter = ("currency",)
    ordering = ("-valid_from",)
    readonly_fields = ("currency", "shown", "valid_from", "actor", "created_at")

    @admin.display(description=_("rate"), ordering="rate")
    def shown(self, row: ExchangeRate) -> str:
        return money.to_text(row.rate, decimals=2)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return request.user.has_perm("billing.add_exchangerate")

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        if obj is not None:
            return super().get_form(request, obj, change, **kwargs)
        return type("RateForm", (RateForm,), {"actor": str(request.user)})

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.readonly_fields if obj is not None else ("code", "written", "moment")

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return self.readonly_fields if obj is not None else ()

    def save_model(self, request: HttpRequest, obj: ExchangeRate, form: Any, change: bool) -> None:
        obj.pk, obj.currency, obj.rate = form.made.pk, form.made.currency, form.made.rate
        obj.valid_from = form.made.valid_from
