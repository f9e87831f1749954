"""Reads the operator's YAML into plain values, and says of everything that is wrong with it where it stands.

Scalars are taken as they are written, never as YAML's floats: a price of 0.1 is the text "0.1". No tag is obeyed.
Nothing here touches the database.
"""

import datetime as dt
import os
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import yaml
from django.utils.dateparse import parse_date, parse_datetime
from msgspec import UNSET, UnsetType
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from billing import money, prices
from billing.models import ModelKind
from billing.prices import PriceCard
from relay import services
from relay.channels import presets
from relay.channels.routing import Timeouts
from relay.models import OnHangup, Protocol
from relay.protocols import capabilities

LARGEST = 4 * 1024 * 1024
LATER_PROTOCOLS = frozenset({"midjourney", "suno", "kling", "luma", "runway"})
STORED = "stored:…"
LIST_PRICE = "list"  # as the end of a group's own price is written
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_PLAIN_TAGS = {"tag:yaml.org,2002:" + kind for kind in ("str", "seq", "map", "int", "float", "bool")}


class Problem(msgspec.Struct, frozen=True):
    """What is wrong with the file. `line` counts from 1; 0 where the place is no single line."""

    path: str
    message: str
    line: int = 0

    def __str__(self) -> str:
        place = f"line {self.line}: " if self.line else ""
        return f"{place}{self.path}: {self.message}" if self.path else f"{place}{self.message}"


class InvalidFile(Exception):
    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("; ".join(map(str, problems)))
        self.problems = problems


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


class _Bad(Exception):
    def __init__(self, node: Node, path: str, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(path, message, node.start_mark.line + 1)


Parser = Callable[[Node, str], Any]


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
    if root is None:
        raise InvalidFile([Problem("", "the file is empty")])
    problems: list[Problem] = []
    found = _fields(root, "", _sections(problems), problems)
    if problems:
        raise InvalidFile(problems)
    return File(**found)


# ---- scalars --------------------------------------------------------------------------------------------------------


def _text(node: Node, path: str) -> str:
    if not isinstance(node, ScalarNode):
        raise _Bad(node, path, "a text is expected here")
    if node.tag not in _PLAIN_TAGS:
        raise _Bad(node, path, f"the tag {node.tag[:40]!r} means nothing here")
    if node.style is None and node.value in ("", "~", "null", "Null", "NULL"):
        raise _Bad(node, path, "the value is missing")
    return str(node.value)


def _integer(node: Node, path: str) -> int:
    text = _text(node, path)
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise _Bad(node, path, f"{text[:40]!r} is not a whole number")
    return int(text)


def _count(node: Node, path: str) -> int:
    number = _integer(node, path)
    if number <= 0:
        raise _Bad(node, path, "a number above zero is expected")
    return number


def _seconds(node: Node, path: str) -> float:
    text = _text(node, path)
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,6})?", text):
        raise _Bad(node, path, f"{text[:40]!r} is not a number of seconds")
    return float(text) if "." in text else int(text)


def _boolean(node: Node, path: str) -> bool:
    text = _text(node, path)
    if text.lower() not in ("true", "false", "yes", "no", "on", "off"):
        raise _Bad(node, path, f"{text[:40]!r} is neither true nor false")
    return text.lower() in ("true", "yes", "on")


def _moment(node: Node, path: str) -> dt.datetime:
    text = _text(node, path)
    try:
        day = parse_date(text)
        found = dt.datetime.combine(day, dt.time()) if day else parse_datetime(text)
    except ValueError:
        found = None
    if found is None:
        raise _Bad(node, path, f"{text[:40]!r} is not a time such as 2027-01-31T12:00:00Z")
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def _limited(length: int) -> Parser:
    def parse(node: Node, path: str) -> str:
        text = _text(node, path)
        if len(text) > length or "\x00" in text:
            raise _Bad(node, path, f"at most {length} characters are allowed")
        return text

    return parse


def _name(node: Node, path: str) -> str:
    text = _text(node, path)
    if not 1 <= len(text) <= 200 or text != text.strip() or not text.isprintable():
        raise _Bad(node, path, "a name has 1 to 200 printable characters and no space at either end")
    return text


def _one_of(known: list[str]) -> Parser:
    def parse(node: Node, path: str) -> str:
        text = _text(node, path)
        if text not in known:
            raise _Bad(node, path, f"{text[:40]!r} is unknown; known are {', '.join(known)}")
        return text

    return parse


# ---- collections ----------------------------------------------------------------------------------------------------


def _pairs(node: Node, path: str) -> dict[str, Node]:
    if not isinstance(node, MappingNode):
        raise _Bad(node, path, "a mapping (name: value) is expected here")
    found: dict[str, Node] = {}
    for key, value in node.value:
        name = _text(key, path)
        if name in found:
            raise _Bad(key, _below(path, name), "this is given twice")
        found[name] = value
    return found


def _items(node: Node, path: str) -> list[Node]:
    if not isinstance(node, SequenceNode):
        raise _Bad(node, path, "a list is expected here")
    return list(node.value)


def _below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _fields(node: Node, path: str, parsers: Mapping[str, Parser], problems: list[Problem]) -> dict[str, Any]:
    """The mapping's fields that could be read; `problems` gets the others."""
    found: dict[str, Any] = {}
    try:
        pairs = _pairs(node, path)
    except _Bad as bad:
        problems.append(bad.problem)
        return found
    for name, value in pairs.items():
        place = _below(path, name)
        try:
            if name not in parsers:
                raise _Bad(value, place, f"this is unknown; known are {', '.join(parsers)}")
            found[name] = parsers[name](value, place)
        except _Bad as bad:
            problems.append(bad.problem)
    return found


def _mapping_of(parse: Parser) -> Parser:
    return lambda node, path: {name: parse(value, _below(path, name)) for name, value in _pairs(node, path).items()}


def _entries(kind: type[Any], parsers: Mapping[str, Parser], problems: list[Problem]) -> Parser:
    """A list of named things; each problem of each is reported."""

    def parse(node: Node, path: str) -> list[Any]:
        found: dict[str, Any] = {}
        for number, item in enumerate(_items(node, path)):
            place = f"{path}[{number}]"
            before = len(problems)
            fields = _fields(item, place, parsers, problems)
            if len(problems) > before:
                continue
            line = item.start_mark.line + 1
            if "name" not in fields:
                problems.append(Problem(place, "a name is needed", line))
            elif fields["name"] in found:
                problems.append(Problem(f"{place}.name", f"there are two of the name {fields['name']!r}", line))
            else:
                found[fields["name"]] = kind(path=place, line=line, **fields)
        return list(found.values())

    return parse


# ---- what the file is made of ---------------------------------------------------------------------------------------


def _protocol(node: Node, path: str) -> str:
    text = _text(node, path)
    if text in LATER_PROTOCOLS:
        raise _Bad(node, path, f"the protocol {text!r} is not available yet; {', '.join(Protocol.values)} is")
    return str(_one_of(list(Protocol.values))(node, path))


def _base_url(node: Node, path: str) -> str:
    url = _text(node, path)
    if problem := services.url_problem(url):
        raise _Bad(node, path, str(problem))
    return url.rstrip("/")


def _preset(node: Node, path: str) -> str:
    row = presets.BY_NAME.get(str(_one_of([row.name for row in presets.TABLE])(node, path)))
    if row is not None and row.unavailable:
        raise _Bad(node, path, row.unavailable)
    return row.name if row else ""


def _api_keys(node: Node, path: str) -> list[FileKey]:
    return [_file_key(item, f"{path}[{number}]") for number, item in enumerate(_items(node, path))]


def _file_key(node: Node, path: str) -> FileKey:
    """A credential, or `{key: …, weight: 2}`."""
    if not isinstance(node, MappingNode):
        return FileKey(_api_key(node, path))
    pairs = _pairs(node, path)
    if not {"key"} <= pairs.keys() <= {"key", "weight"}:
        raise _Bad(node, path, "a credential with a weight has `key` and `weight`, and nothing else")
    weight = _weight(pairs["weight"], _below(path, "weight")) if "weight" in pairs else 1
    return FileKey(_api_key(pairs["key"], _below(path, "key")), weight)


def _api_key(node: Node, path: str) -> str | Stored:
    """The secret that the entry names. No message shows a value."""
    text = _text(node, path)
    if text.startswith(STORED):
        return Stored(text.removeprefix(STORED))
    if text.startswith("env:"):
        variable = text.removeprefix("env:")
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", variable):
            raise _Bad(node, path, "env: is followed by the name of an environment variable")
        text = os.environ.get(variable, "").strip()
        if not text:
            raise _Bad(node, path, f"the environment variable {variable} is not set")
    if problem := services.secret_problem(text):
        raise _Bad(node, path, str(problem))
    return text


def _channel_models(node: Node, path: str) -> dict[str, str]:
    """A mapping of offered to upstream names, or a list of names that are the same on both sides."""
    if not isinstance(node, SequenceNode):
        for name, value in _pairs(node, path).items():
            _name(ScalarNode("tag:yaml.org,2002:str", name, value.start_mark, style='"'), _below(path, name))
        return dict(_mapping_of(_name)(node, path))
    found: dict[str, str] = {}
    for number, item in enumerate(node.value):
        name = _name(item, f"{path}[{number}]")
        if name in found:
            raise _Bad(item, f"{path}[{number}]", "this is given twice")
        found[name] = name
    return found


def _timeouts(node: Node, path: str) -> dict[str, float]:
    for name, value in _pairs(node, path).items():
        if name not in Timeouts.__struct_fields__:
            raise _Bad(value, _below(path, name), f"timeouts are {', '.join(Timeouts.__struct_fields__)}")
        if not services.SHORTEST_WAIT <= _seconds(value, _below(path, name)) <= services.LONGEST_WAIT:
            raise _Bad(value, _below(path, name), "a timeout is at least 0.001 and at most a day")
    return dict(_mapping_of(_seconds)(node, path))


def _written_card(node: Node, path: str) -> dict[str, Any]:
    """A price card as it is written, after a look at whether it is one."""
    written: dict[str, Any] = {}
    for name, value in _pairs(node, path).items():
        place = _below(path, name)
        if name == "tiers":
            written[name] = [_written_tier(item, f"{place}[{n}]") for n, item in enumerate(_items(value, place))]
        elif name == "per_image" and isinstance(value, MappingNode):
            pictures = _pairs(value, place).items()
            written[name] = {which: _written_price(name, price, _below(place, which)) for which, price in pictures}
        else:
            written[name] = _written_price(name, value, place)
    try:
        prices.parse_card(written)
    except money.InvalidAmount as error:
        raise _Bad(node, path, str(error)) from error
    return written


def _written_tier(node: Node, path: str) -> dict[str, str]:
    return {
        name: _text(value, _below(path, name)) if name == "above" else _written_price(name, value, _below(path, name))
        for name, value in _pairs(node, path).items()
    }


def _written_price(name: str, node: Node, path: str) -> str:
    text = _text(node, path)
    try:
        prices.parse_rate(name, text)
    except money.InvalidAmount as error:
        raise _Bad(node, path, str(error)) from error
    return text


def _price(node: Node, path: str) -> PriceCard:
    return prices.parse_card(_written_card(node, path))


def _costs(node: Node, path: str) -> dict[str, dict[str, Any]]:
    return dict(_mapping_of(_written_card)(node, path))


def _capabilities(node: Node, path: str) -> dict[str, Any]:
    written: dict[str, Any] = {}
    for name, value in _pairs(node, path).items():
        place = _below(path, name)
        listed = isinstance(value, SequenceNode)
        written[name] = [_text(item, place) for item in _items(value, place)] if listed else _text(value, place)
    try:
        return capabilities.read(written)
    except ValueError as error:
        raise _Bad(node, path, str(error)) from error


def _price_changes(node: Node, path: str) -> list[FileChange]:
    found: list[FileChange] = []
    for number, item in enumerate(_items(node, path)):
        place = f"{path}[{number}]"
        pairs = _pairs(item, place)
        if pairs.keys() != {"from", "price"}:
            raise _Bad(item, place, "a change of the price has `from` and `price`, and nothing else")
        at = _moment(pairs["from"], _below(place, "from"))
        if found and at <= found[-1].at:
            raise _Bad(item, _below(place, "from"), "changes are in the order of their moments")
        found.append(FileChange(item.start_mark.line + 1, at, _price(pairs["price"], _below(place, "price"))))
    return found


def _group_prices(node: Node, path: str) -> list[FileGroupPrice]:
    """In their order; of one group each after the one before."""
    found: list[FileGroupPrice] = []
    for number, item in enumerate(_items(node, path)):
        place = f"{path}[{number}]"
        pairs = _pairs(item, place)
        if not {"group", "price"} <= pairs.keys() <= {"group", "price", "from"}:
            raise _Bad(item, place, "a group's price has `group`, `price` and perhaps `from`, and nothing else")
        group = _group_name(pairs["group"], _below(place, "group"))
        at = _moment(pairs["from"], _below(place, "from")) if "from" in pairs else None
        before = next((entry for entry in reversed(found) if entry.group == group), None)
        if before is not None and (at is None or (before.at is not None and at <= before.at)):
            raise _Bad(item, place, f"the prices of the group {group!r} are in the order of their moments")
        price = _below(place, "price")
        ended = isinstance(pairs["price"], ScalarNode) and _text(pairs["price"], price) == LIST_PRICE
        card = None if ended else _price(pairs["price"], price)
        found.append(FileGroupPrice(item.start_mark.line + 1, group, at, card))
    return found


def _multiplier(node: Node, path: str) -> int:
    try:
        return prices.parse_multiplier(_text(node, path))
    except money.InvalidAmount as error:
        raise _Bad(node, path, str(error)) from error


def _group_name(node: Node, path: str) -> str:
    name = _name(node, path)
    if len(name) > 100:
        raise _Bad(node, path, "a group's name has at most 100 characters")
    return name


def _proxy(node: Node, path: str) -> str:
    """ "" takes it away."""
    if isinstance(node, ScalarNode) and node.style and not node.value:
        return ""
    text = _text(node, path)
    if problem := services.proxy_problem(text):
        raise _Bad(node, path, str(problem))
    return text.rstrip("/")


def _value(node: Node, path: str) -> Any:
    """What JSON would make of it. A text in quotes stays a text."""
    if isinstance(node, MappingNode):
        return {name: _value(value, _below(path, name)) for name, value in _pairs(node, path).items()}
    if isinstance(node, SequenceNode):
        return [_value(item, f"{path}[{number}]") for number, item in enumerate(node.value)]
    if isinstance(node, ScalarNode) and node.style is None and node.tag in _PLAIN_TAGS:
        if node.value.lower() in _WORDS:
            return _WORDS[node.value.lower()]
        if re.fullmatch(r"-?(0|[1-9][0-9]{0,17})", node.value):
            return int(node.value)
        if re.fullmatch(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]{1,2})?", node.value):
            return float(node.value)
    return _text(node, path)


def _values(node: Node, path: str) -> dict[str, Any]:
    return {name: _value(value, _below(path, name)) for name, value in _pairs(node, path).items()}


def _headers(node: Node, path: str) -> dict[str, str | None]:
    """Each a text, or null."""
    found: dict[str, str | None] = {}
    for name, value in _pairs(node, path).items():
        empty = isinstance(value, ScalarNode) and value.style is None and value.value.lower() in ("", "~", "null")
        found[name] = None if empty else _text(value, _below(path, name))
    return found


def _texts(node: Node, path: str) -> list[str]:
    return [_text(item, f"{path}[{number}]") for number, item in enumerate(_items(node, path))]


def _weight(node: Node, path: str) -> int:
    number = _integer(node, path)
    if not 0 <= number <= services.HEAVIEST:
        raise _Bad(node, path, f"a weight is a whole number from 0 to {services.HEAVIEST:,}")
    return number


def _rate(node: Node, path: str) -> int | None:
    """A rate limit; 0 takes it away."""
    number = _integer(node, path)
    if number < 0:
        raise _Bad(node, path, "a limit is a whole number above zero, or 0 for none")
    return number or None


_CHANNEL: dict[str, Parser] = {
    "name": _name,
    "preset": _preset,
    "protocol": _protocol,
    "base_url": _base_url,
    "api_keys": _api_keys,
    "priority": _integer,
    "weight": _weight,
    "on_hangup": _one_of(list(OnHangup.values)),
    "timeouts": _timeouts,
    "models": _channel_models,
    "costs": _costs,
    "rpm": _rate,
    "tpm": _rate,
    "parallel": _rate,
    "proxy": _proxy,
    "headers": _headers,
    "parameters": _values,
    "capabilities": _mapping_of(_values),
    "retry_on": _texts,
    "breaker": _mapping_of(_seconds),
    "auto_disable": _boolean,
    "enabled": _boolean,
}
_MODEL: dict[str, Parser] = {
    "name": _name,
    "kind": _one_of(list(ModelKind.values)),
    "price": _price,
    "valid_from": _moment,
    "price_changes": _price_changes,
    "group_prices": _group_prices,
    "provider": _limited(100),
    "description": _limited(500),
    "context_window": _count,
    "max_output": _count,
    "capabilities": _capabilities,
    "active": _boolean,
}
_GROUP: dict[str, Parser] = {"name": _group_name, "multiplier": _multiplier}


def _sections(problems: list[Problem]) -> dict[str, Parser]:
    return {
        "channels": _entries(FileChannel, _CHANNEL, problems),
        "models": _entries(FileModel, _MODEL, problems),
        "defaults": _mapping_of(_name),
        "groups": _entries(FileGroup, _GROUP, problems),
    }
