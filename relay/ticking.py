"""One timer for many: what has deadlines is looked at now and then, so that none of it sets a timer of its own."""

import asyncio
from typing import Generic, Protocol, TypeVar


class Looked(Protocol):
    def look(self, now: float) -> None:
        """`now` is the event loop's."""


AnyLooked = TypeVar("AnyLooked", bound=Looked)


class Ticker(Generic[AnyLooked]):
    """Looks at everything in `at_work` every so many seconds, in the event loop that it is in."""

    def __init__(self, every: float) -> None:
        self.at_work: set[AnyLooked] = set()
        self._every = every
        self._loop: asyncio.AbstractEventLoop | None = None

    def add(self, one: AnyLooked, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            self._loop = loop
            self.at_work = set()
            loop.call_later(self._every, self._tick, loop)
        self.at_work.add(one)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is not self._loop:
            return
        if not self.at_work:
            self._loop = None  # the next one starts it again
            return
        loop.call_later(self._every, self._tick, loop)
        now = loop.time()
        for one in list(self.at_work):
            one.look(now)
