"""Signs of life for a client whose stream is silent: load balancers and SDKs give up a connection without bytes.

Only once a stream has begun, for until then another channel may still answer; and only while its upstream has its own
time left, so that a sign never hides a provider that is dead.
"""

import asyncio

from relay.guard import Guard
from relay.http import Outlet
from relay.protocols.codec import Stream

EVERY = 15.0  # seconds of silence


class KeepAlive:
    """While it is entered, a silent upstream's client gets a ping every EVERY seconds."""

    __slots__ = ("_guard", "_outlet", "_seen", "_stream", "_timer")

    def __init__(self, guard: Guard, stream: Stream, outlet: Outlet) -> None:
        self._guard = guard
        self._stream = stream
        self._outlet = outlet
        self._seen = guard.signs
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> "KeepAlive":
        self._timer = asyncio.get_running_loop().call_later(EVERY, self._look)
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look(self) -> None:
        if self._guard.signs == self._seen and not self._guard.left and not self._outlet.behind:
            self._outlet.put(self._stream.ping())
        self._seen = self._guard.signs
        self._timer = asyncio.get_running_loop().call_later(EVERY, self._look)
