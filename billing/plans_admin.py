"""Plans in the administration: what is for sale, and what was bought, which can be cancelled for a reason."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from billing import catalog, money, plans
from billing.admin import Kept, money_column
from billing.models import Plan, PlanOffer, PlanState, Window


def _amount(label: Any, help_text: Any = "", *, required: bool = True) -> forms.CharField:
    return forms.CharField(
        label=label, help_text=help_text, required=required, max_length=30, widget=UnfoldAdminTextInputWidget()
    )


class OfferForm(forms.ModelForm):  # type: ignore[type-arg]
    price_text = _amount(_("Price"))
    value_text = _amount(
        _("Worth"), _("what a plan of credit is filled with; empty for a plan of calls"), required=False
    )
    models_text = forms.CharField(
        label=_("Models"),
        required=False,
        help_text=_("the models that it pays for, one a line; empty for all"),
        widget=UnfoldAdminTextareaWidget({"rows": 4}),
    )

    class Meta:
        model = PlanOffer
        fields = ("name", "description", "kind", "calls", "days", "refill", "at_once", "active")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        refill = self.fields["refill"]
        assert isinstance(refill, forms.TypedChoiceField)
        refill.choices = [(value, _("never") if value == Window.TOTAL else label) for value, label in Window.choices]
        offer = self.instance
        if offer.pk:
            self.initial["price_text"] = money.to_text(offer.price)
            self.initial["value_text"] = "" if offer.calls else money.to_text(offer.value)
            self.initial["models_text"] = "\n".join(offer.models)

    def clean_price_text(self) -> int:
        return _parsed(self.cleaned_data["price_text"])

    def clean_value_text(self) -> int | None:
        text = self.cleaned_data["value_text"].strip()
        return _parsed(text) if text else None

    def clean_models_text(self) -> list[str]:
        names = list(dict.fromkeys(self.cleaned_data["models_text"].split()))
        if unknown := sorted(set(names) - set(catalog.rows())):
            raise ValidationError(_("Unknown models: %(names)s.") % {"names": ", ".join(unknown)[:200]})
        return names

    def clean_days(self) -> int:
        days = int(self.cleaned_data["days"])
        if not 1 <= days <= plans.LONGEST:
            raise ValidationError(_("A plan lasts from 1 to %(most)d days.") % {"most": plans.LONGEST})
        return days

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if not self.errors:
            try:
                cleaned["worth"] = plans.worth(
                    kind=cleaned["kind"],
                    price=cleaned["price_text"],
                    value=cleaned["value_text"],
                    calls=cleaned.get("calls"),
                )
            except ValueError as error:
                message = _(
                    "A plan of credit has a worth and no calls, a plan of calls a number of calls and no worth."
                )
                raise ValidationError(message) from error
        return cleaned


def _parsed(text: str) -> int:
    try:
        return money.parse(text.strip())
    except money.InvalidAmount as error:
        raise ValidationError(_("Write an amount such as 20 or 20.50.")) from error


@admin.register(PlanOffer)
class PlanOfferAdmin(Kept):
    form = OfferForm
    list_display = ("name", "kind", "price_shown", "value_shown", "calls", "days", "refill", "active")
    list_filter = ("active", "kind")
    ordering = ("price", "pk")
    price_shown = money_column("price", _("price"))
    value_shown = money_column("value", _("worth"))
    fieldsets = (
        (None, {"fields": ("name", "description", "active")}),
        (_("Terms"), {"fields": ("kind", "price_text", "value_text", "calls", "days", "refill", "at_once")}),
        (_("For"), {"fields": ("models_text",)}),
    )

    def save_model(self, request: HttpRequest, obj: PlanOffer, form: Any, change: bool) -> None:
        """What was bought keeps its own terms, so an offer may change."""
        obj.price, obj.value = form.cleaned_data["price_text"], form.cleaned_data["worth"]
        obj.models = form.cleaned_data["models_text"]
        super().save_model(request, obj, form, change)


class PlanForm(forms.ModelForm):  # type: ignore[type-arg]
    reason = forms.CharField(
        label=_("Cancel because"),
        required=False,
        max_length=500,
        help_text=_("Ends the plan now; what it has left is lost. Money is given back by an adjustment of the wallet."),
        widget=UnfoldAdminTextInputWidget(),
    )

    class Meta:
        model = Plan
        fields: tuple[str, ...] = ()


@admin.register(Plan)
class PlanAdmin(Kept):
    form = PlanForm
    list_display = ("name", "team", "kind", "price_shown", "left", "state", "starts_at", "ends_at")
    list_filter = ("state", "kind", "offer")
    list_select_related = ("team", "account")
    search_fields = ("team__name", "team__personal_of__email", "name")
    ordering = ("-pk",)
    price_shown = money_column("price", _("price"))
    value_shown = money_column("value", _("worth"))
    _facts: tuple[str, ...] = (
        "name",
        "team",
        "offer",
        "kind",
        "price_shown",
        "value_shown",
        "left",
        "refill",
        "zone",
        "models",
    )
    _facts += ("state", "starts_at", "ends_at", "fill_at", "actor")
    readonly_fields = _facts

    @admin.display(description=_("left"))
    def left(self, plan: Plan) -> str:
        if plan.rate:
            return f"{plan.calls_left} / {plan.calls}"
        return money.to_text(plan.account.free, decimals=2)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        facts = (None, {"fields": self._facts})
        if obj is None or obj.state != PlanState.RUNNING or not self.has_change_permission(request, obj):
            return (facts,)
        return facts, (_("Cancel"), {"fields": ("reason",)})

    def save_model(self, request: HttpRequest, obj: Plan, form: Any, change: bool) -> None:
        if not (reason := form.cleaned_data.get("reason", "").strip()):
            return
        if not plans.cancel(plan=obj, actor=str(request.user), reason=reason):
            messages.warning(request, _("The plan had ended already."))

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        reason = form.cleaned_data.get("reason", "").strip()
        return f"cancelled: {reason}" if reason else super().construct_change_message(request, form, formsets, add)
