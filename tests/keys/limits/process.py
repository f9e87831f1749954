"""A process that shares its limits with others, as a server does: `python -m tests.keys.limits.process URL WHAT`.

`race RPM CALLS` makes so many calls as fast as it can and prints how many were admitted. `hold PLACES LEASE` takes so
many places and keeps them until it is killed.
"""

import asyncio
import sys
from typing import Any

import structlog
import uvloop

from keys import rates
from keys.limits.limiter import Limiter, LimitReached
from keys.limits.shared import Shared
from keys.rates import Owner, Scope

PATIENCE = 5.0  # the machine of a test may be busy; nobody here asks how long a dead Redis is waited for


def scope(**most: int) -> Scope:
    found = rates.scope(Owner.KEY, 77, **most)
    assert found is not None
    return found


async def connected(url: str, **options: Any) -> tuple[Limiter, Shared]:
    limiter = Limiter()
    shared = Shared(url, live=limiter.running, patience=PATIENCE, **options)
    limiter.share(shared)
    await shared.start()
    assert shared.up
    return limiter, shared


async def race(url: str, rpm: int, calls: int) -> None:
    limiter, shared = await connected(url)
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
    admitted = 0

    async def call() -> None:
        nonlocal admitted
        try:
            (await limiter.admit([scope(rpm=rpm, parallel=rpm)])).finish()
        except LimitReached:
            return
        admitted += 1

    await asyncio.gather(*(call() for _ in range(calls)))
    print(admitted, flush=True)
    await shared.stop()


async def hold(url: str, places: int, lease: float) -> None:
    limiter, _shared = await connected(url, lease=lease, renew_every=lease / 3)
    taken = [await limiter.admit([scope(parallel=100)]) for _ in range(places)]
    print("ready", flush=True)
    await asyncio.sleep(60)
    assert taken


if __name__ == "__main__":
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    url, what, first, second = sys.argv[1:]
    run = race(url, int(first), int(second)) if what == "race" else hold(url, int(first), float(second))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run)
