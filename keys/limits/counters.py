"""The counting itself, in one process's memory. Pure: the moment is given, in whole microseconds of any clock.

`script.py` is the same in Redis' language; the tests hold the two to the same answers.
"""

from collections import deque
from collections.abc import Iterable, Sequence

from keys import rates
from keys.rates import GRAIN, GRAINS, SECOND, Kind, Limit, Reading

SWEEP_AT = 1024  # owners in memory, from which the idle ones are looked for


class Window:
    """What was taken in the last minute, grain by grain. A grain has left a minute after its end."""

    __slots__ = ("_amounts", "_order", "total")

    def __init__(self) -> None:
        self.total = 0
        self._order: deque[int] = deque()
        self._amounts: dict[int, int] = {}

    @property
    def empty(self) -> bool:
        return not self._order

    def advance(self, grain: int) -> None:
        """Forgets what has left by this grain."""
        order = self._order
        while order and order[0] < grain - GRAINS:
            self.total -= self._amounts.pop(order.popleft())

    def add(self, grain: int, amount: int) -> None:
        if grain in self._amounts:
            self._amounts[grain] += amount
        else:
            self._amounts[grain] = amount
            self._order.append(grain)
        self.total += amount

    def take_back(self, grain: int, amount: int) -> None:
        """Undoes so much of what was added in the grain, if that is still counted."""
        if grain in self._amounts:
            self._amounts[grain] -= amount
            self.total -= amount

    def wait(self, now: int, excess: int) -> int:
        """Microseconds until so much has left, 0 where there is no excess."""
        if excess <= 0:
            return 0
        for grain in self._order:
            excess -= self._amounts[grain]
            if excess <= 0:
                return _leaves(grain) - now
        raise AssertionError("more is to leave the window than is in it")

    def reset(self, now: int) -> int:
        """Microseconds until the window is empty."""
        return _leaves(self._order[-1]) - now if self._order else 0


def _leaves(grain: int) -> int:
    return (grain + GRAINS + 1) * GRAIN


class Counters:
    """Windows and parallel calls by the names of their limits. Asks first, then counts: all limits or none."""

    def __init__(self) -> None:
        self._windows: dict[str, Window] = {}
        self._calls: dict[str, int] = {}
        self._sweep_at = SWEEP_AT

    def admit(self, limits: Sequence[Limit], tokens: int, now: int) -> tuple[bool, tuple[Reading, ...]]:
        """Whether every limit has room for the call, which is then counted, and how each of them stands."""
        waits = [self._wait(limit, tokens, now) for limit in limits]
        admitted = not any(waits)
        if admitted:
            self.count(limits, tokens, now)
        return admitted, tuple(self._reading(limit, wait, now) for limit, wait in zip(limits, waits, strict=True))

    def count(self, limits: Iterable[Limit], tokens: int, now: int) -> None:
        """Counts a call without asking, such as one that was admitted elsewhere."""
        grain = now // GRAIN
        for limit in limits:
            if limit.kind is Kind.PARALLEL:
                self._calls[limit.name] = self._calls.get(limit.name, 0) + 1
            else:
                self._window(limit, grain).add(grain, rates.amount(limit, tokens))

    def correct(self, limit: Limit, difference: int, admitted_at: int, now: int) -> None:
        """Adds what a call took more than was counted for it: now, when it is known; or takes back from then."""
        window = self._window(limit, now // GRAIN)
        if difference > 0:
            window.add(now // GRAIN, difference)
        elif difference < 0:
            window.take_back(admitted_at // GRAIN, -difference)

    def release(self, limit: Limit) -> None:
        """Gives a parallel call's place back."""
        left = self._calls.get(limit.name, 0) - 1
        if left > 0:
            self._calls[limit.name] = left
        else:
            self._calls.pop(limit.name, None)

    def __len__(self) -> int:
        return len(self._windows) + len(self._calls)

    def _wait(self, limit: Limit, tokens: int, now: int) -> float:
        if limit.kind is Kind.PARALLEL:
            return rates.SLOT_WAIT if self._calls.get(limit.name, 0) >= limit.most else 0.0
        window = self._window(limit, now // GRAIN)
        return window.wait(now, window.total + rates.amount(limit, tokens) - limit.most) / SECOND

    def _reading(self, limit: Limit, wait: float, now: int) -> Reading:
        if limit.kind is Kind.PARALLEL:
            return Reading(limit, self._calls.get(limit.name, 0), wait, 0.0)
        window = self._window(limit, now // GRAIN)
        return Reading(limit, window.total, wait, window.reset(now) / SECOND)

    def _window(self, limit: Limit, grain: int) -> Window:
        window = self._windows.get(limit.name)
        if window is None:
            if len(self._windows) >= self._sweep_at:
                self._sweep(grain)
            window = self._windows[limit.name] = Window()
        window.advance(grain)
        return window

    def _sweep(self, grain: int) -> None:
        """Forgets empty windows. The next sweep is due at twice what is left, so a window costs a constant."""
        for name, window in list(self._windows.items()):
            window.advance(grain)
            if window.empty:
                del self._windows[name]
        self._sweep_at = max(SWEEP_AT, 2 * len(self._windows))
