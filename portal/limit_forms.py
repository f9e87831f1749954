"""The forms of limits: caps by window, a temporary raise, the team's time zone."""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from billing import budgets, money, windows
from billing.models import Budget, Window

NAMES = {
    Window.DAY: _("Every day"),
    Window.WEEK: _("Every week, from Monday"),
    Window.MONTH: _("Every month"),
    Window.TOTAL: _("In total"),
}


def amount_of(text: str) -> int:
    """Nano-units of an amount that a person wrote. Raises ValidationError."""
    try:
        return money.parse(text)
    except money.InvalidAmount as error:
        raise ValidationError(_("Write an amount such as 20 or 20.50.")) from error


def _amount_input() -> forms.TextInput:
    return forms.TextInput({"inputmode": "decimal", "autocomplete": "off"})


class CapsForm(forms.Form):
    """A cap for each window, empty for none."""

    def __init__(self, data: Any = None, *, caps: Sequence[Budget]) -> None:
        super().__init__(data)
        stored = {budget.window: money.to_text(budget.cap, decimals=2) for budget in caps}
        for window in budgets.SHORTEST_FIRST:
            self.fields[window] = forms.CharField(
                label=NAMES[Window(window)],
                required=False,
                max_length=30,
                initial=stored.get(window, ""),
                widget=_amount_input(),
            )

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        for window in budgets.SHORTEST_FIRST:
            text = (cleaned.get(window) or "").strip()
            try:
                cleaned[window] = amount_of(text) if text else None
            except ValidationError as error:
                self.add_error(window, error)
        return cleaned

    def caps(self) -> dict[str, int | None]:
        return {window: self.cleaned_data[window] for window in budgets.SHORTEST_FIRST}


class RaiseForm(forms.Form):
    """So much more until a moment, on the team's clocks, and why."""

    extra = forms.CharField(label=_("Raise by"), max_length=30, widget=_amount_input())
    until = forms.DateTimeField(label=_("Until"), widget=forms.DateTimeInput({"type": "datetime-local"}))
    reason = forms.CharField(label=_("Reason"), max_length=500, help_text=_("It is kept with your name."))

    def __init__(self, data: Any = None, *, budget: Budget, zone: str) -> None:
        local = timezone.now().astimezone(windows.zone(zone)).replace(minute=0, second=0, microsecond=0, tzinfo=None)
        tomorrow = local + dt.timedelta(days=1)
        super().__init__(data, initial={"until": tomorrow.strftime("%Y-%m-%dT%H:%M")})
        self.fields["until"].help_text = _("On the clocks of %(zone)s") % {"zone": zone}
        self.budget = budget

    def clean_extra(self) -> int:
        return amount_of(self.cleaned_data["extra"].strip())


class ZoneForm(forms.Form):
    zone = forms.ChoiceField(label=_("Time zone"))

    def __init__(self, data: Any = None, *, zone: str) -> None:
        super().__init__(data, initial={"zone": zone})
        field = self.fields["zone"]
        assert isinstance(field, forms.ChoiceField)
        names = windows.known_zones()
        field.choices = [(name, name.replace("_", " ")) for name in (names if zone in names else (zone, *names))]
