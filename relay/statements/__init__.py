"""The provider's own bill beside our cost: by channel and day, from statements that are read or uploaded.

`alerts()` is for whoever tells people: the days whose bill differs by more than `TOLERANCE` and that nobody has
explained. An adapter for another kind of bill is a module with the verbs of `relay.statements.values`, and a line in
`relay.statements.registry`.
"""

import datetime as dt

import msgspec

from relay.statement_models import DriftState, Reconciliation
from relay.statements.comparing import TOLERANCE

__all__ = ["TOLERANCE", "Alert", "alerts"]


class Alert(msgspec.Struct, frozen=True):
    """A day of a channel whose bill differs. `drift` is theirs less ours; all three are nano-units, None where the
    bill told of units only. `parts` are the categories that differ, with both sides' units."""

    reconciliation: int
    channel: str
    day: dt.date
    ours: int
    theirs: int | None
    drift: int
    parts: tuple[tuple[str, int, int], ...]
    since: dt.datetime | None


def alerts() -> list[Alert]:
    """All that is open, the newest day first."""
    found = Reconciliation.objects.filter(state=DriftState.OPEN).select_related("channel").order_by("-day", "channel")
    return [
        Alert(row.pk, row.channel.name, row.day, row.ours, row.theirs, row.drift, _parts(row), row.alerted_at)
        for row in found
    ]


def _parts(row: Reconciliation) -> tuple[tuple[str, int, int], ...]:
    return tuple((part["category"], part["ours"], part["theirs"]) for part in row.categories if part["off"])
