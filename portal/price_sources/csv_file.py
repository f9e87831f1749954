"""Models and prices from a table in CSV: a line a model, a column a fact or a price, named as everywhere else."""

import csv
import io
from collections.abc import Mapping
from typing import Any

from billing import money, prices
from billing.catalog_import.values import Listed, Listing
from billing.models import ModelKind
from portal.configuration.nodes import InvalidFile, Problem

TEXTS = {"model": 200, "provider": 100, "description": 500}
COUNTS = ("context_window", "max_output")
COLUMNS = (*TEXTS, "kind", *COUNTS, *prices.WRITTEN)
MOST_LINES = 20_000


def read(text: str, *, edition: str, currency: str) -> Listing:
    """The table's models, each with its price in `currency`. Raises InvalidFile with all of its problems."""
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff"), newline=""), strict=True, restkey="")
    problems: list[Problem] = []
    models: dict[str, Listed] = {}
    try:
        _check_header(rows.fieldnames or ())
        for row in rows:
            _read_line(row, rows.line_num, models, problems)
            if len(models) > MOST_LINES:
                raise InvalidFile([Problem("", f"the table has more than {MOST_LINES} models", rows.line_num)])
    except csv.Error as error:
        raise InvalidFile([Problem("", f"this is not CSV: {error}", rows.line_num)]) from error
    if problems or not models:
        raise InvalidFile(problems or [Problem("", "the table has no models")])
    return Listing(source="file", edition=edition, currency=currency, models=tuple(models.values()))


def _check_header(names: Any) -> None:
    unknown = [name for name in names if name not in COLUMNS]
    if unknown or len(set(names)) < len(names):
        what = f"the column {unknown[0][:40]!r} is unknown" if unknown else "a column is there twice"
        raise InvalidFile([Problem("", f"{what}; known are {', '.join(COLUMNS)}", 1)])
    if "model" not in names:
        raise InvalidFile([Problem("", "the first line names the columns, and `model` is one of them", 1)])


def _read_line(row: Mapping[str, Any], line: int, models: dict[str, Listed], problems: list[Problem]) -> None:
    try:
        if "" in row or None in row.values():
            raise _Wrong("", "there are more or fewer fields than the first line names")
        listed = _listed({name: value.strip() for name, value in row.items() if value.strip()})
        if listed.model in models:
            raise _Wrong("model", f"there are two of the name {listed.model!r}")
        models[listed.model] = listed
    except _Wrong as wrong:
        problems.append(Problem(wrong.column, str(wrong), line))


class _Wrong(Exception):
    def __init__(self, column: str, message: str) -> None:
        super().__init__(message)
        self.column = column


def _listed(cells: dict[str, str]) -> Listed:
    if "model" not in cells:
        raise _Wrong("model", "a name is needed")
    for name, longest in TEXTS.items():
        if len(cells.get(name, "")) > longest or not cells.get(name, "").isprintable():
            raise _Wrong(name, f"at most {longest} printable characters are allowed")
    kind = cells.get("kind", "")
    if kind and kind not in ModelKind.values:
        raise _Wrong("kind", f"{kind[:40]!r} is unknown; known are {', '.join(ModelKind.values)}")
    written = {name: cells[name] for name in prices.WRITTEN if name in cells}
    try:
        card = prices.parse_card(written)
    except money.InvalidAmount as error:
        raise _Wrong("", str(error)) from error
    said: dict[str, Any] = {name: _count(name, cells[name]) for name in COUNTS if name in cells}
    said |= {name: cells[name] for name in TEXTS if name in cells}
    return Listed(card=card, kind=kind, **said)


def _count(column: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text[:10]) < 10**9):
        raise _Wrong(column, f"{text[:40]!r} is not a whole number from 1 to 999,999,999")
    return int(text)
