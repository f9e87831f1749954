"""Whose turn it is to be tried again at a target that has just failed others (`health.Retries`)."""

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncIterator

from relay.channels.health import Registry, Retries
from relay.guard import Guard, Why

WAIT_FOR_TURN = 10.0  # seconds that a call waits for its turn; then it goes on all the same


class Turns:
    """A further try at a target that works needs no turn: it multiplies no load on what fails. One at a target that
    ails waits until a turn is free, the target is well, or it has waited for `within` seconds: a call is not failed
    while a target that lets it through is left."""

    def __init__(self, registry: Registry, retries: Retries, *, within: float = WAIT_FOR_TURN) -> None:
        self._registry = registry
        self._retries = retries
        self._within = within
        self._waiting: deque[asyncio.Future[None]] = deque()

    @contextlib.asynccontextmanager
    async def turn(self, key: str, guard: Guard) -> AsyncIterator[None]:
        """For as long as a further try at this target lasts. Raises Interrupted for a client that leaves while it
        waits."""
        taken = 0
        try:
            if self._needed(key):
                await self._wait(key, guard)
            taken = int(self._needed(key))
            self._retries.retries += taken
            if not taken:
                self._wake()  # the next one may have waited for the same target
            yield
        finally:
            self._retries.retries -= taken
            self._wake()

    def _needed(self, key: str) -> bool:
        """What lets nothing through is not tried, so nobody waits for it."""
        return self._registry.ails(key) and self._registry.passes(key)

    async def _wait(self, key: str, guard: Guard) -> None:
        guard.expect(Why.TOTAL, 2 * self._within)  # what was expected of the last provider is over
        guard.limit(2 * self._within)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._within):
                while self._needed(key) and not self._retries.may():
                    with guard:
                        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                        self._waiting.append(turn)
                        await turn

    def _wake(self) -> None:
        """Lets the next one look again."""
        while self._waiting and self._waiting[0].done():
            del self._waiting[0]
        if self._waiting:
            self._waiting.popleft().set_result(None)
