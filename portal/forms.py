"""How forms are drawn, every field by the portal's own template; and the filters of the usage list."""

import datetime as dt
from typing import Any

import msgspec
from django import forms
from django.forms.renderers import TemplatesSetting
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from billing import windows
from keys import selectors as key_selectors
from portal import periods
from portal.models import Team
from portal.periods import Period
from relay import selectors
from relay.models import CallState
from relay.selectors import Wanted

PERIODS = (("24h", _("24 hours")), ("7d", _("7 days")), ("30d", _("30 days")), ("90d", _("90 days")))


class FieldRenderer(TemplatesSetting):
    field_template_name = "parts/field.html"


class UsageFilter(forms.Form):
    """The filters of the usage list, kept in its address. A value that is not offered filters nothing."""

    q = forms.CharField(
        required=False,
        max_length=128,
        widget=forms.TextInput(
            {"type": "search", "class": "input", "placeholder": _("Request id"), "aria-label": _("Search request id")}
        ),
    )
    period = forms.ChoiceField(choices=PERIODS, required=False, label=_("Period"))
    key = forms.ChoiceField(required=False, label=_("Key"))
    model = forms.ChoiceField(required=False, label=_("Model"))
    channel = forms.ChoiceField(required=False, label=_("Channel"))
    state = forms.ChoiceField(choices=[("", _("All states")), *CallState.choices], required=False, label=_("State"))

    def __init__(self, data: Any, *, team: Team, period: Period) -> None:
        super().__init__({**data.dict(), "period": period.name})
        self.team, self.span = team, period
        if period.name not in periods.NAMES:
            self._offer("period", [*PERIODS, (period.name, period.name)])
        keys = key_selectors.of_team(team.pk).order_by("name", "pk")
        self._offer("key", [("", _("All keys")), *((str(key.pk), str(key)) for key in keys)])
        models, channels = selectors.offered(team.pk, period.start, period.end)
        for name, every, found in (("model", _("All models"), models), ("channel", _("All channels"), channels)):
            if (asked := data.get(name, "")[:200]) and asked not in found:
                found.append(asked)
            self._offer(name, [("", every), *((value, value) for value in found)])
        for name in ("period", "key", "model", "channel", "state"):
            field = self.fields[name]
            field.widget.attrs |= {"class": "input", "aria-label": field.label}

    def _offer(self, name: str, choices: list[tuple[str, Any]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = choices

    def wanted(self) -> Wanted:
        """The calls that the filters ask for."""
        self.is_valid()
        asked = self.cleaned_data
        return Wanted(
            team=self.team.pk,
            start=self.span.start,
            end=self.span.end,
            key=int(asked["key"]) if asked.get("key") else None,
            model=asked.get("model", ""),
            channel=asked.get("channel", ""),
            state=asked.get("state", ""),
            search=asked.get("q", "").strip(),
        )

    @property
    def kept(self) -> list[tuple[str, str]]:
        """What is filtered by, for forms that go on from here."""
        names = ("key", "model", "channel", "state")
        return [(name, self.cleaned_data[name]) for name in names if self.cleaned_data.get(name)]

    @property
    def narrows(self) -> bool:
        """Whether anything besides the period is asked for."""
        return any(self.cleaned_data.get(name) for name in ("q", "key", "model", "channel", "state"))


ISO = "%Y-%m-%d"


def _date() -> forms.DateInput:
    """Browsers want the one form in every language."""
    return forms.DateInput({"type": "date", "class": "input"}, format=ISO)


class ExportForm(forms.Form):
    """What goes into a file: days by the clocks of a zone, and how sums are told apart."""

    start = forms.DateField(label=_("From"), widget=_date(), input_formats=[ISO])
    end = forms.DateField(label=_("To"), widget=_date(), input_formats=[ISO])
    zone = forms.ChoiceField(label=_("Days of"), widget=forms.Select({"class": "input"}))
    by = forms.MultipleChoiceField(
        choices=[
            ("day", _("Day")),
            ("hour", _("Hour")),
            ("model", _("Model")),
            ("key", _("Key")),
            ("channel", _("Channel")),
            ("state", _("State")),
        ],
        widget=forms.CheckboxSelectMultiple,
        label=_("Sums by"),
    )

    def __init__(self, data: Any = None, *, team: Team, period: Period) -> None:
        days = {"start": period.start.date(), "end": period.buckets[-1].date()}
        initial = {**days, "zone": team.time_zone, "by": ["day", "model"]}
        super().__init__(data, initial=initial, label_suffix="")
        zone = self.fields["zone"]
        assert isinstance(zone, forms.ChoiceField)
        asked = [name for name in (self.data.get("zone", ""),) if name in windows.known_zones()]
        zone.choices = [(name, name) for name in dict.fromkeys(("UTC", team.time_zone, *asked))]

    @property
    def dates(self) -> list[Any]:
        return [self[name] for name in ("start", "end", "zone")]

    def applied(self, wanted: Wanted) -> tuple[Wanted, tuple[dt.date, dt.date] | None]:
        """The same calls over the days that are asked for; over the period of `wanted` where none are."""
        self.is_valid()
        start, end = self.cleaned_data.get("start"), self.cleaned_data.get("end")
        if start is None or end is None:
            return wanted, None
        last = timezone.now().date() + dt.timedelta(days=1)
        start, end = (min(max(day, periods.EARLIEST), last) for day in (start, end))
        end = max(start, end)
        zone = windows.zone(self.cleaned_data.get("zone") or "UTC")
        low, high = periods.midnight(start, zone), periods.midnight(end + dt.timedelta(days=1), zone)
        return msgspec.structs.replace(wanted, start=low, end=high), (start, end)
