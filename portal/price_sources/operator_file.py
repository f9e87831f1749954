"""Models and prices from YAML or JSON: the section `models` of the operator's file, and nothing else."""

from msgspec import UNSET, UnsetType

from billing.catalog_import.values import Listed, Listing
from portal.configuration import reader
from portal.configuration.nodes import InvalidFile, Problem
from portal.configuration.reader import FileModel

LATER = ("valid_from", "price_changes", "group_prices", "active")


def read(text: str, *, edition: str, currency: str) -> Listing:
    """The file's models, each with its price in `currency`. Raises InvalidFile."""
    file = reader.read(text)
    others = [name for name in ("channels", "defaults", "groups") if getattr(file, name) is not None]
    if others or not file.models:
        raise InvalidFile([Problem("", "an import file has the section `models`, and no other")])
    problems = [problem for model in file.models for problem in _problems(model)]
    if problems:
        raise InvalidFile(problems)
    return Listing(source="file", edition=edition, currency=currency, models=tuple(map(_listed, file.models)))


def _problems(model: FileModel) -> list[Problem]:
    found = []
    if isinstance(model.price, UnsetType):
        found.append(Problem(f"{model.path}.price", "a price is needed", model.line))
    for name in LATER:
        if getattr(model, name) not in (UNSET, True):
            reason = "an import has no such thing; the moment is chosen when its prices are accepted"
            found.append(Problem(f"{model.path}.{name}", reason, model.line))
    return found


def _listed(model: FileModel) -> Listed:
    assert not isinstance(model.price, UnsetType)
    said = {
        name: value
        for name in ("provider", "kind", "description", "context_window", "max_output", "capabilities")
        if (value := getattr(model, name)) is not UNSET
    }
    return Listed(model=model.name, card=model.price, **said)
