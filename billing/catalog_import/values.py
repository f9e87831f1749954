"""What a source of prices says, whatever it is: neutral values."""

from typing import Any

import msgspec

from billing.prices import PriceCard


class Listed(msgspec.Struct, frozen=True, kw_only=True):
    """A model as a source lists it. `provider` is the source's name for it, by which rules choose, `label` the one for
    people. What the source does not say is empty or None. `notes` tell what of it the card could not have.
    """

    model: str
    card: PriceCard
    provider: str = ""
    label: str = ""
    kind: str = ""
    description: str = ""
    context_window: int | None = None
    max_output: int | None = None
    capabilities: dict[str, Any] = {}
    notes: tuple[str, ...] = ()


class Listing(msgspec.Struct, frozen=True, kw_only=True):
    """All that a source lists, in `currency`. `edition` is its version or the file's name.

    `complete` sources name every model that they know: one that they no longer name is gone. `skipped` tells of what
    no card can be made.
    """

    source: str
    edition: str
    currency: str
    models: tuple[Listed, ...]
    complete: bool = False
    skipped: tuple[str, ...] = ()
