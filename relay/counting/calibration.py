"""What upstreams' own reports teach about models whose vocabulary is not known. Pure.

For each model, side (input, output) and kind of script, the reports that were compared with our count are kept as their
upper envelope: for each of some slopes the height that a line needs so that no report lies above it. The calibrated
count is the lowest of these lines. So it is never below any report that was learnt from, whatever their order, two
processes' envelopes are joined by taking the larger heights, and a fixed number of tokens that an upstream adds to
every prompt stays fixed instead of being taken for a factor.

A report of more than four times our count, with 512 on top for a prompt and 32 for an answer, is no matter of
vocabulary (a hidden prompt of thousands, hidden thoughts): it is not learnt from. Envelopes are kept by epochs of 30
days; the last two are in force, so what an upstream has not done for two months is forgotten.
"""

import threading
from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec

from relay.counting import families

SLOPES = (500, 700, 800, 900, 950, 1000, 1050, 1100, 1150, 1200, 1300, 1400, 1600, 1800, 2200, 3000, 4000)  # per mille
ENOUGH = 20  # reports, before the family's own factors no longer matter
FIRST, THEN_EVERY = 50, 64  # which calls of a model are compared
LONGEST_NAME = 200  # of a model, as the table has it
_NONE = -(2**62)


class Side(StrEnum):
    INPUT = "input"
    OUTPUT = "output"


_FAR, _FAR_ON_TOP = 4, {Side.INPUT: 512, Side.OUTPUT: 32}


class Key(msgspec.Struct, frozen=True, order=True):
    model: str
    side: Side
    wide: bool


class Envelope(msgspec.Struct):
    """`heights` are thousandths of a token, one for each of SLOPES; `longest` is the largest count learnt from."""

    samples: int = 0
    longest: int = 0
    heights: list[int] = msgspec.field(default_factory=lambda: [_NONE] * len(SLOPES))

    def add(self, counted: int, reported: int) -> None:
        """Learns from a report."""
        heights = [1000 * reported - slope * counted for slope in SLOPES]
        self.join(Envelope(1, counted, heights))

    def join(self, other: "Envelope") -> None:
        self.samples += other.samples
        self.longest = max(self.longest, other.longest)
        self.heights = [max(pair) for pair in zip(self.heights, other.heights, strict=True)]

    def at(self, counted: int) -> int:
        """The lowest line's height above a count, in tokens."""
        lines = zip(SLOPES, self.heights, strict=True)
        return max(0, min(-(-(slope * counted + height) // 1000) for slope, height in lines))


def is_far(side: Side, counted: int, reported: int) -> bool:
    return reported > _FAR * counted + _FAR_ON_TOP[side]


class Calibration:
    """What is in force in this process, and what it has learnt that nobody has stored yet."""

    def __init__(self) -> None:
        self._stored: dict[Key, Envelope] = {}
        self._fresh: dict[Key, Envelope] = {}
        self._calls: dict[str, int] = {}
        self._in_force: dict[Key, Envelope] = {}
        self._lock = threading.Lock()  # threads learn while the event loop stores

    def wants(self, model: str) -> bool:
        """Whether this call of a model is one to compare. Counts the call."""
        if families.of(model).exact or len(model) > LONGEST_NAME:
            return False
        calls = self._calls[model] = self._calls.get(model, 0) + 1
        return calls <= FIRST or calls % THEN_EVERY == 0

    def learn(self, model: str, side: Side, counted: int, reported: int, *, wide: bool) -> bool:
        """Compares a count with a report. Whether it was one to learn from."""
        if counted <= 0 or reported <= 0 or is_far(side, counted, reported):
            return False
        key = Key(model, side, wide)
        with self._lock:
            self._fresh.setdefault(key, Envelope()).add(counted, reported)
            self._join(key)
        return True

    def raised(self, model: str, side: Side, counted: int, *, wide: bool) -> int:
        """A count as the upstream would most likely report it, and not below any report that was learnt from."""
        known = self._in_force.get(Key(model, side, wide))
        assumed = self._assumed(model, side, counted, wide=wide)
        if known is None or known.samples < ENOUGH:
            return max(assumed, known.at(counted) if known else 0)
        if counted <= known.longest:
            return known.at(counted)
        # Past what was seen nothing is known but the family.
        beyond = assumed - self._assumed(model, side, known.longest, wide=wide)
        return max(known.at(known.longest) + beyond, known.at(counted))

    def per_byte(self, model: str, size: int) -> int:
        """Tokens of so many bytes of text that is gone. Three bytes to a token are close to, and a little above, what
        o200k needs for English (about four and a half) and Chinese (about five); others by what is known of them."""
        tokens = -(-size // 3)
        if not size or families.of(model).exact:
            return tokens
        return min(size, max(tokens, self.raised(model, Side.OUTPUT, -(-size // 4), wide=False)))

    def take(self) -> dict[Key, Envelope]:
        """What was learnt since the last time; who takes it stores it, or gives it back. It stays in force."""
        with self._lock:
            fresh, self._fresh = self._fresh, {}
            for key, envelope in fresh.items():
                self._stored.setdefault(key, Envelope()).join(envelope)
        return fresh

    def give_back(self, fresh: Mapping[Key, Envelope]) -> None:
        """It could not be stored: it will be taken again."""
        with self._lock:
            for key, envelope in fresh.items():
                self._fresh.setdefault(key, Envelope()).join(msgspec.structs.replace(envelope, samples=0))

    def replace(self, stored: Iterable[tuple[Key, Envelope]]) -> None:
        """What all processes have stored, in place of what was known of it."""
        with self._lock:
            self._stored = {}
            for key, envelope in stored:
                self._stored.setdefault(key, Envelope()).join(envelope)
            self._in_force = {}
            for key in self._stored.keys() | self._fresh.keys():
                self._join(key)

    def _join(self, key: Key) -> None:
        both = Envelope()
        for known in (self._stored.get(key), self._fresh.get(key)):
            if known is not None:
                both.join(known)
        self._in_force[key] = both

    @staticmethod
    def _assumed(model: str, side: Side, counted: int, *, wide: bool) -> int:
        family = families.of(model)
        factor = family.wide if wide else family.plain
        return -(-counted * factor // 1000) + (family.framing if side is Side.INPUT else 0)


reports = Calibration()  # this process's
