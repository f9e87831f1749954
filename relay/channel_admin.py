"""Channels in the administration: what they are, and how well they work. Credentials go in and never come out."""

import json
import re
from typing import Any

import msgspec
from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST
from unfold.admin import TabularInline
from unfold.decorators import action, display
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminSelectWidget, UnfoldAdminTextareaWidget

from billing.admin import Kept
from keys import rates
from relay import probing, services, standing
from relay.channels import presets
from relay.channels.health import MINUTES, Kind
from relay.models import Channel, Credential
from relay.services import ChannelSpec

KINDS = {
    Kind.CONNECT: _("no connection"),
    Kind.TIMEOUT: _("too slow"),
    Kind.SERVER: _("server error"),
    Kind.GARBAGE: _("unusable answer"),
    Kind.CUT: _("broke off"),
    Kind.LIMITED: _("rate limit"),
    Kind.REFUSED: _("credential refused"),
    Kind.FORBIDDEN: _("forbidden"),
    Kind.UNPAID: _("account cannot pay"),
    Kind.MISSING: _("model unknown"),
    Kind.REJECTED: _("request refused"),
}
STATES = {
    "closed": (_("works"), "success"),
    "cooling": (_("rests"), "warning"),
    "half_open": (_("is tried again"), "warning"),
    "open": (_("shut"), "danger"),
    "disabled": (_("disabled"), "danger"),
    "off": (_("switched off"), "default"),
}
_JSON = ("timeouts", "headers", "parameters", "capabilities", "breaker", "costs")
_PLAIN = ("name", "preset", "protocol", "base_url", "priority", "weight", "on_hangup", "enabled")
_FIELDS = (*_PLAIN, "proxy", "retry_on", "auto_disable", *rates.FIELDS, *_JSON)


class _Decoder(json.JSONDecoder):
    """JSON as every reader has it. Python's own takes NaN and halves of characters, and fails in other ways than a form
    expects at values that are nested deeply and at numbers of thousands of digits."""

    def decode(self, s: str, *args: Any) -> Any:
        try:
            value = super().decode(s, *args)
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except (ValueError, RecursionError) as error:
            raise json.JSONDecodeError(str(error), s, 0) from error
        return value


class ChannelForm(forms.ModelForm):  # type: ignore[type-arg]
    """A channel with its models a line each, and room for credentials that are to be stored."""

    preset = forms.ChoiceField(
        label=_("Provider"), choices=presets.CHOICES, initial="custom", widget=UnfoldAdminSelectWidget()
    )
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
    retry_on = forms.MultipleChoiceField(
        label=_("Try another channel after"),
        required=False,
        choices=[(kind.value, KINDS[kind]) for kind in Kind if kind in KINDS and kind is not Kind.REJECTED],
        widget=UnfoldAdminCheckboxSelectMultipleWidget(),
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
        for name in _JSON:
            field = self.fields[name]
            assert isinstance(field, forms.JSONField)
            field.widget.attrs["rows"], field.decoder = 3, _Decoder
        self.fields["base_url"].required = False
        self.fields["base_url"].help_text = _("empty: the provider's own")
        self.fields["preset"].help_text = presets.of(self.instance.preset).note if self.instance.pk else ""

    @property
    def secrets(self) -> list[str]:
        return [line.strip() for line in self.cleaned_data["new_credentials"].splitlines() if line.strip()]

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if self.errors:
            return cleaned
        values = {name: cleaned[name] for name in _FIELDS} | {name: cleaned[name] or {} for name in _JSON}
        usual = presets.base_url(values["preset"], values["protocol"])
        values["base_url"] = (values["base_url"].strip() or usual).rstrip("/")
        try:
            self.spec = msgspec.convert({**values, "models": self._models(cleaned["served"])}, ChannelSpec)
            self.moved = self.stored is not None and services.is_moved(self.stored, self.spec)
            self.spec.private = self._may_be_private()
            services.check(self.spec)
            self._check_secrets()
        except msgspec.ValidationError as error:
            found = re.search(r"\$\.(\w+)", str(error))
            field = found.group(1) if found and found.group(1) in _JSON else "timeouts"
            raise ValidationError({field: str(error)}) from error
        except ValidationError as error:
            names = {"models": "served"}
            for name, problems in error.error_dict.items():
                self.add_error(names.get(name, name), ValidationError(problems))
        return cleaned

    def _may_be_private(self) -> bool:
        """What the operator's file allowed, for as long as it goes to where it went."""
        before, after = self.stored, self.spec
        same = before is not None and (before.base_url, before.proxy) == (after.base_url, after.proxy)
        return before is not None and before.private and same

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
    """Stored credentials: weighed, switched off and on, or removed. New ones are given above."""

    model = Credential
    extra = 0
    fields = ("shown", "weight", "enabled", "disabled_reason", "disabled_at", "created_at")
    readonly_fields = ("shown", "disabled_reason", "disabled_at", "created_at")
    verbose_name_plural = _("stored credentials")

    @admin.display(description=_("ends with"))
    def shown(self, credential: Credential) -> str:
        return f"…{credential.last_four}"

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


@admin.register(Channel)
class ChannelAdmin(Kept):
    form = ChannelForm
    list_display = ("name", "provider", "protocol", "base_url", "priority", "weight", "enabled", "credentials_in_use")
    list_filter = ("protocol", "enabled")
    search_fields = ("name", "base_url")
    ordering = ("priority", "name")
    inlines = (CredentialInline,)
    actions_list = ("health",)
    fieldsets = (
        (None, {"fields": ("name", "preset", "protocol", "base_url", "new_credentials", "served", "enabled")}),
        (_("Order and limits"), {"fields": ("priority", "weight", "on_hangup", "timeouts")}),
        (_("Rate limits"), {"fields": rates.FIELDS, "description": _("what the provider allows; empty for no limit")}),
        (_("Failures"), {"fields": ("retry_on", "auto_disable", "breaker")}),
        (_("What is sent"), {"fields": ("headers", "parameters", "proxy", "capabilities")}),
        (_("Costs"), {"fields": ("costs",)}),
    )

    @admin.display(description=_("provider"))
    def provider(self, channel: Channel) -> str:
        return presets.of(channel.preset).label

    @display(description=_("credentials"))  # type: ignore[untyped-decorator]  # unfold has no types
    def credentials_in_use(self, channel: Channel) -> str:
        rows = list(channel.credentials.all())
        used = sum(row.enabled and row.disabled_at is None for row in rows)
        return str(used) if used == len(rows) else f"{used} / {len(rows)}"

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).prefetch_related("credentials")

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
            services.set_credential(credential, enabled=credential.enabled, weight=credential.weight)

    # ---- health

    def get_urls(self) -> Any:
        own = [
            path("<str:kind>/<int:pk>/<str:verb>/", self.admin_site.admin_view(require_POST(self.mend)), name=_MEND),
        ]
        return [*own, *super().get_urls()]

    @action(description=_("Health"), icon="monitor_heart", url_path="health")  # type: ignore[untyped-decorator]
    def health(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        channels = Channel.objects.prefetch_related("credentials").order_by("priority", "name")
        context = {
            **self.admin_site.each_context(request),
            "title": _("Health of the channels"),
            "opts": self.model._meta,
            "sheets": [_shown(sheet) for sheet in standing.sheets(channels)],
            "minutes": MINUTES,
            "may_change": self.has_change_permission(request),
        }
        return TemplateResponse(request, "admin/relay/channel/health.html", context)

    def mend(self, request: HttpRequest, kind: str, pk: int, verb: str) -> HttpResponse:
        """Asks the provider now, or puts back into use what had been disabled by itself."""
        table = {"credential": Credential, "channel": Channel}.get(kind)
        if not self.has_change_permission(request) or table is None:
            raise PermissionDenied
        row: Any = get_object_or_404(table, pk=pk)
        channel = row.channel if isinstance(row, Credential) else row
        if verb == "enable":
            services.enable(row)
            messages.success(request, _("It is in use again."))
        elif verb == "probe":
            _say(request, probing.probe(row))
        self.log_change(request, channel, f"{verb} {kind} {row}")
        return HttpResponseRedirect(reverse("admin:relay_channel_health"))


_MEND = "relay_channel_mend"


def _say(request: HttpRequest, found: probing.Found) -> None:
    levels = {probing.Verdict.TAKEN: messages.SUCCESS, probing.Verdict.REFUSED: messages.ERROR}
    messages.add_message(request, levels.get(found.verdict, messages.WARNING), gettext(found.detail) % found.facts)


def _shown(sheet: standing.Sheet) -> dict[str, Any]:
    channel = sheet.channel
    return {
        "channel": channel,
        "provider": presets.of(channel.preset).label,
        "where": reverse("admin:relay_channel_change", args=[channel.pk]),
        "figures": sheet.whole,
        "lines": [_line(line) for line in sheet.lines],
    }


def _line(line: standing.Line) -> dict[str, Any]:
    kind = "credential" if isinstance(line.row, Credential) else "channel"
    label, colour = STATES[line.state]
    return {
        "line": line,
        "label": line.label or gettext("without a credential"),
        "state": label,
        "colour": colour,
        "processes": ", ".join(f"{STATES[name][0]}: {count}" for name, count in sorted(line.states.items())),
        "failures": [
            (KINDS.get(Kind(name), name), count)
            for name, count in sorted(line.figures.failures.items(), key=lambda item: -item[1])
        ],
        "mishaps": [(at, KINDS.get(Kind(name), name), detail) for at, name, detail in line.mishaps],
        "probe": reverse(f"admin:{_MEND}", args=[kind, line.row.pk, "probe"]),
        "enable": reverse(f"admin:{_MEND}", args=[kind, line.row.pk, "enable"]),
    }
