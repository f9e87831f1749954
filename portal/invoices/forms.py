"""The forms of invoices: who they are written to, and which statement is wanted."""

import datetime as dt
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from billing import windows
from billing.invoices import statements
from billing.models import Account, BillingDetails

LONGEST = dt.timedelta(days=3660)
FIRST, LAST = dt.date(1970, 1, 2), dt.date(2999, 12, 30)  # days that are within these years in every zone
GROUPINGS = (
    ("day,kind,model,key", _("Day, type, model and key")),
    ("day,kind", _("Day and type")),
    ("day", _("Day")),
    ("kind", _("Type")),
    ("model", _("Model")),
    ("key", _("Key")),
    ("model,key", _("Model and key")),
)


class DetailsForm(forms.ModelForm):  # type: ignore[type-arg]
    class Meta:
        model = BillingDetails
        fields = ("name", "address", "tax_id", "email")
        widgets = {
            "name": forms.TextInput({"autocomplete": "organization"}),
            "address": forms.Textarea({"rows": 4, "autocomplete": "street-address"}),
            "email": forms.EmailInput({"autocomplete": "email"}),
        }


class StatementForm(forms.Form):
    """A period of days in a time zone, both days included, and how it is grouped."""

    start = forms.DateField(label=_("From"), widget=forms.DateInput({"type": "date"}))
    end = forms.DateField(label=_("Up to and with"), widget=forms.DateInput({"type": "date"}))
    zone = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)
    by = forms.CharField(required=False, label=_("Grouped by"), widget=forms.Select(choices=GROUPINGS))

    def __init__(self, data: Any = None, *, account: Account, zone: str, **kwargs: Any) -> None:
        super().__init__(data, **kwargs)
        self.account, self.home = account, zone
        self.initial["zone"] = zone

    def clean_zone(self) -> str:
        zone: str = self.cleaned_data["zone"] or self.home
        if zone not in windows.known_zones():
            raise ValidationError(_("Nobody knows this time zone."))
        return zone

    def clean_by(self) -> tuple[str, ...]:
        try:
            return statements.parse_groups(self.cleaned_data["by"])
        except ValueError as error:
            raise ValidationError(_("There is no such grouping.")) from error

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        start, end = cleaned.get("start"), cleaned.get("end")
        if start and end and not (FIRST <= start <= end <= LAST and end - start <= LONGEST):
            self.add_error("end", ValidationError(_("The period ends before it begins, or is longer than ten years.")))
        return cleaned

    def statement(self) -> statements.Statement:
        """What is asked for, of a form that is valid."""
        asked = self.cleaned_data
        return statements.Statement(
            self.account,
            midnight(asked["start"], asked["zone"]),
            midnight(asked["end"] + dt.timedelta(days=1), asked["zone"]),
            asked["zone"],
            asked["by"],
        )


def midnight(day: dt.date, zone: str) -> dt.datetime:
    """The moment (UTC) at which the day begins there."""
    noon = dt.datetime(day.year, day.month, day.day, 12, tzinfo=windows.zone(zone))
    return windows.start_of("day", noon, zone)
