"""What invoices and statements say of a call and that the ledger does not know. The apps above billing put it here."""

import uuid
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any


def _no_lines(calls: Sequence[uuid.UUID]) -> Iterable[tuple[uuid.UUID, list[dict[str, Any]]]]:
    return ()


def _no_labels(keys: Collection[int]) -> dict[int, str]:
    return {}


# The price lines of these calls, as far as they are still known: pairs of a call's id and its lines.
lines_of: Callable[[Sequence[uuid.UUID]], Iterable[tuple[uuid.UUID, list[dict[str, Any]]]]] = _no_lines
# What stands for a key for ever: its masked secret, by the key's number.
labels_of: Callable[[Collection[int]], dict[int, str]] = _no_labels
