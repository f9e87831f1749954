"""Channels and calls in the administration. Credentials go in and never come out."""

from typing import Any

import msgspec
from django import forms
from django.contrib import admin
from django.core.exceptions import ValidationError
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _
from unfold.admin import TabularInline
from unfold.widgets import UnfoldAdminTextareaWidget

from billing.admin import Kept, ReadOnly, ReadOnlyInline, money_column
from relay import services
from relay.models import Attempt, CallLog, Channel, Credential
from relay.services import ChannelSpec

_FIELDS = ("name", "protocol", "base_url", "priority", "weight", "on_hangup", "timeouts", "enabled")


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
        values["timeouts"] = values["timeouts"] or {}
        self.moved = self.stored is not None and self.stored.base_url != values["base_url"]
        private = self.stored is not None and self.stored.private and not self.moved
        try:
            self.spec = msgspec.convert(
                {**values, "models": self._models(cleaned["served"]), "private": private}, ChannelSpec
            )
            services.check(self.spec)
            self._check_secrets()
        except msgspec.ValidationError as error:
            raise ValidationError({"timeouts": str(error)}) from error
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
        (_("Order and limits"), {"fields": ("priority", "weight", "on_hangup", "timeouts")}),
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


class AttemptInline(ReadOnlyInline):
    model = Attempt
    fields = ("number", "channel", "credential", "outcome", "status", "detail", "began_ms", "first_byte_ms", "ended_ms")
    readonly_fields = fields
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
