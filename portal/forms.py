"""How forms are drawn, every field by the portal's own template; and the filters of the usage list."""

from typing import Any

from django import forms
from django.forms.renderers import TemplatesSetting
from django.utils.translation import gettext_lazy as _

from keys import selectors as key_selectors
from portal.models import Team
from portal.periods import DEFAULT, Period
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
    state = forms.ChoiceField(choices=[("", _("All states")), *CallState.choices], required=False, label=_("State"))

    def __init__(self, data: Any, *, team: Team, period: Period) -> None:
        super().__init__({"period": DEFAULT, **data.dict()})
        self.team, self.span = team, period
        keys = key_selectors.of_team(team.pk).order_by("name", "pk")
        self._offer("key", [("", _("All keys")), *((str(key.pk), str(key)) for key in keys)])
        models = selectors.models_called(team.pk, period.start, period.end)
        if (asked := data.get("model", "")[:200]) and asked not in models:
            models.append(asked)
        self._offer("model", [("", _("All models")), *((name, name) for name in models if name)])
        for name in ("period", "key", "model", "state"):
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
            state=asked.get("state", ""),
            search=asked.get("q", "").strip(),
        )

    @property
    def narrows(self) -> bool:
        """Whether anything besides the period is asked for."""
        return any(self.cleaned_data.get(name) for name in ("q", "key", "model", "state"))
