"""Channels and calls in the administration. Credentials go in and never come out."""

from typing import Any

import msgspec
from django import forms
from django.conf import settings
from django.contrib import admin, messages
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.admin import TabularInline
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from billing import money
from billing.admin import Kept, ReadOnly, ReadOnlyInline, money_column
from billing.models import Hold, HoldState
from keys import rates
from relay import recovery, services
from relay.models import Attempt, CallLog, Channel, Credential, Review
from relay.services import ChannelSpec

_FIELDS: tuple[str, ...] = ("name", "protocol", "base_url", "priority", "weight", "on_hangup", "timeouts", "costs")
_FIELDS += (*rates.FIELDS, "enabled")


class ChannelForm(forms.ModelForm):  # type: ignore[type-arg]
    """A channel with its models a line each, and room for credentials that are to be stored."""

    served = forms.CharField(
        label=_("Models"),
        required=False,
        help_text=_("one per line: the offered name, or “offered name = upstream's name”"),
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 8, "spellcheck": "false"}),
    )
    new_credentials = forms.CharField(
        label=_("New credentials"),
        required=False,
        help_text=_("one per line; stored encrypted and never shown again"),
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "autocomplete": "off", "spellcheck": "false"}),
    )
    spec: ChannelSpec
    moved = False

    class Meta:
        model = Channel
        fields = _FIELDS

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.stored = services.spec_of(self.instance) if self.instance.pk else None
        lines = [name if name == other else f"{name} = {other}" for name, other in (self.instance.models or {}).items()]
        self.initial["served"] = "\n".join(lines)

    @property
    def secrets(self) -> list[str]:
        return [line.strip() for line in self.cleaned_data["new_credentials"].splitlines() if line.strip()]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        values = {name: cleaned[name] for name in _FIELDS}
        values["base_url"] = values["base_url"].strip().rstrip("/")
        values["timeouts"], values["costs"] = values["timeouts"] or {}, values["costs"] or {}
        self.moved = self.stored is not None and self.stored.base_url != values["base_url"]
        private = self.stored is not None and self.stored.private and not self.moved
        try:
            self.spec = msgspec.convert(
                {**values, "models": self._models(cleaned["served"]), "private": private}, ChannelSpec
            )
            services.check(self.spec)
            self._check_secrets()
        except msgspec.ValidationError as error:
            field = "costs" if "$.costs" in str(error) else "timeouts"
            raise ValidationError({field: str(error)}) from error
        except ValidationError as error:
            names = {"models": "served"}
            for name, problems in error.error_dict.items():
                self.add_error(names.get(name, name), ValidationError(problems))
        return cleaned

    def _check_secrets(self) -> None:
        for secret in self.secrets:
            if problem := services.secret_problem(secret):
                raise ValidationError({"new_credentials": problem})
        if self.moved and not self.secrets and self.instance.credentials.exists():
            message = _("The address changed: enter its credentials again. The stored ones are removed.")
            raise ValidationError({"new_credentials": message})

    def _models(self, text: str) -> dict[str, str]:
        found: dict[str, str] = {}
        for line in text.splitlines():
            if not line.strip():
                continue
            name, _separator, other = (part.strip() for part in line.partition(" = "))
            if name in found:
                raise ValidationError({"models": _("“%(name)s” is there twice.") % {"name": name[:100]}})
            found[name] = other or name
        return found


class CredentialInline(TabularInline):
    """Stored credentials: switched off and on, or removed. New ones are given above."""

    model = Credential
    extra = 0
    fields = ("shown", "enabled", "created_at")
    readonly_fields = ("shown", "created_at")
    verbose_name_plural = _("stored credentials")

    @admin.display(description=_("ends with"))
    def shown(self, credential: Credential) -> str:
        return f"…{credential.last_four}"

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Channel)
class ChannelAdmin(Kept):
    form = ChannelForm
    list_display = ("name", "protocol", "base_url", "priority", "weight", "enabled", "credentials_in_use")
    list_filter = ("protocol", "enabled")
    search_fields = ("name", "base_url")
    ordering = ("priority", "name")
    inlines = (CredentialInline,)
    fieldsets = (
        (None, {"fields": ("name", "protocol", "base_url", "new_credentials", "served", "enabled")}),
        (_("Order and timeouts"), {"fields": ("priority", "weight", "on_hangup", "timeouts")}),
        (_("Rate limits"), {"fields": rates.FIELDS, "description": _("what the provider allows; empty for no limit")}),
        (_("Costs"), {"fields": ("costs",)}),
    )

    @admin.display(description=_("credentials"))
    def credentials_in_use(self, channel: Channel) -> int:
        return channel.credentials.filter(enabled=True).count()

    def save_model(self, request: HttpRequest, obj: Channel, form: Any, change: bool) -> None:
        saved = services.save_channel(obj if change else None, form.spec, secrets=form.secrets if form.moved else None)
        if form.secrets and not form.moved:
            services.add_credentials(saved, form.secrets)
        obj.pk, obj.created_at = saved.pk, saved.created_at

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        formset.save(commit=False)
        for credential in formset.deleted_objects:
            services.remove_credential(credential)
        for credential, _changed in formset.changed_objects:
            services.set_credential_enabled(credential, enabled=credential.enabled)


class ReviewForm(forms.ModelForm):  # type: ignore[type-arg]
    """What the call is charged, and why."""

    charge = forms.CharField(
        label=_("Charge"),
        initial="0",
        help_text=_("at most what is held; 0 gives all of it back"),
        widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"}),
    )
    reason = forms.CharField(
        label=_("Reason"),
        max_length=300,
        help_text=_("stays with the call; for example what the provider's bill says"),
        widget=UnfoldAdminTextInputWidget(),
    )

    class Meta:
        model = Review
        fields = ()

    def clean_charge(self) -> int:
        try:
            amount = money.parse(self.cleaned_data["charge"].strip())
        except money.InvalidAmount as error:
            raise ValidationError(str(error)) from error
        if amount > self.instance.amount:
            raise ValidationError(_("The charge is more than what is held."))
        return amount


@admin.register(Review)
class ReviewAdmin(Kept):
    """Calls that nobody can tell the cost of. Resolving one is final: it is then a call like any other."""

    form = ReviewForm
    list_display = ("created_at", "account", "model", "channel", "held_shown", "note", "id")
    list_select_related = ("account__team",)
    search_fields = ("=id",)
    ordering = ("created_at",)
    actions = ("give_back",)
    held_shown = money_column("amount", _("held"))
    _facts = ("id", "account", "model", "channel", "request_id", "client", "held_shown", "note", "created_at")
    readonly_fields = _facts
    fieldsets = ((None, {"fields": _facts}), (_("Decide"), {"fields": ("charge", "reason")}))

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).filter(state=HoldState.REVIEW)

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    @admin.display(description=_("model"))
    def model(self, hold: Hold) -> str:
        return str(hold.facts.get("model", ""))

    @admin.display(description=_("channel"))
    def channel(self, hold: Hold) -> str:
        return ", ".join(map(str, hold.facts.get("channels") or ()))

    @admin.display(description=_("request id"))
    def request_id(self, hold: Hold) -> str:
        return str(hold.facts.get("request_id", ""))

    @admin.display(description=_("client"))
    def client(self, hold: Hold) -> str:
        return str(hold.facts.get("ip", ""))

    @admin.action(description=_("Give back what the selected calls hold"), permissions=["change"])
    def give_back(self, request: HttpRequest, selected: Any) -> None:
        for hold in selected:
            self._resolve(request, hold, charged=0, reason="given back")

    def save_model(self, request: HttpRequest, obj: Review, form: Any, change: bool) -> None:
        self._resolve(request, obj, charged=form.cleaned_data["charge"], reason=form.cleaned_data["reason"])

    def _resolve(self, request: HttpRequest, hold: Review, *, charged: int, reason: str) -> None:
        try:
            recovery.resolve(hold=hold, charged=charged, actor=str(request.user), reason=reason)
        except recovery.NotInReview:
            messages.warning(request, _("The call %(id)s has been decided already.") % {"id": hold.pk})

    def construct_change_message(self, request: HttpRequest, form: Any, formsets: Any, add: bool = False) -> Any:
        """The history says what was decided and why, as the books do."""
        return f"charged {money.to_text(form.cleaned_data['charge'])}: {form.cleaned_data['reason']}"


class AttemptInline(ReadOnlyInline):
    model = Attempt
    fields: tuple[str, ...] = ("number", "channel", "credential", "outcome", "status", "detail")
    fields += ("usage", "usage_source", "cost_shown", "began_ms", "first_byte_ms", "ended_ms")
    readonly_fields = fields

    @admin.display(description=_("cost to us"))
    def cost_shown(self, attempt: Attempt) -> str:
        return "—" if attempt.cost is None else f"{money.to_text(attempt.cost, decimals=2)} {settings.CURRENCY}"

    ordering = ("number",)


@admin.register(CallLog)
class CallLogAdmin(ReadOnly):
    list_display = (
        "created_at",
        "team",
        "model",
        "channel",
        "state",
        "status",
        "cost_shown",
        "duration_ms",
        "request_id",
    )
    list_filter = ("state", "usage_source")
    search_fields = ("=id", "=request_id")
    list_select_related = ("team",)
    ordering = ("-created_at",)
    inlines = (AttemptInline,)
    cost_shown = money_column("cost", _("cost"))
    held_shown = money_column("held", _("held"))
    fields: tuple[str, ...] = (
        "id",
        "request_id",
        "team",
        "key",
        "endpoint",
        "protocol",
        "model",
        "upstream_model",
        "channel",
        "streamed",
    )
    fields += ("state", "status", "error", "usage", "usage_source", "lines", "cost_shown", "held_shown", "finish")
    fields += ("upstream_id", "client_ip", "hold_ms", "first_byte_ms", "duration_ms", "created_at")
    readonly_fields = fields
