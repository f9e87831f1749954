"""Forms in which prices are typed: a field for each, lines for tiers and for pictures, and the moment of the change.

A price that moves by more than a factor is shown beside the old one and taken only with a confirmation that is typed.
"""

from collections.abc import Iterable
from typing import Any, TypeVar

from django import forms
from django.core.exceptions import ValidationError
from django.utils import timezone
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from unfold.widgets import UnfoldAdminSplitDateTimeWidget, UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from billing import money, prices
from billing.catalog_import import difference
from billing.catalog_import.difference import Figure
from billing.prices import PriceCard

PRICE = "price_"
_PER = {1: _("for each"), money.MILLION: _("per 1,000,000")}
Form = TypeVar("Form", bound="CardForm")
CARD_FIELDS = (*(PRICE + name for name in prices.WRITTEN), "pictures", "tiers", "valid_from", "confirm")


class CardForm(forms.ModelForm):  # type: ignore[type-arg]
    """`card` is what was typed, None where that is nothing. Made complete by `with_prices`."""

    pictures = forms.CharField(
        required=False,
        max_length=4000,
        label=_("Pictures by size and quality"),
        help_text=_("one per line, such as “1024x1024/low: 0.011”; any other picture costs what is given per image"),
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "spellcheck": "false"}),
    )
    tiers = forms.CharField(
        required=False,
        max_length=4000,
        label=_("Tiers for long inputs"),
        help_text=_(
            "one per line, such as “200000: input 2.50, output 15”: a call with more tokens of input than that is "
            "charged wholly at these prices; what a tier does not name stays"
        ),
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3, "spellcheck": "false"}),
    )
    valid_from = forms.SplitDateTimeField(
        required=False,
        label=_("Prices in force from"),
        help_text=_("UTC; empty for now. A price never changes backwards."),
        widget=UnfoldAdminSplitDateTimeWidget(),
    )
    confirm = forms.CharField(
        required=False,
        max_length=200,
        label=_("Confirmation"),
        help_text=_("the model's name, for a price that moves by more than ten times or becomes free"),
        widget=UnfoldAdminTextInputWidget(attrs={"autocomplete": "off", "spellcheck": "false"}),
    )
    card: PriceCard | None = None

    def show_card(self, card: PriceCard) -> None:
        """Begins the form with these prices."""
        written = prices.write_card(card)
        if isinstance(pictures := written.get("per_image"), dict):
            written["per_image"] = pictures.pop(prices.ANY_PICTURE)
            self.initial["pictures"] = "\n".join(f"{name}: {price}" for name, price in pictures.items())
        self.initial["tiers"] = _typed_tiers(written.pop("tiers", []))
        self.initial.update({PRICE + name: price for name, price in written.items()})

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        written: dict[str, Any] = {
            name: text for name in prices.WRITTEN if (text := (cleaned.get(PRICE + name) or "").strip())
        }
        for name, text in written.items():
            try:
                prices.parse_rate(name, text)
            except money.InvalidAmount as error:
                self.add_error(PRICE + name, ValidationError(str(error)))
        pictures, tiers = cleaned.get("pictures") or "", cleaned.get("tiers") or ""
        if not self.errors and (written or pictures or tiers):
            self._read_card(written, pictures, tiers)
        if (moment := cleaned.get("valid_from")) and moment < timezone.now():
            self.add_error("valid_from", ValidationError(_("This moment lies in the past.")))
        return cleaned

    def _read_card(self, written: dict[str, Any], pictures: str, tiers: str) -> None:
        field = "pictures"
        try:
            if named := _written_pictures(pictures):
                default = {prices.ANY_PICTURE: written["per_image"]} if "per_image" in written else {}
                written["per_image"] = named | default
                prices.parse_rates("per_image", written["per_image"])
            field = "tiers"
            self.card = prices.parse_card({**written, "tiers": _written_tiers(tiers)})
        except money.InvalidAmount as error:
            self.add_error(field, ValidationError(str(error)))

    def confirm_leap(self, before: PriceCard | None, after: PriceCard, name: str) -> None:
        """Asks for the model's name where the price leaps from what it was."""
        if before is None or not difference.why_stopped(before, after):
            return
        if (self.cleaned_data.get("confirm") or "").strip() != name:
            told = "; ".join(figure_words(figure) for figure in leaps(difference.figures(before, after)))
            problem = _("The price leaps: %(figures)s. Type the model's name here to confirm it.") % {"figures": told}
            self.add_error("confirm", ValidationError(problem))


def leaps(figures: Iterable[Figure]) -> list[Figure]:
    return [figure for figure in figures if figure.old != figure.new]


def figure_words(figure: Figure) -> str:
    """`input 0.15 → 150 (+99900.0 %)`."""
    above = gettext(" above %(tokens)s") % {"tokens": f"{figure.above:,}"} if figure.above else ""
    moved = f" ({percent(figure)})" if figure.tenths is not None else ""
    return f"{figure.bucket}{above} {amount(figure.bucket, figure.old)} → {amount(figure.bucket, figure.new)}{moved}"


def amount(bucket: str, rate: int | None) -> str:
    """A price as it is written, for as many units as its bucket is written for."""
    return "—" if rate is None else money.to_text(rate * prices.units_of(bucket) // money.MILLION)


def percent(figure: Figure) -> str:
    """`+12.5 %`; empty where it cannot be said."""
    if figure.tenths is None:
        return ""
    sign = "−" if figure.tenths < 0 else "+"
    whole, tenth = divmod(abs(figure.tenths), 10)
    return f"{sign}{whole:,}.{tenth} %"


def with_prices(form: type[Form]) -> type[Form]:
    """The form with a field for each price: a metaclass collects a form's fields, and these are a table's."""
    return type(f"Priced{form.__name__}", (form,), _price_fields())


def _price_fields() -> dict[str, forms.CharField]:
    return {
        PRICE + name: forms.CharField(
            required=False,
            label=name.replace("_", " ").capitalize(),
            help_text=_PER[units],
            widget=UnfoldAdminTextInputWidget(attrs={"inputmode": "decimal", "autocomplete": "off"}),
        )
        for name, (_bucket, units) in prices.WRITTEN.items()
    }


def _written_pictures(text: str) -> dict[str, str]:
    """Prices as they are typed, a line each: `1024x1024/low: 0.011`. Raises money.InvalidAmount."""
    found: dict[str, str] = {}
    for line in filter(None, (line.strip() for line in text.splitlines())):
        name, _colon, price = (part.strip() for part in line.rpartition(":"))
        if not name or not price or name in found or name == prices.ANY_PICTURE:
            raise money.InvalidAmount(f"{line[:60]!r} is not written as “1024x1024/low: 0.011”")
        found[name] = price
    return found


def _written_tiers(text: str) -> list[dict[str, str]]:
    """Tiers as they are typed, a line each: `200000: input 2.50, output 15`. Raises money.InvalidAmount."""
    found = []
    for line in filter(None, (line.strip() for line in text.splitlines())):
        above, colon, rest = line.partition(":")
        tier = {"above": above.strip()}
        for part in rest.split(","):
            name, _space, price = part.strip().partition(" ")
            if not colon or not price or name in tier:
                raise money.InvalidAmount(f"{line[:60]!r} is not written as “200000: input 2.50, output 15”")
            tier[name] = price.strip()
        found.append(tier)
    return found


def _typed_tiers(tiers: list[dict[str, Any]]) -> str:
    lines = []
    for tier in tiers:
        above = tier["above"]
        lines.append(f"{above}: " + ", ".join(f"{name} {price}" for name, price in tier.items() if name != "above"))
    return "\n".join(lines)
