"""Reads the operator's YAML into plain values, and says of everything that is wrong with it where it stands.

Scalars are taken as they are written, never as YAML's floats: a price of 0.1 is the text "0.1". No tag is obeyed.
Nothing here touches the database.
"""

import datetime as dt
import os
import re
from typing import Any

import msgspec
import yaml
from msgspec import UNSET, UnsetType
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from billing import money, prices
from billing.models import ModelKind
from billing.prices import PriceCard
from portal.configuration import nodes
from portal.configuration.nodes import InvalidFile, Parser, Problem
from relay import services
from relay.channels import presets
from relay.channels.routing import Timeouts
from relay.models import OnHangup, Protocol
from relay.protocols import capabilities

LARGEST = 4 * 1024 * 1024
LATER_PROTOCOLS = frozenset({"midjourney", "suno", "kling", "luma", "runway"})
STORED = "stored:…"
LIST_PRICE = "list"  # as the end of a group's own price is written
_TOO_DEEP = Problem("", "values are nested too deeply, or one contains itself")
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}


class Stored(msgspec.Struct, frozen=True):
    """The mark `stored:…abcd`: keep the credentials that end so."""

    last_four: str


class FileKey(msgspec.Struct, frozen=True):
    """A credential, or the mark of stored ones, with its share of the channel's calls."""

    key: str | Stored
    weight: int = 1

    def __repr__(self) -> str:
        return "FileKey(…)"


class FileChannel(msgspec.Struct, kw_only=True):
    """A channel as the file has it. What it does not say is UNSET and stays as it is."""

    path: str
    line: int
    name: str
    protocol: str | UnsetType = UNSET
    base_url: str | UnsetType = UNSET
    preset: str | UnsetType = UNSET
    api_keys: list[FileKey] | UnsetType = UNSET
    priority: int | UnsetType = UNSET
    weight: int | UnsetType = UNSET
    on_hangup: str | UnsetType = UNSET
    timeouts: dict[str, float] | UnsetType = UNSET
    models: dict[str, str] | UnsetType = UNSET
    costs: dict[str, dict[str, Any]] | UnsetType = UNSET
    rpm: int | UnsetType | None = UNSET
    tpm: int | UnsetType | None = UNSET
    parallel: int | UnsetType | None = UNSET
    proxy: str | UnsetType = UNSET
    headers: dict[str, str | None] | UnsetType = UNSET
    parameters: dict[str, Any] | UnsetType = UNSET
    capabilities: dict[str, dict[str, Any]] | UnsetType = UNSET
    retry_on: list[str] | UnsetType = UNSET
    breaker: dict[str, float] | UnsetType = UNSET
    auto_disable: bool | UnsetType = UNSET
    enabled: bool = True

    def __repr__(self) -> str:
        return f"FileChannel({self.name})"


class FileChange(msgspec.Struct, frozen=True):
    """A price that takes effect at a moment."""

    line: int
    at: dt.datetime
    price: PriceCard


class FileGroupPrice(msgspec.Struct, frozen=True):
    """A group's own price of a model from a moment on, now where that is None; the list's again where `price` is."""

    line: int
    group: str
    at: dt.datetime | None
    price: PriceCard | None


class FileModel(msgspec.Struct, kw_only=True):
    """A model as the file has it. `valid_from` is when its price takes effect: now, where it is UNSET.

    `price_changes` follow that price, in the order of their moments.
    """

    path: str
    line: int
    name: str
    kind: str | UnsetType = UNSET
    price: PriceCard | UnsetType = UNSET
    valid_from: dt.datetime | UnsetType = UNSET
    price_changes: list[FileChange] | UnsetType = UNSET
    group_prices: list[FileGroupPrice] | UnsetType = UNSET
    provider: str | UnsetType = UNSET
    description: str | UnsetType = UNSET
    context_window: int | UnsetType = UNSET
    max_output: int | UnsetType = UNSET
    capabilities: dict[str, Any] | UnsetType = UNSET
    active: bool = True


class FileGroup(msgspec.Struct, kw_only=True):
    """A price group as the file has it; `multiplier` is parts per million."""

    path: str
    line: int
    name: str
    multiplier: int | UnsetType = UNSET


class File(msgspec.Struct):
    """The whole file. A section that it lacks is None."""

    channels: list[FileChannel] | None = None
    models: list[FileModel] | None = None
    defaults: dict[str, str] | None = None
    groups: list[FileGroup] | None = None


def read(text: str) -> File:
    """The file's content. Raises InvalidFile with all of its problems."""
    if len(text) > LARGEST:
        raise InvalidFile([Problem("", f"the file is larger than {LARGEST // 1024 // 1024} MiB")])
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise InvalidFile([Problem("", f"this is not YAML: {error.problem}", mark.line + 1 if mark else 0)]) from error
    except yaml.YAMLError as error:
        raise InvalidFile([Problem("", f"this is not YAML: {error}")]) from error
    except RecursionError as error:
        raise InvalidFile([_TOO_DEEP]) from error
    if root is None:
        raise InvalidFile([Problem("", "the file is empty")])
    problems: list[Problem] = []
    try:
        found = nodes.fields_of(root, "", _sections(problems), problems)
    except RecursionError as error:
        raise InvalidFile([_TOO_DEEP]) from error
    if problems:
        raise InvalidFile(problems)
    return File(**found)


# ---- what the file is made of ---------------------------------------------------------------------------------------


def _protocol(node: Node, path: str) -> str:
    text = nodes.text_of(node, path)
    if text in LATER_PROTOCOLS:
        raise nodes.Bad(node, path, f"the protocol {text!r} is not available yet; {', '.join(Protocol.values)} is")
    return str(nodes.one_of(list(Protocol.values))(node, path))


def _base_url(node: Node, path: str) -> str:
    url = nodes.text_of(node, path)
    if problem := services.url_problem(url):
        raise nodes.Bad(node, path, str(problem))
    return url.rstrip("/")


def _preset(node: Node, path: str) -> str:
    row = presets.BY_NAME.get(str(nodes.one_of([row.name for row in presets.TABLE])(node, path)))
    if row is not None and row.unavailable:
        raise nodes.Bad(node, path, row.unavailable)
    return row.name if row else ""


def _api_keys(node: Node, path: str) -> list[FileKey]:
    return [_file_key(item, f"{path}[{number}]") for number, item in enumerate(nodes.items_of(node, path))]


def _file_key(node: Node, path: str) -> FileKey:
    """A credential, or `{key: …, weight: 2}`."""
    if not isinstance(node, MappingNode):
        return FileKey(_api_key(node, path))
    pairs = nodes.pairs_of(node, path)
    if not {"key"} <= pairs.keys() <= {"key", "weight"}:
        raise nodes.Bad(node, path, "a credential with a weight has `key` and `weight`, and nothing else")
    weight = _weight(pairs["weight"], nodes.below(path, "weight")) if "weight" in pairs else 1
    return FileKey(_api_key(pairs["key"], nodes.below(path, "key")), weight)


def _api_key(node: Node, path: str) -> str | Stored:
    """The secret that the entry names. No message shows a value."""
    text = nodes.text_of(node, path)
    if text.startswith(STORED):
        return Stored(text.removeprefix(STORED))
    if text.startswith("env:"):
        variable = text.removeprefix("env:")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
            raise nodes.Bad(node, path, "env: is followed by the name of an environment variable")
        text = os.environ.get(variable, "").strip()
        if not text:
            raise nodes.Bad(node, path, f"the environment variable {variable} is not set")
    if problem := services.secret_problem(text):
        raise nodes.Bad(node, path, str(problem))
    return text


def _channel_models(node: Node, path: str) -> dict[str, str]:
    """A mapping of offered to upstream names, or a list of names that are the same on both sides."""
    if not isinstance(node, SequenceNode):
        for name, value in nodes.pairs_of(node, path).items():
            nodes.name_of(
                ScalarNode("tag:yaml.org,2002:str", name, value.start_mark, style='"'), nodes.below(path, name)
            )
        return dict(nodes.mapping_of(nodes.name_of)(node, path))
    found: dict[str, str] = {}
    for number, item in enumerate(node.value):
        name = nodes.name_of(item, f"{path}[{number}]")
        if name in found:
            raise nodes.Bad(item, f"{path}[{number}]", "this is given twice")
        found[name] = name
    return found


def _timeouts(node: Node, path: str) -> dict[str, float]:
    for name, value in nodes.pairs_of(node, path).items():
        if name not in Timeouts.__struct_fields__:
            raise nodes.Bad(value, nodes.below(path, name), f"timeouts are {', '.join(Timeouts.__struct_fields__)}")
        if not services.SHORTEST_WAIT <= nodes.seconds_of(value, nodes.below(path, name)) <= services.LONGEST_WAIT:
            raise nodes.Bad(value, nodes.below(path, name), "a timeout is at least 0.001 and at most a day")
    return dict(nodes.mapping_of(nodes.seconds_of)(node, path))


def _written_card(node: Node, path: str) -> dict[str, Any]:
    """A price card as it is written, after a look at whether it is one."""
    written: dict[str, Any] = {}
    for name, value in nodes.pairs_of(node, path).items():
        place = nodes.below(path, name)
        if name == "tiers":
            written[name] = [
                _written_tier(item, f"{place}[{n}]") for n, item in enumerate(nodes.items_of(value, place))
            ]
        elif name == "per_image" and isinstance(value, MappingNode):
            pictures = nodes.pairs_of(value, place).items()
            written[name] = {which: _written_price(name, price, nodes.below(place, which)) for which, price in pictures}
        else:
            written[name] = _written_price(name, value, place)
    try:
        prices.parse_card(written)
    except money.InvalidAmount as error:
        raise nodes.Bad(node, path, str(error)) from error
    return written


def _written_tier(node: Node, path: str) -> dict[str, str]:
    return {
        name: nodes.text_of(value, nodes.below(path, name))
        if name == "above"
        else _written_price(name, value, nodes.below(path, name))
        for name, value in nodes.pairs_of(node, path).items()
    }


def _written_price(name: str, node: Node, path: str) -> str:
    text = nodes.text_of(node, path)
    try:
        prices.parse_rate(name, text)
    except money.InvalidAmount as error:
        raise nodes.Bad(node, path, str(error)) from error
    return text


def _price(node: Node, path: str) -> PriceCard:
    return prices.parse_card(_written_card(node, path))


def _costs(node: Node, path: str) -> dict[str, dict[str, Any]]:
    return dict(nodes.mapping_of(_written_card)(node, path))


def _capabilities(node: Node, path: str) -> dict[str, Any]:
    written: dict[str, Any] = {}
    for name, value in nodes.pairs_of(node, path).items():
        place = nodes.below(path, name)
        listed = isinstance(value, SequenceNode)
        written[name] = (
            [nodes.text_of(item, place) for item in nodes.items_of(value, place)]
            if listed
            else nodes.text_of(value, place)
        )
    try:
        return capabilities.read(written)
    except ValueError as error:
        raise nodes.Bad(node, path, str(error)) from error


def _price_changes(node: Node, path: str) -> list[FileChange]:
    found: list[FileChange] = []
    for number, item in enumerate(nodes.items_of(node, path)):
        place = f"{path}[{number}]"
        pairs = nodes.pairs_of(item, place)
        if pairs.keys() != {"from", "price"}:
            raise nodes.Bad(item, place, "a change of the price has `from` and `price`, and nothing else")
        at = nodes.moment_of(pairs["from"], nodes.below(place, "from"))
        if found and at <= found[-1].at:
            raise nodes.Bad(item, nodes.below(place, "from"), "changes are in the order of their moments")
        found.append(FileChange(item.start_mark.line + 1, at, _price(pairs["price"], nodes.below(place, "price"))))
    return found


def _group_prices(node: Node, path: str) -> list[FileGroupPrice]:
    """In their order; of one group each after the one before."""
    found: list[FileGroupPrice] = []
    for number, item in enumerate(nodes.items_of(node, path)):
        place = f"{path}[{number}]"
        pairs = nodes.pairs_of(item, place)
        if not {"group", "price"} <= pairs.keys() <= {"group", "price", "from"}:
            raise nodes.Bad(item, place, "a group's price has `group`, `price` and perhaps `from`, and nothing else")
        group = _group_name(pairs["group"], nodes.below(place, "group"))
        at = nodes.moment_of(pairs["from"], nodes.below(place, "from")) if "from" in pairs else None
        before = next((entry for entry in reversed(found) if entry.group == group), None)
        if before is not None and (at is None or (before.at is not None and at <= before.at)):
            raise nodes.Bad(item, place, f"the prices of the group {group!r} are in the order of their moments")
        price = nodes.below(place, "price")
        ended = isinstance(pairs["price"], ScalarNode) and nodes.text_of(pairs["price"], price) == LIST_PRICE
        card = None if ended else _price(pairs["price"], price)
        found.append(FileGroupPrice(item.start_mark.line + 1, group, at, card))
    return found


def _multiplier(node: Node, path: str) -> int:
    try:
        return prices.parse_multiplier(nodes.text_of(node, path))
    except money.InvalidAmount as error:
        raise nodes.Bad(node, path, str(error)) from error


def _group_name(node: Node, path: str) -> str:
    name = nodes.name_of(node, path)
    if len(name) > 100:
        raise nodes.Bad(node, path, "a group's name has at most 100 characters")
    return name


def _proxy(node: Node, path: str) -> str:
    """ "" takes it away."""
    if isinstance(node, ScalarNode) and node.style and not node.value:
        return ""
    text = nodes.text_of(node, path)
    if problem := services.proxy_problem(text):
        raise nodes.Bad(node, path, str(problem))
    return text.rstrip("/")


def _value(node: Node, path: str) -> Any:
    """What JSON would make of it. A text in quotes stays a text."""
    if isinstance(node, MappingNode):
        return {name: _value(value, nodes.below(path, name)) for name, value in nodes.pairs_of(node, path).items()}
    if isinstance(node, SequenceNode):
        return [_value(item, f"{path}[{number}]") for number, item in enumerate(node.value)]
    if isinstance(node, ScalarNode) and node.style is None and node.tag in nodes.PLAIN_TAGS:
        found = plain(node.value)
        return found if found != node.value else nodes.text_of(node, path)
    return nodes.text_of(node, path)


def plain(text: str) -> Any:
    """What a text without quotes stands for, where any value may stand: a word, a number, or itself."""
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if re.fullmatch(r"-?(0|[1-9][0-9]{0,99})", text):
        return int(text)
    if re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?", text):
        return float(text)
    return text


def _values(node: Node, path: str) -> dict[str, Any]:
    return {name: _value(value, nodes.below(path, name)) for name, value in nodes.pairs_of(node, path).items()}


def _headers(node: Node, path: str) -> dict[str, str | None]:
    """Each a text, or null."""
    found: dict[str, str | None] = {}
    for name, value in nodes.pairs_of(node, path).items():
        empty = isinstance(value, ScalarNode) and value.style is None and value.value.lower() in ("", "~", "null")
        found[name] = None if empty else nodes.text_of(value, nodes.below(path, name))
    return found


def _texts(node: Node, path: str) -> list[str]:
    return [nodes.text_of(item, f"{path}[{number}]") for number, item in enumerate(nodes.items_of(node, path))]


def _weight(node: Node, path: str) -> int:
    number = nodes.integer_of(node, path)
    if not 0 <= number <= services.HEAVIEST:
        raise nodes.Bad(node, path, f"a weight is a whole number from 0 to {services.HEAVIEST:,}")
    return number


def _rate(node: Node, path: str) -> int | None:
    """A rate limit; 0 takes it away."""
    number = nodes.integer_of(node, path)
    if number < 0:
        raise nodes.Bad(node, path, "a limit is a whole number above zero, or 0 for none")
    return number or None


_CHANNEL: dict[str, Parser] = {
    "name": nodes.name_of,
    "preset": _preset,
    "protocol": _protocol,
    "base_url": _base_url,
    "api_keys": _api_keys,
    "priority": nodes.integer_of,
    "weight": _weight,
    "on_hangup": nodes.one_of(list(OnHangup.values)),
    "timeouts": _timeouts,
    "models": _channel_models,
    "costs": _costs,
    "rpm": _rate,
    "tpm": _rate,
    "parallel": _rate,
    "proxy": _proxy,
    "headers": _headers,
    "parameters": _values,
    "capabilities": nodes.mapping_of(_values),
    "retry_on": _texts,
    "breaker": nodes.mapping_of(nodes.seconds_of),
    "auto_disable": nodes.boolean_of,
    "enabled": nodes.boolean_of,
}
_MODEL: dict[str, Parser] = {
    "name": nodes.name_of,
    "kind": nodes.one_of(list(ModelKind.values)),
    "price": _price,
    "valid_from": nodes.moment_of,
    "price_changes": _price_changes,
    "group_prices": _group_prices,
    "provider": nodes.limited(100),
    "description": nodes.limited(500),
    "context_window": nodes.count_of,
    "max_output": nodes.count_of,
    "capabilities": _capabilities,
    "active": nodes.boolean_of,
}
_GROUP: dict[str, Parser] = {"name": _group_name, "multiplier": _multiplier}


def _sections(problems: list[Problem]) -> dict[str, Parser]:
    return {
        "channels": nodes.named_entries(FileChannel, _CHANNEL, problems),
        "models": nodes.named_entries(FileModel, _MODEL, problems),
        "defaults": nodes.mapping_of(nodes.name_of),
        "groups": nodes.named_entries(FileGroup, _GROUP, problems),
    }
