"""A bill as a CSV file, for providers that have no interface for it. Pure.

The columns, in any order, by their names in the first line; only `date` is needed, and one of `quantity` and `amount`:

    date        the day, in UTC: 2026-11-20
    model       the provider's name of the model
    category    input, cache_read, cache_write, cache_write_1h, prompt (all of the input together), output, audio_in,
                audio_out, images, seconds, searches, requests, other
    quantity    whole units: tokens, pictures, seconds, requests
    amount      money, as a decimal with a point; a credit is negative
    currency    three letters; the same in all lines
"""

import csv
import datetime as dt
import io
import re
from collections.abc import Mapping
from decimal import Decimal

from django.utils.translation import gettext_noop as _

from relay.statements.values import CATEGORIES, MOST_LINES, Bill, Line, Unreadable, one_currency

NAME = "csv"
LABEL = "CSV"
YEARS = range(2000, 3000)  # of a bill; a day of any other has no beginning or no end to compare
LARGEST = 512 << 10  # bytes of a file; a form carries it along, three times as large at worst
COLUMNS = ("date", "model", "category", "quantity", "amount", "currency")
_AMOUNT = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,12})?")


def read(content: bytes) -> dict[dt.date, Bill]:
    """The bills by day. Raises Unreadable with the line that is wrong."""
    if len(content) > LARGEST:
        raise Unreadable(_("The file is larger than %(most)s KiB."), most=LARGEST >> 10)
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig"), newline=""), strict=True)
        names = [name.strip().lower() for name in reader.fieldnames or ()]
        reader.fieldnames = names
        _check_columns(names)
        found = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise Unreadable(_("The file is no CSV in UTF-8.")) from error
    if len(found) > MOST_LINES:
        raise Unreadable(_("The file has more than %(most)s lines."), most=MOST_LINES)
    return _by_day(found)


def _check_columns(names: list[str]) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or "date" not in names or len(set(names)) != len(names):
        raise Unreadable(_("The first line names the columns, each once: %(known)s."), known=", ".join(COLUMNS))
    if "amount" not in names and "quantity" not in names:
        raise Unreadable(_("The file needs a column “amount” or “quantity”."))


def _by_day(found: list[tuple[int, dict[str, str]]]) -> dict[dt.date, Bill]:
    lines: dict[dt.date, list[Line]] = {}
    currencies = set()
    for number, row in found:
        if None in row or None in row.values():
            raise Unreadable(_("Line %(line)s has not as many fields as the first."), line=number)
        values = {name: value.strip() for name, value in row.items()}
        if not any(values.values()):
            continue
        day, line = _line(number, values)
        lines.setdefault(day, []).append(line)
        if values.get("currency"):
            currencies.add(values["currency"])
    if not lines:
        raise Unreadable(_("The file has no lines."))
    currency = one_currency(currencies) if currencies else ""
    return {day: Bill(currency, _total(of_day), tuple(of_day)) for day, of_day in sorted(lines.items())}


def _line(number: int, values: Mapping[str, str]) -> tuple[dt.date, Line]:
    try:
        day = dt.date.fromisoformat(values["date"])
    except ValueError as error:
        raise Unreadable(_("Line %(line)s: the date is written as 2026-11-20."), line=number) from error
    if day.year not in YEARS:
        raise Unreadable(
            _("Line %(line)s: the year is from %(first)s to %(last)s."), line=number, first=YEARS[0], last=YEARS[-1]
        )
    category = values.get("category", "").lower() or "other"
    if category not in CATEGORIES:
        raise Unreadable(_("Line %(line)s: the categories are %(known)s."), line=number, known=", ".join(CATEGORIES))
    quantity, amount = values.get("quantity", ""), values.get("amount", "")
    if quantity and not (quantity.isascii() and quantity.isdecimal() and len(quantity) < 16):
        raise Unreadable(_("Line %(line)s: the quantity is a whole number."), line=number)
    if amount and not _AMOUNT.fullmatch(amount):
        raise Unreadable(_("Line %(line)s: the amount is a decimal such as 12.50."), line=number)
    if not quantity and not amount:
        raise Unreadable(_("Line %(line)s has neither a quantity nor an amount."), line=number)
    model = "".join(c for c in values.get("model", "") if c.isprintable())[:200]
    return day, Line(model, category, int(quantity) if quantity else None, Decimal(amount) if amount else None)


def _total(lines: list[Line]) -> Decimal | None:
    known = [line.amount for line in lines if line.amount is not None]
    return sum(known, start=Decimal(0)) if known else None
