"""Random histories of calls, and the plain truth to hold them to: every admission with its moment, in a list."""

import random
from collections.abc import Iterator
from typing import NamedTuple

from keys import rates
from keys.rates import GRAIN, WINDOW, Kind, Limit, Owner, Scope

START = 1_000_000 * WINDOW + 12_345


class Step(NamedTuple):
    """After `pause` microseconds a call that is estimated at `tokens`."""

    pause: int
    tokens: int


def scopes(source: random.Random, *, parallel: bool = True) -> list[Scope]:
    """One to three owners with some of the limits each, small enough to be reached."""
    found = []
    for number, owner in enumerate(source.sample(list(Owner), source.randint(1, 3))):
        made = rates.scope(
            owner,
            number,
            rpm=source.choice([None, 1, 3, 20]),
            tpm=source.choice([None, 100, 1000]),
            parallel=source.choice([None, 1, 4]) if parallel else None,
        )
        found += [made] if made else []
    return found or scopes(source, parallel=parallel)


def limits(found: list[Scope]) -> list[Limit]:
    return [limit for scope in found for limit in scope.limits]


def steps(source: random.Random, number: int) -> Iterator[Step]:
    """Bursts, trickles and silences, with pauses that end just at a grain's or the window's boundary among them."""
    for _ in range(number):
        pause = source.choice([
            0, 1, source.randrange(GRAIN), GRAIN, GRAIN - 1, source.randrange(10 * GRAIN),
            source.randrange(WINDOW), WINDOW, WINDOW - 1, WINDOW + GRAIN,
        ]) if source.random() < 0.1 else source.randrange(2 * GRAIN)  # fmt: skip
        yield Step(pause, source.choice([0, 1, 10, 30, 99, 100, 500, 5000]))


class Truth:
    """What one limit admitted: moments and amounts."""

    def __init__(self, limit: Limit) -> None:
        self.limit = limit
        self.log: list[tuple[int, int]] = []

    def add(self, now: int, tokens: int) -> None:
        self.log.append((now, rates.amount(self.limit, tokens)))

    def correct(self, number: int, used: int, now: int) -> None:
        """The call of that number took so much: less is as if it had asked for less, more comes now."""
        moment, reserved = self.log[number]
        self.log[number] = moment, min(used, reserved)
        if used > reserved:
            self.log.append((now, used - reserved))

    def within(self, now: int, span: int) -> int:
        """What was admitted in the time `span` that ends now."""
        return sum(amount for moment, amount in self.log if now - span < moment <= now)

    def worst(self) -> int:
        """The most that any 60 seconds had. Such a stretch may as well end with an admission."""
        return max((self.within(moment, WINDOW) for moment, _ in self.log), default=0)


def is_window(limit: Limit) -> bool:
    return limit.kind is not Kind.PARALLEL
