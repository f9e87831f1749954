"""Writes channels, models, prices and groups as the file that would make them.

Secrets stay: a mark says which are stored.
"""

from typing import Any

import yaml
from django.utils import timezone
from yaml.nodes import ScalarNode

from billing import catalog, groups, prices
from billing.models import CatalogModel, PriceVersion
from keys import rates
from portal.configuration.reader import LIST_PRICE, STORED, plain
from relay import services
from relay.models import Channel, DefaultModel
from relay.services import ChannelSpec

_WHERE_OTHER = (
    "priority", "weight", "on_hangup", "timeouts", "proxy", "headers", "parameters", "retry_on", "breaker",
    "auto_disable", *rates.FIELDS, "enabled",
)  # fmt: skip
_FACTORY = ChannelSpec(name="", base_url="", models={})


class _Dumper(yaml.SafeDumper):
    """No anchors: an operator edits this by hand. A text that the reader would take for a number is in quotes."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> ScalarNode:
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain(text) == text else "'")


_Dumper.add_representer(str, _Dumper.represent_text)


def dump() -> str:
    """YAML that `apply` answers with “nothing to change”."""
    channels = Channel.objects.prefetch_related("credentials").order_by("name")
    content: dict[str, Any] = {
        "channels": [_channel(channel) for channel in channels],
        "models": [_model(row) for row in catalog.rows().values()],
    }
    if defaults := dict(DefaultModel.objects.order_by("endpoint").values_list("endpoint", "model")):
        content["defaults"] = defaults
    if found := groups.rows():
        content["groups"] = [
            {"name": group.name, "multiplier": prices.write_multiplier(group.multiplier)} for group in found.values()
        ]
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=120)


def _channel(channel: Channel) -> dict[str, Any]:
    spec = services.spec_of(channel)
    found: dict[str, Any] = {"name": spec.name}
    if spec.preset != _FACTORY.preset:
        found["preset"] = spec.preset
    found |= {"protocol": spec.protocol, "base_url": spec.base_url}
    marks = [(f"{STORED}{c.last_four}", c.weight) for c in sorted(channel.credentials.all(), key=lambda c: c.pk)]
    found["api_keys"] = [mark if weight == 1 else {"key": mark, "weight": weight} for mark, weight in marks]
    for name in _WHERE_OTHER:
        if getattr(spec, name) != getattr(_FACTORY, name):
            found[name] = getattr(spec, name)
    found["models"] = dict(spec.models)
    if spec.capabilities:
        found["capabilities"] = {name: dict(written) for name, written in spec.capabilities.items()}
    if spec.costs:
        found["costs"] = {name: dict(card) for name, card in spec.costs.items()}
    return found


def _model(row: CatalogModel) -> dict[str, Any]:
    found: dict[str, Any] = {"name": row.name, "kind": row.kind}
    for name in ("provider", "description", "context_window", "max_output", "capabilities"):
        if value := getattr(row, name):
            found[name] = value
    if not row.active:
        found["active"] = False
    if version := catalog.price_shown(row):
        found["price"] = _card(version)
        changes = [change for change in catalog.upcoming(row) if change.pk != version.pk]
        if version.valid_from > timezone.now():
            found["valid_from"] = version.valid_from.isoformat()
        if changes:
            found["price_changes"] = [{"from": c.valid_from.isoformat(), "price": _card(c)} for c in changes]
    if own := [entry for version in catalog.own_prices(row) if (entry := _group_price(version))]:
        found["group_prices"] = own
    return found


def _group_price(version: PriceVersion) -> dict[str, Any] | None:
    """None for what says nothing: that a group pays the list's price now."""
    planned = version.valid_from > timezone.now()
    if version.rates is None and not planned:
        return None
    entry: dict[str, Any] = {"group": str(version.group)}
    if planned:
        entry["from"] = version.valid_from.isoformat()
    return entry | {"price": LIST_PRICE if version.rates is None else _card(version)}


def _card(version: PriceVersion) -> dict[str, Any]:
    return prices.write_card(catalog.card_of(version))
