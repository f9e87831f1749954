"""Rate limits: requests per minute, tokens per minute and parallel calls, of keys, teams and channels.

    slip = await limits.admit(principal.scopes, tokens=limits.estimate(text_bytes=…, max_output=…))
    …
    slip.finish(tokens_used)

**What is promised.** In any 60 seconds no limit admits more than it says. A refusal says after how many seconds the
call fits, to the microsecond, if nobody else comes first. Several limits are asked and counted as one: a call that one
of them refuses is counted by none. Who has no limits pays nothing.

**Which algorithm, and why.** A sliding window, counted in grains of a quarter of a second. What was taken in a grain
counts until a minute after the grain's end.

- A token bucket (or GCRA, which is one) that may be emptied at once lets through up to twice its size in a minute: all
  of it, and what flows in meanwhile. Made half as large it would refuse the burst that the limit allows.
- A fixed window lets through twice the limit around its boundary, and the usual counter that weighs the window before
  by its overlap assumes calls to be spread evenly: after a burst at a window's end it admits half as much again.
- A log of every call is exact, but its size is the callers' choice.
- Grains are exact on the safe side, hold at most 242 numbers for each limit, and give back room at most 0.25 s late
  (0.4 % of a minute). What passes such a window also passes a fixed one, a sliding one and a token bucket of the same
  size, wherever these begin. So a channel's limit may be set to just what its provider allows.

**Tokens** are reserved by an estimate and corrected at the end: what was too much goes back to the grain that it was
taken from, what was too little counts when it is known. A call that alone is larger than the limit is admitted when
nothing else is in the window, and takes all of it: its estimate may be too high, and it would never be admitted else.

**Parallel calls** take places, which are leases of 30 seconds that the process renews every 10 s. A process that dies
gives its places back by that. Nobody can tell when a call will end: the wait that a refusal names is one second.

**Where it is counted.** With `REDIS_URL` in Redis, by its clock, for all processes together, one script and one round
trip for all limits of a call. A Redis that does not answer within 50 ms, or refuses, is left alone until it answers a
probe again, which is tried every two seconds at least; until then each process counts for itself, and goes on from what
it has let in itself. A Redis that was restarted empty learns the running calls' places again, not the minute before.

Without Redis each process counts for itself, exactly: several processes together let through up to as many times the
limit. It is not divided by `WEB_CONCURRENCY`: a client keeps its connection, and with it one process, and would be
refused at a fraction of what it was promised, while the division promises no total either (two parallel calls among
four processes). Whoever needs the total has Redis; `manage.py doctor` says so.
"""

from django.conf import settings

from keys.limits.headers import retry_after
from keys.limits.limiter import NOTHING, Limiter, LimitReached, Slip
from keys.limits.shared import Shared
from keys.rates import LARGEST, Kind, Limit, Owner, Reading, Scope, estimate, scope

__all__ = [
    "LARGEST", "NOTHING", "Kind", "Limit", "LimitReached", "Owner", "Reading", "Scope", "Slip",
    "admit", "estimate", "retry_after", "scope", "start", "stop",
]  # fmt: skip

_limiter = Limiter()
_shared: list[Shared] = []

admit = _limiter.admit


async def start() -> None:
    """Reaches for Redis, where there is one. Without this the process counts for itself."""
    if settings.REDIS_URL:
        shared = Shared(settings.REDIS_URL, live=_limiter.running)
        _shared.append(shared)
        _limiter.share(shared)
        await shared.start()


async def stop() -> None:
    _limiter.share(None)
    while _shared:
        await _shared.pop().stop()
