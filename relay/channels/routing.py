"""Which channels can serve a model, in the order in which they are tried. Pure: the random source is given."""

import random
from collections.abc import Sequence

import msgspec

from billing.prices import PriceCard
from keys.rates import Scope
from relay.protocols.capabilities import Capabilities


class Timeouts(msgspec.Struct, frozen=True):
    """Seconds: to connect, to the first byte of the answer, between two reads, and in all."""

    connect: float = 5.0
    first_byte: float = 120.0
    idle: float = 60.0
    total: float = 1800.0


class Secret(msgspec.Struct, frozen=True):
    """A decrypted credential. Its text appears in no repr."""

    id: int
    last_four: str
    value: str

    def __repr__(self) -> str:
        return f"Secret(…{self.last_four})"


class Candidate(msgspec.Struct, frozen=True):
    """A channel that can serve one offered model, under the upstream's name for it.

    `cost_card` is what the provider charges us, None where nobody wrote it down. `caps` is what the model accepts;
    `streams` whether it streams: "any" as it is asked, "only" always, "never". `scope` are the channel's rate limits,
    None where it has none.
    """

    channel: str
    protocol: str
    base_url: str
    model: str
    priority: int
    weight: int
    on_hangup: str
    private: bool
    timeouts: Timeouts
    credentials: tuple[Secret, ...]
    cost_card: PriceCard | None = None
    caps: Capabilities = Capabilities()
    streams: str = "any"
    scope: Scope | None = None


def in_order(candidates: Sequence[Candidate], source: random.Random) -> list[Candidate]:
    """By priority, lower first; within one priority a weighted shuffle (Efraimidis and Spirakis, 2006)."""
    if len(candidates) == 1:
        return list(candidates)
    keyed = [
        (candidate.priority, -(source.random() ** (1.0 / candidate.weight)) if candidate.weight else 0.0, candidate)
        for candidate in candidates
    ]
    keyed.sort(key=lambda item: item[:2])
    return [candidate for _, _, candidate in keyed]
