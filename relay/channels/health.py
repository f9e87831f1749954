"""How well each credential works: its breaker, its cool-down, its figures. Pure; clocks are given.

The state is this process's own. What a provider does to one process it does to the next, which notices by itself
within a few calls; only a credential that the provider refuses is disabled for all processes, in the database.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from typing import Any, TypeVar

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import refusals

UNPAID_WAIT = 300.0  # seconds that a credential rests whose account cannot pay
FORBIDDEN_TIMES = 3  # a 403 may speak of one model; so many in a row speak of the credential
AILS_FOR = 30.0  # seconds after a failure in which the next try is likely to fail too, unless an answer has begun
BARRED_FOR = 10.0  # seconds that a refused credential is left alone here, until the database says so
PROBE_LEASE = 300.0  # seconds after which a probe that nobody ended is given up
MINUTES = 15  # of figures that are kept
ERRORS = 5  # last failures that are kept
_K = TypeVar("_K", str, int)


class Kind(StrEnum):
    """Why an attempt failed. `rejected` is the request's own fault: the provider works."""

    CONNECT = "connect"
    TIMEOUT = "timeout"
    SERVER = "server"
    GARBAGE = "garbage"
    CUT = "cut"
    LIMITED = "limited"
    REFUSED = "refused"
    FORBIDDEN = "forbidden"
    UNPAID = "unpaid"
    MISSING = "missing"
    REJECTED = "rejected"
    NONE = "none"  # neither the provider's doing nor the request's


# What counts against a breaker; what concerns the whole channel and not this credential alone; what another may mend.
FAILURES = frozenset((Kind.CONNECT, Kind.TIMEOUT, Kind.SERVER, Kind.GARBAGE, Kind.CUT))
OF_THE_CHANNEL = frozenset((Kind.CONNECT, Kind.TIMEOUT, Kind.SERVER, Kind.GARBAGE, Kind.MISSING))
RETRIED = (
    Kind.CONNECT, Kind.TIMEOUT, Kind.SERVER, Kind.GARBAGE, Kind.CUT, Kind.LIMITED, Kind.REFUSED, Kind.FORBIDDEN,
    Kind.UNPAID, Kind.MISSING,
)  # fmt: skip
_BY_STATUS = {401: Kind.REFUSED, 402: Kind.UNPAID, 403: Kind.FORBIDDEN, 404: Kind.MISSING, 429: Kind.LIMITED}


def kind_of(error: RelayError, status: int | None, *, began: bool) -> Kind:
    """What kind of failure this is. `status` is the provider's, None where it sent none; `began`: in the middle of
    an answer."""
    if error.cause is Cause.UPSTREAM_REJECTED:
        return Kind.REJECTED
    if error.cause is Cause.UPSTREAM_TIMEOUT:
        return Kind.TIMEOUT
    if error.cause not in (Cause.UPSTREAM_ERROR, Cause.UNAVAILABLE, Cause.RATE_LIMITED):
        return Kind.NONE
    if error.meant is not None:
        return _BY_STATUS[error.meant]
    if status is None:
        return Kind.CONNECT
    if status == 200:
        limited = error.cause is Cause.RATE_LIMITED  # an error in the stream, before anything else
        return Kind.LIMITED if limited else Kind.CUT if began else Kind.GARBAGE
    return _BY_STATUS.get(status, Kind.SERVER)


class Tolerance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a breaker opens: after `failures` in a row (0: never), or when half of the last `calls` have failed and
    these came within `within` seconds. It stays open for `open` seconds, twice as long each time up to `longest`.
    `cool_down` is the longest that a 429 is heeded for; 0: not at all."""

    failures: int = 5
    calls: int = 20
    within: float = 30.0
    open: float = 30.0
    longest: float = 300.0
    cool_down: float = refusals.LONGEST_WAIT


USUAL = Tolerance()


class State(StrEnum):
    CLOSED = "closed"
    COOLING = "cooling"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Breaker:
    """Closed until it fails too often; then open for a while; then half-open: one call tries, the others wait for how
    it ends.

    An answer that begins closes a half-open breaker, but only a whole one makes it forget what was before: a provider
    that breaks off every answer opens it again at once, for twice as long.
    """

    __slots__ = ("_barred", "_cooling", "_outcomes", "_probing", "_row", "_times", "opened_at", "tolerance", "until")

    def __init__(self, tolerance: Tolerance = USUAL) -> None:
        self.tolerance = tolerance
        self.until = 0.0  # open until then, and half-open after; 0 is closed
        self.opened_at = 0.0
        self._row = 0  # failures in a row
        self._times = 0  # openings without a whole answer between them
        self._outcomes: deque[tuple[float, bool]] = deque(maxlen=tolerance.calls)
        self._cooling = 0.0
        self._barred = 0.0
        self._probing = 0.0  # when the probe under way is given up

    def state(self, now: float) -> State:
        if now < max(self._cooling, self._barred):
            return State.COOLING
        if not self.until:
            return State.CLOSED
        return State.OPEN if now < self.until else State.HALF_OPEN

    def passes(self, now: float) -> bool:
        """Whether a call would be let through; promises nothing."""
        if now < self._cooling or now < self._barred:
            return False
        return not self.until or (now >= self.until and now >= self._probing)

    def enter(self, now: float) -> bool:
        """Lets a call through, or not. Through a half-open breaker goes one at a time."""
        if not self.passes(now):
            return False
        if self.until:
            self._probing = now + PROBE_LEASE
        return True

    def wait(self, now: float) -> float:
        """Seconds until a call may pass; 0 where one may now."""
        if self.passes(now):
            return 0.0
        probe = self._probing if self.until and now >= self.until else 0.0
        return max(0.001, self._cooling - now, self._barred - now, (self.until or now) - now, min(1.0, probe - now))

    def began(self, now: float) -> None:
        """An answer has begun. What was under way when the breaker opened does not close it."""
        if self.until and now >= self.until:
            self.until = self._probing = 0.0
            self._row = max(0, self.tolerance.failures - 1)
            self._outcomes.clear()

    def succeeded(self, now: float) -> None:
        """An answer came whole, or the provider refused the request as such."""
        self.began(now)
        if not self.until:
            self._row = self._times = 0
        self._outcomes.append((now, True))

    def failed(self, now: float) -> None:
        tolerance = self.tolerance
        half_open = bool(self.until) and now >= self.until
        self._row += 1
        self._outcomes.append((now, False))
        if self.until and not half_open:  # what was under way when it opened says nothing new
            return
        if tolerance.failures and (half_open or self._row >= tolerance.failures or self._half_failed(now)):
            self._open(now)

    def _half_failed(self, now: float) -> bool:
        found = self._outcomes
        if len(found) < self.tolerance.calls or found[0][0] < now - self.tolerance.within:
            return False
        return 2 * sum(not whole for _, whole in found) >= len(found)

    def _open(self, now: float) -> None:
        self.opened_at = now
        self.until = now + min(self.tolerance.longest, self.tolerance.open * 2.0 ** min(self._times, 16))
        self._times += 1
        self._probing = 0.0

    def release(self) -> None:
        """The probe is over, whatever it said: another call may be the next."""
        self._probing = 0.0

    def cool(self, now: float, seconds: float) -> None:
        """The provider wants to be left alone for so long."""
        self._cooling = max(self._cooling, now + min(seconds, self.tolerance.cool_down))

    def bar(self, now: float) -> None:
        """Lets no call pass for `BARRED_FOR`, until the database says that the credential is disabled."""
        self._barred = now + BARRED_FOR

    def reset(self) -> None:
        """As new: somebody says that it works again."""
        self.until = self._cooling = self._barred = self._probing = 0.0
        self._row = self._times = 0
        self._outcomes.clear()


# ---- figures --------------------------------------------------------------------------------------------------------

# Upper bounds of the histogram's buckets in milliseconds: 1, 1.25, 1.5625, … ; the last takes the rest.
_STEP = 1.25
BUCKETS = 56  # up to four minutes
_LOG_STEP = math.log(_STEP)


def bucket(milliseconds: float) -> int:
    if milliseconds <= 1.0:
        return 0
    return min(BUCKETS - 1, math.ceil(math.log(milliseconds) / _LOG_STEP))


class Figures(msgspec.Struct):
    """What happened in a stretch of time. `first_byte`: how many answers began within each bucket's bound."""

    calls: int = 0
    failures: dict[str, int] = msgspec.field(default_factory=dict)
    first_byte: dict[int, int] = msgspec.field(default_factory=dict)

    def join(self, other: "Figures") -> None:
        self.calls += other.calls
        _add(self.failures, other.failures)
        _add(self.first_byte, other.first_byte)

    @property
    def failed(self) -> int:
        return sum(count for kind, count in self.failures.items() if kind != Kind.REJECTED)

    def quantile(self, share: float) -> float | None:
        """Milliseconds within which this share of the answers began, to a bucket's bound; None where none did."""
        left = math.ceil(sum(self.first_byte.values()) * share)
        for number in sorted(self.first_byte):
            left -= self.first_byte[number]
            if left <= 0:
                return float(_STEP**number)
        return None


def _add(mine: dict[_K, int], theirs: Mapping[_K, int]) -> None:
    for name, count in theirs.items():
        mine[name] = mine.get(name, 0) + count


class Mishap(msgspec.Struct, frozen=True):
    """A failure as the health page tells it; `at` is Unix seconds."""

    at: float
    kind: str
    detail: str


class Report(msgspec.Struct):
    """What one process knows of one credential. `minutes` by Unix minutes; `until` is Unix seconds, 0 for none."""

    state: str = State.CLOSED
    until: float = 0.0
    minutes: dict[int, Figures] = msgspec.field(default_factory=dict)
    mishaps: list[Mishap] = msgspec.field(default_factory=list)


def joined(reports: Iterable[Report], *, since: int) -> Figures:
    """The figures of the minutes from `since` on, of all reports together."""
    found = Figures()
    for report in reports:
        for minute, figures in report.minutes.items():
            if minute >= since:
                found.join(figures)
    return found


# ---- the registry ---------------------------------------------------------------------------------------------------


class Circuit:
    """A credential's breaker and figures in this process."""

    __slots__ = ("_registry", "ails_until", "breaker", "changed", "forbidden", "minutes", "mishaps")

    def __init__(self, registry: "Registry", tolerance: Tolerance) -> None:
        self._registry = registry
        self.breaker = Breaker(tolerance)
        self.minutes: dict[int, Figures] = {}
        self.mishaps: deque[Mishap] = deque(maxlen=ERRORS)
        self.forbidden = 0  # in a row
        self.ails_until = 0.0
        self.changed = False

    def figures(self) -> Figures:
        """The figures of the running minute."""
        minute = int(self._registry.wall() // 60)
        found = self.minutes.get(minute)
        if found is None:
            found = self.minutes[minute] = Figures()
            for old in [number for number in self.minutes if number <= minute - MINUTES]:
                del self.minutes[old]
        self.changed = True
        return found

    def report(self) -> Report:
        now, wall = self._registry.clock(), self._registry.wall()
        state, wait = self.breaker.state(now), self.breaker.wait(now)
        until = wall + wait if state in (State.OPEN, State.COOLING) else 0.0
        minutes = {number: msgspec.convert(msgspec.to_builtins(f), Figures) for number, f in self.minutes.items()}
        return Report(state.value, round(until, 1), minutes, list(self.mishaps))


class Passage:
    """One attempt on its way through a circuit. Ends once, in one of `succeeded`, `failed`, `dropped`; what comes
    after that says nothing any more."""

    __slots__ = ("_circuit", "_probe", "_registry", "_since", "ended")

    def __init__(self, registry: "Registry", circuit: Circuit) -> None:
        self._registry = registry
        self._circuit = circuit
        self._probe = bool(circuit.breaker.until)
        self._since = registry.clock()
        self.ended = False

    def sent(self) -> None:
        """The request goes out now."""
        self._since = self._registry.clock()
        self._circuit.figures().calls += 1

    def began(self) -> None:
        """The answer's first byte is there."""
        circuit, now = self._circuit, self._registry.clock()
        number = bucket((now - self._since) * 1000)
        found = circuit.figures().first_byte
        found[number] = found.get(number, 0) + 1
        circuit.ails_until = 0.0
        circuit.breaker.began(now)

    def succeeded(self) -> None:
        if self._end():
            self._circuit.forbidden = 0
            self._circuit.breaker.succeeded(self._registry.clock())

    def dropped(self) -> None:
        """The attempt ended for a reason that is not the provider's."""
        self._end()

    def _end(self) -> bool:
        """Whether it had not ended before."""
        if self.ended:
            return False
        self.ended = True
        if self._probe:
            self._circuit.breaker.release()
        return True

    def failed(self, kind: Kind, detail: str, *, wait: float | None = None, forbids_by_input: bool = False) -> bool:
        """Notes a failure. Whether the provider refuses the credential itself, so that it should be disabled."""
        if not self._end() or kind is Kind.NONE:
            return False
        self._note(kind, detail, wait)
        return self._refuses(kind, forbids_by_input)

    def _note(self, kind: Kind, detail: str, wait: float | None) -> None:
        circuit, now = self._circuit, self._registry.clock()
        found = circuit.figures().failures
        found[kind.value] = found.get(kind.value, 0) + 1
        answers = kind in (Kind.REJECTED, Kind.MISSING)
        circuit.ails_until = 0.0 if answers else now + AILS_FOR
        if answers:
            circuit.breaker.succeeded(now)
        elif kind in FAILURES:
            circuit.breaker.failed(now)
            if wait:
                circuit.breaker.cool(now, wait)
        elif kind is Kind.LIMITED:
            circuit.breaker.cool(now, refusals.USUAL_WAIT if wait is None else wait)
        elif kind is Kind.UNPAID:
            circuit.breaker.cool(now, UNPAID_WAIT)
        if kind is not Kind.REJECTED:
            circuit.mishaps.append(Mishap(round(self._registry.wall(), 1), kind.value, detail[:200]))

    def _refuses(self, kind: Kind, forbids_by_input: bool) -> bool:
        circuit = self._circuit
        if kind is Kind.FORBIDDEN and not forbids_by_input:
            circuit.forbidden += 1
        elif kind is not Kind.FORBIDDEN:
            circuit.forbidden = 0
        return kind is Kind.REFUSED or circuit.forbidden >= FORBIDDEN_TIMES

    def bar(self) -> None:
        """Keeps the others away until the credential is disabled in the database."""
        self._circuit.breaker.bar(self._registry.clock())


class Registry:
    """The circuits of this process, by key (`routing.Target.key`)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, wall: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.wall = wall
        self._circuits: dict[str, Circuit] = {}

    def passes(self, key: str) -> bool:
        circuit = self._circuits.get(key)
        return circuit is None or circuit.breaker.passes(self.clock())

    def ails(self, key: str) -> bool:
        """Whether its last try has failed, and not long ago."""
        circuit = self._circuits.get(key)
        return circuit is not None and self.clock() < circuit.ails_until

    def enter(self, key: str, tolerance: Tolerance = USUAL, *, anyway: bool = False) -> Passage | None:
        """None where its breaker lets no call through now, unless the call has nowhere else to go (`anyway`)."""
        circuit = self._circuits.get(key)
        if circuit is None:
            circuit = self._circuits[key] = Circuit(self, tolerance)
        elif circuit.breaker.tolerance is not tolerance and circuit.breaker.tolerance != tolerance:
            circuit.breaker = Breaker(tolerance)
        return Passage(self, circuit) if circuit.breaker.enter(self.clock()) or anyway else None

    def refusal(self, keys: Iterable[str]) -> RelayError:
        """Why none of these lets a call through, and when one will: 429 where all are limited, 503 else."""
        now = self.clock()
        found = [circuit.breaker for key in keys if (circuit := self._circuits.get(key)) is not None]
        if not found:
            return RelayError(Cause.UNAVAILABLE, "No channel can serve this model now.", retry_after=5)
        wait = max(1.0, min(breaker.wait(now) for breaker in found))
        if all(breaker.state(now) is State.COOLING for breaker in found):
            return RelayError(Cause.RATE_LIMITED, "The provider's rate limit is reached.", retry_after=wait)
        return RelayError(Cause.UNAVAILABLE, "No channel can serve this model now.", retry_after=wait)

    def forget(self, key: str) -> None:
        """As new: the credential was enabled again."""
        if (circuit := self._circuits.get(key)) is not None:
            circuit.breaker.reset()
            circuit.forbidden = 0
            circuit.ails_until = 0.0
            circuit.changed = True

    def keep_only(self, keys: frozenset[str]) -> None:
        """Resets the breakers of credentials that are out of use; what has happened to them is kept as long as all
        figures, for it is still shown, and they may come back."""
        oldest = int(self.wall() // 60) - MINUTES
        for key in self._circuits.keys() - keys:
            self.forget(key)
            circuit = self._circuits[key]
            if max(circuit.minutes, default=0) <= oldest:
                del self._circuits[key]

    def take_changes(self) -> Mapping[str, Report]:
        """The reports of the circuits that have changed since the last time, by key."""
        found: dict[str, Report] = {}
        for key, circuit in self._circuits.items():
            if circuit.changed:
                circuit.changed = circuit.breaker.state(self.clock()) is not State.CLOSED
                found[key] = circuit.report()
        return found

    def give_back(self, keys: Iterable[str]) -> None:
        """The changes of these circuits could not be stored: `take_changes` tells them again."""
        for key in keys:
            if (circuit := self._circuits.get(key)) is not None:
                circuit.changed = True


# ---- the budget of retries ------------------------------------------------------------------------------------------


class Retries:
    """How many calls of this process may be at a further try where the last one failed: a fifth of those in flight, and
    three at least. So an outage of all channels is not multiplied by the calls that go from one to the next."""

    SHARE, LEAST = 0.2, 3

    def __init__(self) -> None:
        self.calls = 0
        self.retries = 0

    def may(self) -> bool:
        return self.retries < max(self.LEAST, int(self.calls * self.SHARE))


registry = Registry()
retries = Retries()


def read(report: Any) -> Report:
    """A stored report; an empty one where another version wrote it."""
    try:
        return msgspec.convert(report, Report, strict=False)
    except msgspec.ValidationError:
        return Report()
