"""The nodes of a YAML file as plain values: scalars, mappings and lists, and what is wrong with one and where.

A parser takes a node and its path and returns a value; it raises `Bad`, which has the line. Scalars are taken as they
are written. No tag is obeyed.
"""

import datetime as dt
import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
from django.utils.dateparse import parse_date, parse_datetime
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from relay import services

PLAIN_TAGS = {"tag:yaml.org,2002:" + kind for kind in ("str", "seq", "map", "int", "float", "bool")}


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


class Bad(Exception):
    def __init__(self, node: Node, path: str, message: str) -> None:
        super().__init__(message)
        self.problem = Problem(path, message, node.start_mark.line + 1)


Parser = Callable[[Node, str], Any]


# ---- scalars --------------------------------------------------------------------------------------------------------


def text_of(node: Node, path: str) -> str:
    if not isinstance(node, ScalarNode):
        raise Bad(node, path, "a text is expected here")
    if node.tag not in PLAIN_TAGS:
        raise Bad(node, path, f"the tag {node.tag[:40]!r} means nothing here")
    if node.style is None and node.value in ("", "~", "null", "Null", "NULL"):
        raise Bad(node, path, "the value is missing")
    if not services.is_storable(node.value):
        raise Bad(node, path, "NUL, and half a character, are no text")
    return str(node.value)


def integer_of(node: Node, path: str) -> int:
    text = text_of(node, path)
    if not re.fullmatch(r"-?[0-9]{1,9}", text):
        raise Bad(node, path, f"{text[:40]!r} is not a whole number")
    return int(text)


def count_of(node: Node, path: str) -> int:
    number = integer_of(node, path)
    if number <= 0:
        raise Bad(node, path, "a number above zero is expected")
    return number


def seconds_of(node: Node, path: str) -> float:
    text = text_of(node, path)
    if not re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?", text):
        raise Bad(node, path, f"{text[:40]!r} is not a number of seconds")
    return int(text) if text.isdigit() else float(text)


def boolean_of(node: Node, path: str) -> bool:
    text = text_of(node, path)
    if text.lower() not in ("true", "false", "yes", "no", "on", "off"):
        raise Bad(node, path, f"{text[:40]!r} is neither true nor false")
    return text.lower() in ("true", "yes", "on")


def moment_of(node: Node, path: str) -> dt.datetime:
    text = text_of(node, path)
    try:
        day = parse_date(text)
        found = dt.datetime.combine(day, dt.time()) if day else parse_datetime(text)
    except ValueError:
        found = None
    if found is None:
        raise Bad(node, path, f"{text[:40]!r} is not a time such as 2027-01-31T12:00:00Z")
    return found if found.tzinfo else found.replace(tzinfo=dt.UTC)


def limited(length: int) -> Parser:
    def parse(node: Node, path: str) -> str:
        text = text_of(node, path)
        if len(text) > length or "\x00" in text:
            raise Bad(node, path, f"at most {length} characters are allowed")
        return text

    return parse


def name_of(node: Node, path: str) -> str:
    text = text_of(node, path)
    if not 1 <= len(text) <= 200 or text != text.strip() or not text.isprintable():
        raise Bad(node, path, "a name has 1 to 200 printable characters and no space at either end")
    return text


def one_of(known: list[str]) -> Parser:
    def parse(node: Node, path: str) -> str:
        text = text_of(node, path)
        if text not in known:
            raise Bad(node, path, f"{text[:40]!r} is unknown; known are {', '.join(known)}")
        return text

    return parse


# ---- collections ----------------------------------------------------------------------------------------------------


def pairs_of(node: Node, path: str) -> dict[str, Node]:
    if not isinstance(node, MappingNode):
        raise Bad(node, path, "a mapping (name: value) is expected here")
    found: dict[str, Node] = {}
    for key, value in node.value:
        name = text_of(key, path)
        if name in found:
            raise Bad(key, below(path, name), "this is given twice")
        found[name] = value
    return found


def items_of(node: Node, path: str) -> list[Node]:
    if not isinstance(node, SequenceNode):
        raise Bad(node, path, "a list is expected here")
    return list(node.value)


def below(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def fields_of(node: Node, path: str, parsers: Mapping[str, Parser], problems: list[Problem]) -> dict[str, Any]:
    """The mapping's fields that could be read; `problems` gets the others."""
    found: dict[str, Any] = {}
    try:
        pairs = pairs_of(node, path)
    except Bad as bad:
        problems.append(bad.problem)
        return found
    for name, value in pairs.items():
        place = below(path, name)
        try:
            if name not in parsers:
                raise Bad(value, place, f"this is unknown; known are {', '.join(parsers)}")
            found[name] = parsers[name](value, place)
        except Bad as bad:
            problems.append(bad.problem)
    return found


def mapping_of(parse: Parser) -> Parser:
    return lambda node, path: {name: parse(value, below(path, name)) for name, value in pairs_of(node, path).items()}


def named_entries(kind: type[Any], parsers: Mapping[str, Parser], problems: list[Problem]) -> Parser:
    """A list of named things; each problem of each is reported."""

    def parse(node: Node, path: str) -> list[Any]:
        found: dict[str, Any] = {}
        for number, item in enumerate(items_of(node, path)):
            place = f"{path}[{number}]"
            before = len(problems)
            fields = fields_of(item, place, parsers, problems)
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
