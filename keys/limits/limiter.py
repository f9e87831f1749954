"""Admissions: each asks Redis where there is one, counts for itself where there is none, and ends exactly once."""

import itertools
import time
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType

from keys import rates
from keys.limits import headers
from keys.limits.counters import Counters
from keys.limits.headers import Headers
from keys.limits.shared import Admission, Shared, new_process_name
from keys.limits.wire import Away
from keys.rates import Kind, Limit, Reading, Scope

Clock = Callable[[], int]


def monotonic() -> int:
    """Microseconds."""
    return time.monotonic_ns() // 1000


class LimitReached(Exception):
    """A call is not let in. It is counted nowhere.

    `retry_after` is seconds: every limit that refused has room by then, if nobody else takes it. `scope` and `kind` are
    those of the limit that lets it wait longest; `reached` are all that refused.
    """

    def __init__(self, readings: Sequence[Reading]) -> None:
        self.readings = tuple(readings)
        self.reached = tuple(reading for reading in readings if reading.wait)
        longest = max(self.reached, key=lambda reading: reading.wait)
        self.limit = longest.limit
        self.scope, self.kind = longest.limit.owner, longest.limit.kind
        self.retry_after = longest.wait
        super().__init__(headers.message(longest.limit))

    def headers(self, protocol: str) -> Headers:
        """The protocol's own rate headers, without `retry-after`."""
        return headers.of(protocol, self.readings)


class Slip:
    """What an admitted call holds of its limits. To be finished or cancelled; the second time nothing happens."""

    __slots__ = ("_limiter", "_limits", "_tokens", "admitted_at", "grain", "id", "readings")

    def __init__(
        self,
        limiter: "Limiter | None",
        limits: Sequence[Limit],
        tokens: int,
        readings: tuple[Reading, ...] = (),
        *,
        id: bytes = b"",
        admitted_at: int = 0,
        grain: int | None = None,
    ) -> None:
        self.id, self.readings = id, readings
        self._limiter, self._limits, self._tokens = limiter, limits, tokens
        self.admitted_at, self.grain = admitted_at, grain

    def finish(self, tokens_used: int | None = None) -> None:
        """The call has ended and took so many tokens; None where nobody knows, and the estimate stands.

        Its places are free at once. Tokens that were reserved and not used are given back to the minute in which they
        were reserved; tokens beyond the reservation count from now on.
        """
        self._end(requests=1, tokens=tokens_used)

    def cancel(self) -> None:
        """The call was not made after all: gives everything back, the request too."""
        self._end(requests=0, tokens=0)

    def headers(self, protocol: str) -> Headers:
        """The protocol's own rate headers for the answer, as the limits stood when the call was admitted."""
        return headers.of(protocol, self.readings)

    def __enter__(self) -> "Slip":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.finish()

    def _end(self, *, requests: int, tokens: int | None) -> None:
        limiter, self._limiter = self._limiter, None
        if limiter is None:
            return
        differences = []
        for limit in self._limits:
            taken = {Kind.REQUESTS: requests, Kind.TOKENS: tokens, Kind.PARALLEL: 0}[limit.kind]
            reserved = rates.amount(limit, self._tokens)
            differences.append((limit, 0 if taken is None else taken - reserved))
        limiter.settle(self, differences)


NOTHING = Slip(None, (), 0)  # of a call that nothing limits


class Limiter:
    """The limits of one process, and through Redis those of all processes.

    Every call is counted in this process too, whoever admitted it. So when Redis goes away, the process goes on from
    what it let in itself during the last minute, and not from nothing.
    """

    def __init__(self, *, clock: Clock = monotonic) -> None:
        self._clock = clock
        self._counters = Counters()
        self._shared: Shared | None = None
        self._name, self._numbers = new_process_name(), itertools.count(1)
        self._running: dict[bytes, Sequence[Limit]] = {}

    def share(self, shared: Shared | None) -> None:
        """Counts in Redis from now on, or, with None, no longer. A process that was forked takes a name of its own."""
        self._shared, self._name = shared, new_process_name()

    def running(self) -> Iterable[tuple[bytes, Sequence[Limit]]]:
        """The calls that have places to be renewed."""
        return list(self._running.items())

    async def admit(self, scopes: Sequence[Scope], *, tokens: int = 0) -> Slip:
        """Lets a call in that every limit has room for, and counts it; all or nothing. Raises LimitReached."""
        if not scopes:
            return NOTHING
        limits = scopes[0].limits if len(scopes) == 1 else [limit for scope in scopes for limit in scope.limits]
        call = b"%b-%d" % (self._name, next(self._numbers))
        shared = self._shared
        if shared is not None and shared.up:
            try:
                asked = await shared.admit(call, limits, tokens)
            except Away:
                pass
            else:
                return self._shared_slip(call, limits, tokens, asked)
        now = self._clock()
        admitted, readings = self._counters.admit(limits, tokens, now)
        if not admitted:
            raise LimitReached(readings)
        return self._runs(Slip(self, limits, tokens, readings, id=call, admitted_at=now))

    def _shared_slip(self, call: bytes, limits: Sequence[Limit], tokens: int, asked: Admission) -> Slip:
        if not asked.admitted:
            raise LimitReached(asked.readings)
        now = self._clock()
        self._counters.count(limits, tokens, now)
        return self._runs(Slip(self, limits, tokens, asked.readings, id=call, admitted_at=now, grain=asked.grain))

    def _runs(self, slip: Slip) -> Slip:
        if any(reading.limit.kind is Kind.PARALLEL for reading in slip.readings):
            self._running[slip.id] = [reading.limit for reading in slip.readings]
        return slip

    def settle(self, slip: Slip, differences: Sequence[tuple[Limit, int]]) -> None:
        """The slip's end: its places, and by how much more or less it took of its windows."""
        now = self._clock()
        self._running.pop(slip.id, None)
        for limit, difference in differences:
            if limit.kind is Kind.PARALLEL:
                self._counters.release(limit)
            elif difference:
                self._counters.correct(limit, difference, slip.admitted_at, now)
        if self._shared is None:
            return
        # Redis may know a call that it did not admit, or did without our being told, only by a place.
        known = slip.grain is not None
        told = [(limit, by) for limit, by in differences if limit.kind is Kind.PARALLEL or (by and known)]
        self._shared.settle(slip.id, slip.grain or 0, told)
