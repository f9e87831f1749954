"""Proposals from what the portal can read: the installed package, and files that somebody gives."""

from importlib import import_module
from pathlib import PurePath
from typing import Any

from django.conf import settings

from billing import catalog
from billing.catalog_import import proposals
from billing.catalog_import.proposals import Found
from billing.proposal_models import PriceProposal
from portal.configuration.nodes import InvalidFile, Problem
from portal.price_sources import csv_file, operator_file

LARGEST = 4 * 1024 * 1024
READERS = {".yaml": operator_file.read, ".yml": operator_file.read, ".json": operator_file.read, ".csv": csv_file.read}


def of_package() -> Found:
    """What the package's list prices would change by the stored margin rules. Raises proposals.Refused.

    The package's data takes half a second and some ten megabytes, which a process that never asks is spared.
    """
    genai: Any = import_module("portal.price_sources.genai")
    return proposals.find(genai.read(known=catalog.rows()), proposals.rules())


def of_file(name: str, content: bytes, *, listed: bool = False, currency: str = "") -> Found:
    """What a file would change. Its prices are ours, or with `listed` a provider's, to which the rules apply.

    Raises InvalidFile, or proposals.Refused.
    """
    reader = READERS.get(PurePath(name).suffix.lower())
    if reader is None:
        raise InvalidFile([Problem("", f"a file of prices ends in {', '.join(READERS)}")])
    if len(content) > LARGEST:
        raise InvalidFile([Problem("", f"the file is larger than {LARGEST // 1024 // 1024} MiB")])
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidFile([Problem("", "this is not UTF-8", line)]) from error
    listing = reader(text, edition=PurePath(name).name, currency=currency or settings.CURRENCY)
    return proposals.find(listing, proposals.rules() if listed else None)


def propose_daily() -> PriceProposal | None:
    """The package's prices, for whoever looks next; what was dismissed before is left alone."""
    return proposals.propose(of_package(), actor="schedule", remember=True)
