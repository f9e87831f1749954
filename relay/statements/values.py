"""What a provider's bill is, once read; and what reading one is made of. Pure.

An adapter is a module of this folder with the same verbs as all others:

    LABEL, BASE_URL     its name, and where it usually is ("" where an operator has to say it)
    CUMULATIVE          whether it tells a running total only, so that a day is the difference of two readings
    headers(secret)     how the credential travels
    read(day, scope)    a script: it yields what to get, is sent the parsed answers, and returns a `Bill`

Scripts do no I/O: `relay.statements.fetching` carries the trips out. Decimals live here only; storage has nano-units.
"""

import datetime as dt
import re
from collections.abc import Generator, Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol

import msgspec
from django.utils.translation import gettext_noop as _

from billing.prices import INPUT_BUCKETS

MOST_PAGES = 100
MOST_LINES = 20_000
LARGEST = Decimal(10**9)  # a bill of more than that, of a channel and day, is no bill
# Ours by these names: what each category of a bill is made of, in the buckets of `billing.usage`.
CATEGORIES: dict[str, tuple[str, ...]] = {
    "input": ("input",),
    "cache_read": ("cache_read",),
    "cache_write": ("cache_write",),
    "cache_write_1h": ("cache_write_1h",),
    "prompt": INPUT_BUCKETS,  # of a bill that does not tell them apart
    "output": ("output", "reasoning"),
    "audio_in": ("audio_in",),
    "audio_out": ("audio_out",),
    "images": ("images",),
    "seconds": ("seconds",),
    "searches": ("searches",),
    "requests": (),  # attempts that were answered
    "other": (),
}


class Unreadable(Exception):
    """The answer is no bill, or not the one that was asked for. The message is fit for an operator."""

    def __init__(self, message: str, **facts: object) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts


class Get(msgspec.Struct, frozen=True):
    """A path below the base URL, with its query."""

    path: str
    query: tuple[tuple[str, str], ...] = ()


class Line(msgspec.Struct, frozen=True):
    """Units or money, or both, of a model and a category; either may be unknown to the provider ("")."""

    model: str = ""
    category: str = "other"
    quantity: int | None = None
    amount: Decimal | None = None


class Bill(msgspec.Struct, frozen=True):
    """`total` is all of its money in `currency`, None where it told of units only; a running total has nothing else."""

    currency: str
    total: Decimal | None
    lines: tuple[Line, ...] = ()


Script = Generator[Get, Any, Bill]


class Adapter(Protocol):
    LABEL: str
    BASE_URL: str
    CUMULATIVE: bool

    def headers(self, secret: str) -> Mapping[str, str]: ...
    def read(self, day: dt.date, scope: tuple[str, ...]) -> Script: ...


# ---- reading what others sent ---------------------------------------------------------------------------------------


def rows(answer: Any, name: str = "data") -> list[Mapping[str, Any]]:
    """The objects in a list of an answer. Raises Unreadable."""
    found = answer.get(name) if isinstance(answer, dict) else None
    if not isinstance(found, list) or len(found) > MOST_LINES or not all(isinstance(row, dict) for row in found):
        raise Unreadable(_("The provider's answer has no list “%(name)s”."), name=name)
    return found


def units(row: Mapping[str, Any], name: str) -> int:
    """A count; 0 where it is missing or null."""
    found = row.get(name)
    if found is None:
        return 0
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < 2**53:
        raise Unreadable(_("“%(name)s” is no count."), name=name)
    return found


def amount(found: Any, name: str) -> Decimal:
    """Money, as a number or a decimal text. May be negative: a credit."""
    if isinstance(found, bool) or not isinstance(found, int | str | Decimal):
        raise Unreadable(_("“%(name)s” is no amount."), name=name)
    try:
        value = Decimal(found)
    except InvalidOperation as error:
        raise Unreadable(_("“%(name)s” is no amount."), name=name) from error
    if not value.is_finite() or abs(value) >= LARGEST:
        raise Unreadable(_("“%(name)s” is no amount."), name=name)
    return value


def running_total(found: Any, name: str) -> Decimal:
    """What was used up in all: money that is not below zero. Raises Unreadable."""
    total = amount(found.get(name), name) if isinstance(found, dict) else None
    if total is None:
        raise Unreadable(_("The provider's answer has no “%(name)s”."), name=name)
    if total < 0:
        raise Unreadable(_("“%(name)s” is no amount."), name=name)
    return total


def text(found: Any, longest: int = 200) -> str:
    """A name, without what cannot be printed; "" for what is none."""
    return "".join(c for c in found if c.isprintable())[:longest] if isinstance(found, str) else ""


def pages(path: str, query: tuple[tuple[str, str], ...]) -> Generator[Get, Any, list[Mapping[str, Any]]]:
    """All buckets of a list that comes in pages: `has_more` with `next_page`, as OpenAI and Anthropic have it."""
    found: list[Mapping[str, Any]] = []
    page, seen = "", set()
    for _number in range(MOST_PAGES):
        answer = yield Get(path, (*query, ("page", page)) if page else query)
        found += rows(answer)
        if not answer.get("has_more"):
            return found
        page = text(answer.get("next_page"), 2000)
        if not page or page in seen:
            raise Unreadable(_("The provider says that there is more and not where."))
        seen.add(page)
    raise Unreadable(_("The provider's answer has more than %(most)s pages."), most=MOST_PAGES)


def results(buckets: list[Mapping[str, Any]], begins: Any, *, field: str) -> Iterator[Mapping[str, Any]]:
    """What the buckets of one day have; the provider may send its neighbours too. Raises Unreadable if it is not
    among them."""
    mine = [bucket for bucket in buckets if begins(bucket.get(field))]
    if not mine:
        raise Unreadable(_("The provider has no bill of this day yet."))
    for bucket in mine:
        yield from rows(bucket, "results")


def one_currency(found: set[str]) -> str:
    """The bill's currency; dollars for one without a line. Raises Unreadable for several."""
    names = {name.upper() for name in found} or {"USD"}
    if len(names) > 1 or not all(re.fullmatch("[A-Z]{3}", name) for name in names):
        raise Unreadable(_("The bill is in more than one currency, or in none."))
    return names.pop()
