"""The books in the administration: read-only but for prices, which get new versions, and wallets, which are adjusted.

Everything goes through billing's functions. Nothing that books depend on can be deleted here.
"""

import datetime as dt
from collections.abc import Callable
from typing import Any

from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html_join
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.admin import ModelAdmin, TabularInline
from unfold.widgets import (
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from billing import catalog, groups, ledger, money, prices, selectors
from billing.models import (
    Account,
    AccountKind,
    Budget,
    BudgetChange,
    CatalogModel,
    PriceGroup,
    PriceVersion,
)
from billing.price_forms import CARD_FIELDS, CardForm, with_prices
from billing.prices import PriceCard


class Kept(ModelAdmin):
    """Rows that are never deleted here, one by one or many at once."""

    show_full_result_count = False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnly(Kept):
    """Rows that are only looked at."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class ReadOnlyInline(TabularInline):
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


def money_column(field: str, description: Any) -> Callable[[Any, Any], str]:
    """A column that shows nano-units as the exact amount, and nothing for accounts that keep no totals."""

    @admin.display(description=description, ordering=field)
    def column(self: Any, row: Any) -> str:
        if isinstance(row, Account) and row.kind not in (AccountKind.WALLET, AccountKind.PLAN):
            return "—"
        return f"{money.to_text(getattr(row, field), decimals=2)} {settings.CURRENCY}"

    return column


# ---- models and prices ----------------------------------------------------------------------------------------------


class ModelForm(CardForm):
    """A model, its prices as decimals, and from when they count."""

    class Meta:
        model = CatalogModel
        fields = ("name", "kind", "provider", "description", "context_window", "max_output", "active", "capabilities")

    def clean_capabilities(self) -> dict[str, Any]:
        written: dict[str, Any] = self.cleaned_data["capabilities"] or {}
        try:
            catalog.check_capabilities(written)
        except (ValueError, TypeError) as error:
            raise ValidationError(str(error)) from error
        return written

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.current = catalog.current_card(self.instance) if self.instance.pk else None
        if self.current is not None:
            self.show_card(self.current)

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.card is None and not self.errors and self.instance.pk and self.instance.prices.exists():
            raise ValidationError(_("A price cannot be taken away. Withdraw the model instead, or write 0 for free."))
        if self.card is not None:
            moment = cleaned.get("valid_from") or timezone.now()
            before = catalog.card_at(self.instance, moment) if self.instance.pk else None
            self.confirm_leap(before, self.card, self.instance.name)
        return cleaned


PricedModelForm = with_prices(ModelForm)


class PriceHistory(ReadOnlyInline):
    model = PriceVersion
    verbose_name_plural = _("price versions")
    fields: tuple[str, ...] = ("valid_from", "group", "shown", "actor", "created_at")
    readonly_fields = fields
    ordering = ("-valid_from",)

    @admin.display(description=_("prices"))
    def shown(self, version: PriceVersion) -> str:
        ended = version.rates is None
        return str(_("as in the list again")) if ended else prices.describe(catalog.card_of(version))


@admin.register(CatalogModel)
class CatalogModelAdmin(Kept):
    form = PricedModelForm
    list_display = ("name", "kind", "provider", "price", "active")
    list_filter = ("kind", "active")
    search_fields = ("name", "provider")
    ordering = ("name",)
    inlines = (PriceHistory,)
    fieldsets = (
        (None, {"fields": ModelForm.Meta.fields}),
        (_("Prices"), {"fields": CARD_FIELDS}),
    )

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("name",) if obj else ()  # usage records and channels know a model by its name

    @admin.display(description=_("price"))
    def price(self, row: CatalogModel) -> str:
        card = catalog.current_card(row)
        shown = prices.describe(card) if card else str(_("none: cannot be called"))
        if planned := next(iter(catalog.upcoming(row)), None):
            date, change = planned.valid_from.strftime("%Y-%m-%d %H:%M UTC"), catalog.card_of(planned)
            shown += "; " + _("from %(date)s: %(card)s") % {"date": date, "card": prices.describe(change)}
        return shown

    def save_model(self, request: HttpRequest, obj: CatalogModel, form: Any, change: bool) -> None:
        names = [name for name in ModelForm.Meta.fields if name != "name"]
        row = catalog.save_model(name=obj.name, **{name: getattr(obj, name) for name in names})
        obj.pk, obj.created_at = row.pk, row.created_at
        if form.card is not None:
            _write_price(request, row, form)


# ---- wallets --------------------------------------------------------------------------------------------------------


class GroupForm(CardForm):
    """A group with its multiplier as a decimal, and a price of its own that is to be set."""

    times = forms.CharField(
        label=_("Multiplier"),
        max_length=30,
        help_text=_("such as 0.8; the group's wallets pay the list's prices times this"),
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )
    priced = forms.ModelChoiceField(
        CatalogModel.objects.order_by("name"),
        required=False,
        label=_("Model"),
        empty_label=_("none"),
        help_text=_("for which the group gets a price of its own: final, without the multiplier"),
        widget=UnfoldAdminSelectWidget(),
    )
    ends = forms.BooleanField(
        required=False, label=_("Ends its own price: the list's counts again"), widget=UnfoldBooleanWidget()
    )
    multiplier = prices.ONE

    class Meta:
        model = PriceGroup
        fields = ("name",)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.instance.pk:
            self.initial["times"] = prices.write_multiplier(self.instance.multiplier)

    def clean_times(self) -> str:
        text = str(self.cleaned_data["times"])
        try:
            self.multiplier = prices.parse_multiplier(text)
        except money.InvalidAmount as error:
            raise ValidationError(str(error)) from error
        return text

    def clean_name(self) -> str:
        name = str(self.cleaned_data["name"])
        if not name.isprintable():
            raise ValidationError(_("A name has printable characters only."))
        return name

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        model, ends = cleaned.get("priced"), bool(cleaned.get("ends"))
        if (self.card is not None or ends) and model is None and not self.errors:
            self.add_error("priced", ValidationError(_("Choose the model that the price is for.")))
        elif model is not None and (self.card is None) != ends and not self.errors:
            self.add_error("priced", ValidationError(_("Either give its prices, or end the group's own price.")))
        elif model is not None and self.card is not None:
            self.confirm_leap(self._paid_so_far(model, cleaned.get("valid_from")), self.card, model.name)
        return cleaned

    def _paid_so_far(self, model: CatalogModel, moment: dt.datetime | None) -> PriceCard | None:
        at = moment or timezone.now()
        own = catalog.card_at(model, at, group=self.instance) if self.instance.pk else None
        return own or catalog.card_at(model, at)


class GroupPrices(PriceHistory):
    verbose_name_plural = _("prices of its own")
    fields = ("valid_from", "model", "shown", "actor", "created_at")
    readonly_fields = fields


@admin.register(PriceGroup)
class PriceGroupAdmin(Kept):
    form = with_prices(GroupForm)
    list_display = ("name", "shown", "own_prices", "wallets_in_it")
    search_fields = ("name",)
    ordering = ("name",)
    inlines = (GroupPrices,)
    fieldsets = (
        (None, {"fields": ("name", "times")}),
        (_("A price of its own"), {"fields": ("priced", *CARD_FIELDS, "ends"), "classes": ("collapse",)}),
    )

    @admin.display(description=_("models with a price of its own"))
    def own_prices(self, group: PriceGroup) -> int:
        return group.prices.values("model").distinct().count()

    @admin.display(description=_("multiplier"), ordering="multiplier")
    def shown(self, group: PriceGroup) -> str:
        return prices.write_multiplier(group.multiplier, decimals=2)

    @admin.display(description=_("wallets"))
    def wallets_in_it(self, group: PriceGroup) -> int:
        return group.wallets.count()

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> tuple[str, ...]:
        return ("name",) if obj else ()  # files know a group by its name

    def save_model(self, request: HttpRequest, obj: PriceGroup, form: Any, change: bool) -> None:
        group = groups.save(name=obj.name, multiplier=form.multiplier)
        obj.pk = group.pk
        if (model := form.cleaned_data.get("priced")) is not None:
            _write_price(request, model, form, group)


def _write_price(request: HttpRequest, model: CatalogModel, form: CardForm, group: PriceGroup | None = None) -> None:
    moment = form.cleaned_data.get("valid_from")
    try:
        version = catalog.set_price(model, form.card, actor=str(request.user), valid_from=moment, group=group)
    except ValueError as error:
        messages.error(request, str(error))
        return
    if version is not None:
        shown = prices.describe(form.card) if form.card is not None else gettext("as in the list again")
        messages.info(request, _("A new price version was made: %(card)s.") % {"card": shown})


class WalletForm(forms.ModelForm):  # type: ignore[type-arg]
    """A wallet's freeze and its group. Money is moved by an adjustment (`billing.credit_admin`)."""

    reason = forms.CharField(
        required=False, max_length=500, label=_("Reason"), widget=UnfoldAdminTextareaWidget(attrs={"rows": 2})
    )
    stopped = forms.CharField(
        required=False,
        max_length=200,
        label=_("Frozen because"),
        help_text=_("A frozen wallet pays for no new call. Empty it, and give a reason, to lift the freeze."),
        widget=UnfoldAdminTextInputWidget(),
        show_hidden_initial=True,  # whoever saves the page must not lift a freeze that came since it was read
    )
    group = forms.ModelChoiceField(
        PriceGroup.objects.order_by("name"),
        required=False,
        label=_("Price group"),
        empty_label=_("none: prices as they are"),
        help_text=_("in force within a second; calls that are running keep theirs"),
        widget=UnfoldAdminSelectWidget(),
    )

    class Meta:
        model = Account
        fields = ()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial["stopped"] = self.instance.frozen
        self.initial["group"] = self.instance.group_id

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        lifted = "stopped" in self.changed_data and not (cleaned.get("stopped") or "").strip()
        if lifted and not (cleaned.get("reason") or "").strip():
            self.add_error("reason", ValidationError(_("Lifting a freeze needs a reason; it stays in the history.")))
        return cleaned


@admin.register(Account)
class AccountAdmin(Kept):
    form = WalletForm
    list_display = ("__str__", "team", "balance_shown", "held_shown", "credit_shown", "group", "frozen")
    list_filter = ("kind", "group")
    search_fields = ("team__name", "team__personal_of__email")
    list_select_related = ("team", "group")
    ordering = ("pk",)
    balance_shown = money_column("balance", _("balance"))
    held_shown = money_column("held", _("held"))
    credit_shown = money_column("credit_limit", _("credit limit"))
    _totals = ("kind", "team", "balance_shown", "held_shown", "credit_shown", "owed", "created_at", "more")
    readonly_fields = _totals
    fieldsets = (
        (None, {"fields": _totals}),
        (_("Freeze"), {"fields": ("stopped", "reason")}),
        (_("Price group"), {"fields": ("group",)}),
    )

    @admin.display(description=_("owes"))
    def owed(self, account: Account) -> str:
        """What a receivable account comes to; other platform accounts have too many transfers to be added here."""
        if account.kind != AccountKind.RECEIVABLE:
            return "—"
        return f"{money.to_text(selectors.owed(account), decimals=2)} {settings.CURRENCY}"

    @admin.display(description=_("more of it"))
    def more(self, account: Account) -> str:
        links = [
            (reverse("admin:billing_transfer_changelist") + f"?q=account+{account.pk}", _("transfers")),
            (reverse("admin:billing_hold_changelist") + f"?q=account+{account.pk}", _("holds")),
            (reverse("admin:billing_auditfinding_changelist") + f"?q=account+{account.pk}", _("audit findings")),
        ]
        if account.kind == AccountKind.WALLET:
            links += [
                (reverse("admin:billing_adjustment_ask", args=[account.pk]), _("adjust balance or credit limit")),
                (
                    reverse("admin:billing_adjustment_changelist") + f"?account__id__exact={account.pk}",
                    _("adjustments"),
                ),
            ]
        return format_html_join(" · ", '<a class="text-primary-600 underline" href="{}">{}</a>', links)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        allowed = super().has_change_permission(request, obj)
        return bool(allowed and (obj is None or obj.kind == AccountKind.WALLET))

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        fieldsets = super().get_fieldsets(request, obj)
        return fieldsets if self.has_change_permission(request, obj) else fieldsets[:1]

    def save_model(self, request: HttpRequest, obj: Account, form: Any, change: bool) -> None:
        if "stopped" in form.changed_data:
            stopped = form.cleaned_data["stopped"].strip()
            ledger.freeze(wallet=obj, reason=stopped) if stopped else ledger.unfreeze(wallet=obj)
        if "group" in form.changed_data:
            groups.put(wallet=obj, group=form.cleaned_data["group"])

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        """The history says what was done and why, as the books do."""
        done = []
        if "stopped" in form.changed_data:
            lifted = f"freeze lifted: {form.cleaned_data['reason']}"
            done.append(f"frozen: {form.cleaned_data['stopped']}" if form.cleaned_data["stopped"] else lifted)
        if "group" in form.changed_data:
            done.append(f"price group: {form.cleaned_data['group'] or 'none'}")
        return "; ".join(done) or super().construct_change_message(request, form, formsets, add)


# ---- the books ------------------------------------------------------------------------------------------------------


@admin.register(Budget)
class BudgetAdmin(ReadOnly):
    list_display = ("__str__", "cap_shown", "used_shown", "held_shown", "extra_shown", "extra_until", "starts_at")
    list_filter = ("owner_kind", "window")
    ordering = ("-pk",)
    cap_shown = money_column("cap", _("cap"))
    used_shown = money_column("used", _("used"))
    held_shown = money_column("held", _("held"))
    over_shown = money_column("over", _("over"))
    extra_shown = money_column("extra", _("raised by"))
    fields: tuple[str, ...] = ("owner_kind", "owner_id", "window", "zone", "starts_at", "kept_until", "cap_shown")
    fields += ("used_shown", "held_shown", "over_shown", "extra_shown", "extra_until")
    readonly_fields = fields


@admin.register(BudgetChange)
class BudgetChangeAdmin(ReadOnly):
    list_display: tuple[str, ...] = ("created_at", "owner_kind", "owner_id", "window", "action", "cap_shown")
    list_display += ("extra_shown", "until", "zone", "actor", "reason")
    list_filter = ("action", "owner_kind")
    search_fields = ("=owner_id", "actor")
    ordering = ("-pk",)
    extra_shown = money_column("extra", _("raised by"))
    fields: tuple[str, ...] = ("created_at", "owner_kind", "owner_id", "window", "action", "cap_shown", "extra_shown")
    fields += ("until", "zone", "actor", "reason")
    readonly_fields = fields

    @admin.display(description=_("cap"), ordering="cap")
    def cap_shown(self, change: BudgetChange) -> str:
        return "—" if change.cap is None else f"{money.to_text(change.cap, decimals=2)} {settings.CURRENCY}"


# The pages of everything else that billing has are made of these and register themselves.
from billing import books_admin, credit_admin, invoice_admin, plans_admin  # noqa: E402, F401
from billing.payments import admin as payments_admin  # noqa: E402, F401
