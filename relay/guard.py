"""Interrupts a call's work with the upstream: when a deadline passes, or when its client has gone.

Inside `with guard:` the task may be cancelled by the guard, which then raises Interrupted; outside it never is, so
nothing can tear the books' work. One ticker looks after all guards of a process: a call sets no timer of its own, and
a chunk only notes the time. A deadline is kept to within a tick.
"""

import asyncio
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType
from typing import Any

from relay.ticking import Ticker

TICK = 0.1  # seconds


class Why(StrEnum):
    LEFT = "left"
    FIRST_BYTE = "first_byte"
    IDLE = "idle"
    STALLED = "stalled"  # the client does not read what is sent to it
    TOTAL = "total"


class Interrupted(Exception):
    """The guarded work was stopped."""

    def __init__(self, why: Why) -> None:
        super().__init__(why)
        self.why = why


class Guard:
    """One call's guard. Times are seconds of the event loop's clock; silence counts from the last sign of life, which
    the work gives by raising `signs`: a chunk costs an addition, and only the ticker looks at the clock.

    `lasting` is called once if the work is still going at the first tick: what is only worth doing for such a call.
    """

    __slots__ = (
        "_gone",
        "_lasting",
        "_loop",
        "_reason",
        "_seen",
        "_silence",
        "_silence_why",
        "_task",
        "_touched",
        "deadline",
        "left",
        "signs",
    )

    def __init__(self, lasting: Callable[["Guard"], None] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        self._lasting = lasting
        self._task: asyncio.Task[Any] | None = None
        self._gone = False
        self._reason: Why | None = None
        self._silence = float("inf")
        self._silence_why = Why.FIRST_BYTE
        self._touched = self._loop.time()
        self.signs = self._seen = 0
        self.deadline = float("inf")
        self.left = False

    def expect(self, why: Why, within: float) -> None:
        """From now on more than `within` seconds without a sign of life interrupt with `why`."""
        self._touched = self._loop.time()
        self._silence, self._silence_why = within, why

    def limit(self, seconds: float) -> None:
        """The whole work must end within these seconds; what a client that left has given it goes on to count."""
        ends = self._loop.time() + seconds
        self.deadline = min(self.deadline, ends) if self.left else ends

    def client_left(self, *, drain: float | None) -> None:
        """Told by whoever watches the client: the work stops now, or after at most `drain` seconds."""
        self.left = True
        if drain is None:
            self._gone = True
            self._interrupt(Why.LEFT)
        else:
            self.deadline = min(self.deadline, self._loop.time() + drain)

    def look(self, now: float) -> None:
        """Called by the ticker: interrupts the work where its time is up, or where nothing has moved for too long."""
        if self._lasting is not None:
            lasting, self._lasting = self._lasting, None
            lasting(self)
        if self.signs != self._seen:
            self._seen, self._touched = self.signs, now
        if now >= self.deadline:
            self._interrupt(Why.TOTAL)
        elif now >= self._touched + self._silence:
            self._interrupt(self._silence_why)

    def __enter__(self) -> "Guard":
        if self._gone:  # the client left while nothing was guarded, between two steps of the call
            raise Interrupted(Why.LEFT)
        self._task, self._reason = asyncio.current_task(), None
        _ticker.add(self, self._loop)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        task, self._task = self._task, None
        _ticker.at_work.discard(self)
        if self._reason is not None and task is not None:
            task.uncancel()
            if kind is None or issubclass(kind, asyncio.CancelledError):
                raise Interrupted(self._reason) from error

    def _interrupt(self, why: Why) -> None:
        if self._task is not None and self._reason is None:
            self._reason = why
            self._task.cancel()


_ticker: Ticker[Guard] = Ticker(TICK)
