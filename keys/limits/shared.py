"""Counting in Redis, for all processes together, and what becomes of it while Redis is away.

A breaker stands before it. The first command that is not answered within `PATIENCE` gives the connection up, and from
then on nobody waits: `up` is false and callers count for themselves. A task of its own connects again, at growing
intervals, and closes the breaker once Redis has answered a probe within the same patience. Places that Redis could not
be told of meanwhile are given back then.
"""

import asyncio
import os
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from functools import partial
from typing import Any

import msgspec
import structlog

from keys import rates
from keys.limits import script, wire
from keys.limits.script import Scripts
from keys.limits.wire import Away, Lost, Refused, Script, Wire
from keys.rates import SECOND, Kind, Limit, Reading

log = structlog.get_logger(__name__)

PATIENCE = 0.035  # seconds; with the second look at the socket a call loses less than 50 ms to a dead Redis
CONNECT_WITHIN = 1.0
FIRST_RETRY, LAST_RETRY = 0.25, 2.0  # seconds between two attempts to connect
STEADY = 5.0  # a connection that lasted so long begins with the shortest interval again
LEASE = 30.0  # seconds that a parallel call's place outlives its process
RENEW_EVERY = 10.0
PLACES_AT_ONCE = 500  # of one command
MOST_OWED = 10_000  # places; with more of them the oldest wait for the end of their lease

Live = Callable[[], Iterable[tuple[bytes, Sequence[Limit]]]]
_Place = tuple[Limit, bytes]  # of a call


class Admission(msgspec.Struct):
    """What Redis said: whether the call is let in, the grain in which it is counted, how the limits stand."""

    admitted: bool
    grain: int
    readings: tuple[Reading, ...]


class Shared:
    """`live` names the calls that are running, with their limits: the places of these are renewed."""

    def __init__(
        self,
        url: str,
        *,
        live: Live,
        lease: float = LEASE,
        renew_every: float = RENEW_EVERY,
        patience: float = PATIENCE,
        scripts: Scripts | None = None,
    ) -> None:
        self._url, self._live = url, live
        self._lease = b"%d" % int(lease * SECOND)
        self._renew_every, self._patience = renew_every, patience
        self._scripts = [Script(text) for text in scripts or script.scripts()]
        self._admit, self._settle, self._renew, self._release = self._scripts
        self._wire: Wire | None = None
        self._owed: deque[_Place] = deque(maxlen=MOST_OWED)
        self._first_try = asyncio.Event()
        self._told_away = False
        self._task: asyncio.Task[None] | None = None

    @property
    def up(self) -> bool:
        return self._wire is not None and not self._wire.lost.done()

    async def start(self) -> None:
        """Returns once Redis has been reached, or could not be at once."""
        self._task = asyncio.create_task(self._keep())
        await self._first_try.wait()

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._wire is not None:
            self._wire.close()

    # ---- what calls ask

    async def admit(self, call: bytes, limits: Sequence[Limit], tokens: int) -> Admission:
        """One round trip for all limits. Raises Away; then nothing is known to be counted."""
        if self._wire is None:
            raise Away("there is no connection")

        def nobody_waits(answer: Any) -> None:
            """The call was cancelled meanwhile: gives back what it was granted."""
            admitted, grain, _readings = script.read_admission(answer, limits)
            if admitted:
                taken = [(limit, -rates.amount(limit, tokens)) for limit in limits]
                self.settle(call, grain, taken)

        arguments = [call, self._lease]
        for limit in limits:
            amount = 0 if limit.kind is Kind.PARALLEL else rates.amount(limit, tokens)
            arguments += [b"%d" % limit.most, b"%d" % amount]
        try:
            answer = await self._wire.run(
                self._admit, *_keys(limits), *arguments, late=nobody_waits, lost=self._owing(call, limits)
            )
        except Refused as error:  # read-only, out of memory, still loading: a Redis that cannot count is away
            log.warning("limits.redis_refused", error=str(error)[:200])
            self._wire.close("Redis refused")
            raise Away("Redis refused") from error
        return Admission(*script.read_admission(answer, limits))

    def settle(self, call: bytes, grain: int, differences: Sequence[tuple[Limit, int]]) -> None:
        """Gives places back and corrects windows, without waiting. Where Redis is away, windows run out, and places
        are given back when it is there again."""
        if not differences:
            return
        limits = [limit for limit, _ in differences]
        lost = self._owing(call, limits)
        if self._wire is not None:
            changes = [b"p" if limit.kind is Kind.PARALLEL else b"%d" % by for limit, by in differences]
            self._wire.post(self._settle, *_keys(limits), call, b"%d" % grain, *changes, lost=lost)
        elif lost is not None:
            lost()

    def _owing(self, call: bytes, limits: Sequence[Limit]) -> Lost | None:
        """Notes the call's places, for when it is not known whether Redis counts them."""
        places = [(limit, call) for limit in limits if limit.kind is Kind.PARALLEL]
        return partial(self._owed.extend, places) if places else None

    # ---- the connection

    async def _keep(self) -> None:
        """Runs for the life of the process: connects, and when the connection is lost connects again."""
        pause = FIRST_RETRY
        while True:
            lasted = await self._session()
            self._first_try.set()
            if lasted >= STEADY:
                pause = FIRST_RETRY
            await asyncio.sleep(pause)
            pause = min(2 * pause, LAST_RETRY)

    async def _session(self) -> float:
        """From connecting to the loss of the connection; how many seconds it lasted."""
        loop = asyncio.get_running_loop()
        try:
            found = await asyncio.wait_for(self._connected(), CONNECT_WITHIN)
        except Exception as error:  # whatever it was: the process counts for itself, and tries again
            if not self._told_away:
                log.warning("limits.redis_away", error=str(error) or type(error).__name__)
            self._told_away = True
            return 0.0
        log.info("limits.redis_reached")
        began, self._wire, self._told_away = loop.time(), found, False
        self._first_try.set()
        try:
            await self._attend(found)
        except Exception as error:
            log.error("limits.not_renewed", error=type(error).__name__)
        finally:
            found.close()
        log.warning("limits.redis_lost")
        return loop.time() - began

    async def _connected(self) -> Wire:
        """A connection that has answered a probe in time."""
        found = await wire.connect(self._url, patience=CONNECT_WITHIN)
        try:
            for text in self._scripts:
                await found.command(b"SCRIPT", b"LOAD", text.text)
            found.hurry(self._patience)
            await found.command(b"PING")
        except BaseException:
            found.close()
            raise
        return found

    async def _attend(self, found: Wire) -> None:
        """Looks after the places at once, and then until the connection is lost."""
        while not found.lost.done():
            live = list(self._live())
            self._give_back(found, {call for call, _ in live})
            self._renew_all(found, live)
            await asyncio.wait([found.lost], timeout=self._renew_every)

    def _give_back(self, found: Wire, live: AbstractSet[bytes]) -> None:
        """What Redis could not be told, but for the calls that are running: these go on, and say so when they end."""
        places = [place for place in self._owed if place[1] not in live]
        self._owed.clear()
        for some in _portions(places):
            _post(found, self._release, some, lost=partial(self._owed.extend, some))

    def _renew_all(self, found: Wire, live: Iterable[tuple[bytes, Sequence[Limit]]]) -> None:
        places = [(limit, call) for call, limits in live for limit in limits if limit.kind is Kind.PARALLEL]
        for some in _portions(places):
            _post(found, self._renew, some, self._lease)


def _post(found: Wire, what: Script, places: Sequence[_Place], *arguments: bytes, lost: Lost | None = None) -> None:
    found.post(what, *_keys([limit for limit, _ in places]), *arguments, *(call for _, call in places), lost=lost)


def _portions(places: Sequence[_Place]) -> Iterable[Sequence[_Place]]:
    return (places[start : start + PLACES_AT_ONCE] for start in range(0, len(places), PLACES_AT_ONCE))


def _keys(limits: Sequence[Limit]) -> list[bytes]:
    return [b"%d" % len(limits), *(limit.name.encode() for limit in limits)]


def new_process_name() -> bytes:
    """What tells the calls of this process from those of all others."""
    return os.urandom(9).hex().encode()
