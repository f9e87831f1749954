"""The list prices that come with the package `genai-prices`: US dollars, offline, as new as the installed version.

Its units are turned into our buckets; what has none is noted with the model, and a model whose price would be wrong
without it is left out, with the reason. Prices by the time of day become the dearest of the day.
"""

import re
from collections.abc import Collection, Iterator
from decimal import Decimal
from typing import Any

import genai_prices
from django.utils import timezone
from genai_prices.data import providers
from genai_prices.types import ModelInfo, ModelPrice, Provider, StartDateConstraint, TimeOfDateConstraint

from billing import money
from billing.catalog_import.values import Listed, Listing
from billing.prices import PriceCard, Tier

NAME = "genai-prices"
# The package's name of a price, our bucket, and how many of our units it is for.
UNITS = {
    "input_mtok": ("input", money.MILLION),
    "cache_read_mtok": ("cache_read", money.MILLION),
    "cache_write_mtok": ("cache_write", money.MILLION),
    "cache_write_1h_mtok": ("cache_write_1h", money.MILLION),
    "output_mtok": ("output", money.MILLION),
    "output_reasoning_mtok": ("reasoning", money.MILLION),
    "input_audio_mtok": ("audio_in", money.MILLION),
    "output_audio_mtok": ("audio_out", money.MILLION),
    "input_mchars": ("characters", money.MILLION),
    "audio_hours": ("seconds", 3600),
    "input_audio_hours": ("seconds", 3600),
    "web_searches_kcount": ("searches", 1000),
}
# A fee for each request is the price of a call only where there is no other: beside others, `per_call` is what keys
# that pay by the call pay instead of them.
REQUESTS = "requests_kcount"
# What tells of a model's kind, in the order in which it is asked; else it chats.
_KINDS = (
    (re.compile(r"rerank"), "rerank"),
    (re.compile(r"moderation|guard"), "moderation"),
    (re.compile(r"embed|^voyage|\bbge-|\be5-|\bgte-"), "embedding"),
    (re.compile(r"whisper|transcri|speech-to-text|\bscribe"), "transcription"),
    (re.compile(r"\btts\b|text-to-speech|orpheus|playai"), "speech"),
    (re.compile(r"gpt-image|dall-e|imagen|flux|stable-diffusion"), "image"),
    (re.compile(r"\bveo\b|sora"), "video"),
)


class _Unfit(Exception):
    """No card can be made of the price; the message says why."""


def read(*, known: Collection[str] = ()) -> Listing:
    """Everything that the package lists, and the models of these names that it knows by another."""
    models: list[Listed] = []
    skipped: list[str] = []
    for provider in providers:
        for name, info in _named(provider, known):
            try:
                models.append(_listed(name, info, provider))
            except (_Unfit, money.InvalidAmount) as reason:
                skipped.append(f"{provider.id} {name}: {reason}")
    edition = f"{NAME} {genai_prices.__version__}"
    return Listing(
        source=NAME, edition=edition, currency="USD", models=tuple(models), complete=True, skipped=tuple(skipped)
    )


def _named(provider: Provider, known: Collection[str]) -> Iterator[tuple[str, ModelInfo]]:
    ids = {info.id for info in provider.models}
    yield from ((info.id, info) for info in provider.models)
    for name in known:
        if name not in ids and (info := provider.find_model(name)) is not None:
            yield name, info


def _listed(name: str, info: ModelInfo, provider: Provider) -> Listed:
    if len(name) > 200 or not name.isprintable():
        raise _Unfit("its name is too long")
    price, notes = _price(info)
    card, left = _card(price)
    if info.deprecated:
        notes.append("deprecated by the provider")
    if info.price_variants:
        notes.append("prices of other ways of processing, such as batches, are left out")
    notes += [f"{unit} is left out" for unit in left]
    return Listed(
        model=name,
        card=card,
        provider=provider.id,
        label=provider.name[:100],
        kind=_kind(name, price),
        description=" ".join((info.description or info.name or "").split())[:500],
        context_window=info.context_window,
        notes=tuple(notes),
    )


def _price(info: ModelInfo) -> tuple[ModelPrice, list[str]]:
    """The price of today, by whatever hour it is dearest, and what is known of later ones."""
    if isinstance(info.prices, ModelPrice):
        return info.prices, []
    today = timezone.now().date()
    due, hourly, notes = info.prices[:1], [], []
    for entry in info.prices:
        if isinstance(entry.constraint, TimeOfDateConstraint):
            hourly.append(entry)
        elif isinstance(entry.constraint, StartDateConstraint) and entry.constraint.start_date > today:
            notes.append(f"another price from {entry.constraint.start_date}")
        else:
            due = [entry]
    if hourly:
        notes.append("its price depends on the hour: the dearest")
    return max((entry.prices for entry in [*due, *hourly]), key=_dearness), notes


def _dearness(price: ModelPrice) -> Decimal:
    return sum((_base(value) for value in vars(price).values() if value is not None), Decimal(0))


def _base(value: Any) -> Decimal:
    return value if isinstance(value, Decimal) else value.base


def _card(price: ModelPrice) -> tuple[PriceCard, list[str]]:
    """The card, and the units that have no bucket in it. Raises _Unfit, or money.InvalidAmount."""
    written = {name: value for name, value in vars(price).items() if value is not None}
    rates: dict[str, int] = {}
    tiers: dict[int, dict[str, int]] = {}
    for name, value in written.items():
        if name not in UNITS:
            continue
        bucket, units = UNITS[name]
        rates[bucket] = _rate(_base(value), bucket, units)
        for tier in () if isinstance(value, Decimal) else value.tiers:
            tiers.setdefault(tier.start, {})[bucket] = _rate(tier.price, bucket, units)
    if not rates and REQUESTS in written:
        rates["calls"] = _rate(_base(written.pop(REQUESTS)), "calls", 1000)
    if not rates:
        raise _Unfit(f"there is no bucket for {', '.join(sorted(written))}" if written else "no price is given")
    left = sorted(written.keys() - UNITS.keys())
    for name in left:
        _check_covered(name, written)
    return PriceCard(rates, tuple(Tier(above, tiers[above]) for above in sorted(tiers) if above)), left


def _check_covered(name: str, written: dict[str, Any]) -> None:
    """Tokens of pictures and films are counted as any others, so they must not be dearer; and a fee for each request
    comes on top of the tokens, which nobody would pay."""
    if name == REQUESTS:
        raise _Unfit(f"there is no bucket for {name} beside other prices")
    side = name.partition("_")[0]
    if name.endswith("_mtok") and side in ("input", "output") and "_tool_" not in name:
        plain = written.get(f"{side}_mtok")
        if plain is None or _base(plain) < _base(written[name]):
            raise _Unfit(f"there is no bucket for {name}, which is dearer than other tokens")


def _rate(price: Decimal, bucket: str, units: int) -> int:
    """Nano-units per 1,000,000, as fine as the price of one unit can be written, rounded up."""
    numerator, denominator = (price * money.NANO).as_integer_ratio()
    per = money.MILLION if units != money.MILLION else 1
    rate = money.round_up(numerator, denominator * (units if per > 1 else 1)) * per
    if not 0 <= rate < money.LIMIT:
        raise money.InvalidAmount(f"{bucket}: the price is too large for the ledger")
    return rate


def _kind(name: str, price: ModelPrice) -> str:
    text = name.lower()
    for pattern, kind in _KINDS:
        if pattern.search(text):
            return kind
    units = {unit for unit, value in vars(price).items() if value is not None}
    if "input_mchars" in units and "output_mtok" not in units:
        return "speech"
    if units & {"audio_hours", "input_audio_hours"} and "output_mtok" not in units:
        return "transcription"
    return "chat"
