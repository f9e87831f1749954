"""Free TCP ports on loopback, and waiting for something to become true."""

import socket
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def free_port() -> int:
    """A port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def eventually(probe: Callable[[], T], *, within: float = 10.0, every: float = 0.02) -> T:
    """The first true value of `probe`; fails with its last one after `within` seconds."""
    end = time.monotonic() + within
    while not (value := probe()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {within} s; the last value was {value!r}")
        time.sleep(every)
    return value


PROMISE = 1.0  # seconds until what was decided is in force on every process
PAUSE = 0.1  # seconds between two looks


def in_force(probe: Callable[[], object]) -> None:
    """Fails where `probe` is not true within PROMISE. Only the pauses between probes are counted, at their due length:
    neither what the probes take nor what a busy machine is late by is the gateway's."""
    waited = 0.0
    while not probe():
        assert waited < PROMISE, f"not in force within {PROMISE} s"
        time.sleep(PAUSE)
        waited += PAUSE
