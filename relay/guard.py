"""Interrupts a call's work with the upstream: when a deadline passes, or when its client has gone.

Inside `async with guard:` the task may be cancelled by the guard, which then raises Interrupted; outside it never is,
so nothing can tear the books' work. Timers are lazy: a chunk only notes the time, and the timer looks at it when due.
"""

import asyncio
from enum import StrEnum
from types import TracebackType
from typing import Any


class Why(StrEnum):
    LEFT = "left"
    FIRST_BYTE = "first_byte"
    IDLE = "idle"
    TOTAL = "total"
    STALLED = "stalled"


class Interrupted(Exception):
    """The guarded work was stopped."""

    def __init__(self, why: Why) -> None:
        super().__init__(why)
        self.why = why


class Guard:
    """One call's guard. Deadlines are seconds of the event loop's clock; `silence` counts from the last `touch`."""

    __slots__ = (
        "_active",
        "_gone",
        "_handle",
        "_loop",
        "_reason",
        "_silence",
        "_silence_why",
        "_task",
        "_touched",
        "deadline",
        "left",
    )

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[Any] | None = None
        self._active = False
        self._gone = False
        self._reason: Why | None = None
        self._handle: asyncio.TimerHandle | None = None
        self._silence = 0.0
        self._silence_why = Why.FIRST_BYTE
        self._touched = 0.0
        self.deadline = float("inf")
        self.left = False

    def expect(self, why: Why, within: float) -> None:
        """From now on more than `within` seconds without a `touch` interrupt with `why`."""
        self._touched = self._loop.time()
        self._silence, self._silence_why = within, why
        if self._active:
            self._schedule()

    def touch(self) -> None:
        self._touched = self._loop.time()

    def client_left(self, *, drain: float | None) -> None:
        """Told by whoever watches the client: the work stops now, or after at most `drain` seconds."""
        self.left = True
        if drain is None:
            self._gone = True
            self._interrupt(Why.LEFT)
            return
        self.deadline = min(self.deadline, self._loop.time() + drain)
        if self._active:
            self._schedule()

    async def __aenter__(self) -> "Guard":
        if self._gone:  # the client left while nothing was guarded, between two steps of the call
            raise Interrupted(Why.LEFT)
        self._task = asyncio.current_task()
        self._active, self._reason = True, None
        self._schedule()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._active = False
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None
        if self._reason is not None and self._task is not None:
            self._task.uncancel()
            if kind is None or issubclass(kind, asyncio.CancelledError):
                raise Interrupted(self._reason) from error

    def _schedule(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
        due = min(self.deadline, self._touched + self._silence)
        self._handle = self._loop.call_at(due, self._due) if due != float("inf") else None

    def _due(self) -> None:
        self._handle = None
        now = self._loop.time()
        if now >= self.deadline:
            self._interrupt(Why.TOTAL)
        elif now >= self._touched + self._silence:
            self._interrupt(self._silence_why)
        else:
            self._schedule()

    def _interrupt(self, why: Why) -> None:
        if self._active and self._reason is None and self._task is not None:
            self._reason = why
            self._task.cancel()
