"""The form that adds credit: an amount of the presets or another one, and a way to pay."""

from collections.abc import Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext_lazy as _

from billing import money
from billing.payments import orders
from billing.payments.orders import Choice, Range
from portal.limit_forms import amount_of


class TopUpForm(forms.Form):
    """`amount` in nano-units and `choice` are there once it is valid."""

    preset = forms.ChoiceField(label=_("Amount"), required=False)
    other = forms.CharField(
        label=_("Other amount"),
        required=False,
        max_length=24,
        widget=forms.TextInput({"inputmode": "decimal", "autocomplete": "off", "class": "input num"}),
    )
    method = forms.ChoiceField(label=_("Pay with"))

    def __init__(self, data: Any = None, *, choices: Sequence[Choice]) -> None:
        super().__init__(data)
        self.choices = list(choices)
        self.limits: Range = orders.limits()
        self._offer("preset", [(money.to_text(preset), money.to_text(preset)) for preset in self.limits.presets])
        self._offer("method", [(choice.name, choice.method.name) for choice in self.choices])
        self.fields["method"].initial = self.choices[0].name if self.choices else ""
        middle = self.limits.presets[len(self.limits.presets) // 2 :][:1]
        self.fields["preset"].initial = money.to_text(middle[0]) if middle else ""

    def _offer(self, name: str, offered: list[tuple[str, str]]) -> None:
        field = self.fields[name]
        assert isinstance(field, forms.ChoiceField)
        field.choices = offered

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        text = (cleaned.get("other") or "").strip() or cleaned.get("preset") or ""
        if not text and "preset" not in self.errors:
            self.add_error("other", ValidationError(_("Choose an amount.")))
        elif text:
            try:
                cleaned["amount"] = amount_of(text)
            except ValidationError as error:
                self.add_error("other", error)
        cleaned["choice"] = next((one for one in self.choices if one.name == cleaned.get("method")), None)
        return cleaned

    def presets(self) -> list[tuple[str, int, list[str]]]:
        """Each preset with its prices where they are in another currency than the ledger's."""
        shown = []
        for preset in self.limits.presets:
            prices = dict.fromkeys(
                f"{choice.sign}{choice.price(preset)}" for choice in self.choices if choice.rate.since is not None
            )
            shown.append((money.to_text(preset), preset, list(prices)))
        return shown
