"""The form of a key: what a person writes, as a `Spec`. The rules themselves are `keys.services.check`'s."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import formats, timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from msgspec import UNSET

from billing import money
from billing.models import Budget, Window
from keys import rates, services
from keys.models import ApiKey, BillingMode, KeyType, PaymentType
from keys.services import Spec

NEVER, ON_DATE = "never", "date"
AFTER_DAYS = (30, 90, 365)
RESETS = (
    (Window.MONTH.value, _("Every month")),
    (Window.WEEK.value, _("Every week")),
    (Window.DAY.value, _("Every day")),
    (Window.TOTAL.value, _("Never (total)")),
)
# Where the service names a field that the form calls otherwise.
_FIELDS = {"expires_at": "expires_on"}


def _rate(label: Any) -> forms.IntegerField:
    return forms.IntegerField(
        label=label, required=False, widget=forms.TextInput({"inputmode": "numeric", "autocomplete": "off"})
    )


class KeyForm(forms.Form):
    """Makes a key, or with `key` changes one, whose type and payment stay what they are.

    Of a key with caps for several windows the caps stay what they are, too: they have a page of their own.
    """

    name = forms.CharField(label=_("Name"), max_length=100, widget=forms.TextInput({"autocomplete": "off"}))
    expires = forms.ChoiceField(label=_("Expires"))
    expires_on = forms.DateField(
        label=_("Last day (UTC)"), required=False, widget=forms.DateInput({"type": "date"}, format="%Y-%m-%d")
    )
    billing = forms.ChoiceField(label=_("Billing"), choices=BillingMode.choices)
    type = forms.ChoiceField(label=_("Key type"), choices=KeyType.choices, initial=KeyType.STANDARD)
    payment = forms.ChoiceField(label=_("Payment type"), choices=PaymentType.choices, initial=PaymentType.PREPAID)
    quota = forms.CharField(
        label=_("Quota"),
        required=False,
        max_length=30,
        help_text=_("Calls stop at the last unit. Empty for no quota."),
        widget=forms.TextInput({"inputmode": "decimal", "autocomplete": "off"}),
    )
    window = forms.ChoiceField(label=_("Resets"), choices=RESETS)
    models = forms.CharField(
        label=_("Models"),
        required=False,
        max_length=4000,
        help_text=_("Names, separated by commas"),
        widget=forms.TextInput({"autocomplete": "off", "spellcheck": "false"}),
    )
    endpoints = forms.MultipleChoiceField(label=_("Endpoints"), required=False, widget=forms.CheckboxSelectMultiple)
    networks = forms.CharField(
        label=_("Allowed addresses"),
        required=False,
        max_length=4000,
        help_text=_("IP or range, such as 203.0.113.0/24"),
        widget=forms.TextInput({"autocomplete": "off", "spellcheck": "false"}),
    )
    rpm = _rate(_("Requests a minute"))
    tpm = _rate(_("Tokens a minute"))
    parallel = _rate(_("Calls at once"))

    def __init__(
        self,
        data: Any = None,
        *,
        endpoints: Sequence[str],
        known_models: set[str],
        key: ApiKey | None = None,
        quotas: Sequence[Budget] = (),
    ) -> None:
        super().__init__(data, initial=_initial(key, quotas[0] if quotas else None))
        if data is None:
            self.fields["name"].widget.attrs["autofocus"] = True
        self.key, self.known_models = key, known_models
        self._choice("expires").choices = _expiry_choices()
        has = key.endpoints if key else ()
        self._choice("endpoints").choices = [(name, name) for name in dict.fromkeys([*endpoints, *has])]
        self.fields["models"].widget.attrs["placeholder"] = _("All models")
        self.fields["networks"].widget.attrs["placeholder"] = _("Any address")
        for name in rates.FIELDS:
            self.fields[name].widget.attrs["placeholder"] = _("Any number")
        if key is not None:
            del self.fields["type"], self.fields["payment"]
            if key.type != KeyType.RESTRICTED and not has:  # programs may give endpoints to a key of any type
                del self.fields["endpoints"]
        if len(quotas) > 1:
            del self.fields["quota"], self.fields["window"]

    def _choice(self, name: str) -> forms.ChoiceField:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        return field

    def clean_quota(self) -> int | None:
        """Nano-units, None where no quota is wanted."""
        text = self.cleaned_data["quota"].strip()
        if not text:
            return None
        try:
            return money.parse(text)
        except money.InvalidAmount as error:
            raise ValidationError(_("Write an amount such as 20 or 20.50.")) from error

    def clean(self) -> dict[str, Any]:
        """Asks the service too, even where a field could not be read: all that is wrong is said at once."""
        cleaned = super().clean() or {}
        if cleaned.get("expires") == ON_DATE and not cleaned.get("expires_on") and "expires_on" not in self.errors:
            self.add_error("expires_on", _("Choose the last day on which the key works."))
        try:
            services.check(self.spec(), known_models=self.known_models, key=self.key)
        except ValidationError as error:
            for field, problems in error.error_dict.items():
                shown = _FIELDS.get(field, field)
                if shown not in self.errors:
                    self.add_error(shown, list(problems))
        return cleaned

    def spec(self) -> Spec:
        """What is asked for; of a form with errors, what could be read."""
        asked = self.cleaned_data
        kind = self.key.type if self.key else asked.get("type", "")
        return Spec(
            name=asked.get("name", ""),
            type=kind,
            payment=self.key.payment if self.key else asked.get("payment", ""),
            billing=asked.get("billing", ""),
            quota=asked.get("quota") if "quota" in self.fields else UNSET,
            window=asked.get("window", "") if "window" in self.fields else UNSET,
            expires_at=self._expires_at(),
            models=_names(asked.get("models", "")),
            endpoints=asked.get("endpoints", []) if self.key or kind == KeyType.RESTRICTED else (),
            networks=_names(asked.get("networks", "")),
            **{name: asked.get(name) for name in rates.FIELDS},
        )

    @property
    def has_rates(self) -> bool:
        """Whether a rate limit is written, rightly or wrongly."""
        return any(self[name].value() or self[name].errors for name in rates.FIELDS)

    def _expires_at(self) -> dt.datetime | None:
        choice = self.cleaned_data.get("expires", NEVER)
        day: dt.date | None = self.cleaned_data.get("expires_on")
        if choice not in (NEVER, ON_DATE):
            return timezone.now() + dt.timedelta(days=int(choice))
        if choice == NEVER or day is None:
            return None
        if self.key and self.key.expires_at and self.key.expires_at.date() == day:
            return self.key.expires_at
        return dt.datetime.combine(day, dt.time(23, 59, 59), dt.UTC)


def _initial(key: ApiKey | None, quota: Budget | None) -> dict[str, Any]:
    if key is None:
        return {"expires": "90", "quota": "20.00", "window": Window.MONTH}
    return {
        "name": key.name,
        "expires": ON_DATE if key.expires_at else NEVER,
        "expires_on": key.expires_at.date() if key.expires_at else None,
        "billing": key.billing,
        "quota": money.to_text(quota.cap, decimals=2) if quota else "",
        "window": quota.window if quota else Window.MONTH,
        "models": ", ".join(key.models),
        "endpoints": key.endpoints,
        "networks": ", ".join(key.networks),
        **{name: getattr(key, name) for name in rates.FIELDS},
    }


def _expiry_choices() -> list[tuple[str, Any]]:
    today = timezone.now()
    after = [
        (
            str(days),
            _("%(days)d days, %(date)s")
            % {"days": days, "date": formats.date_format(today + dt.timedelta(days=days), gettext("j M Y"))},
        )
        for days in AFTER_DAYS
    ]
    return [(NEVER, _("Never")), *after, (ON_DATE, _("On a date"))]


def _names(text: str) -> list[str]:
    """Comma or white space separates; a name given twice counts once."""
    return list(dict.fromkeys(text.replace(",", " ").replace("，", " ").replace("、", " ").split()))
