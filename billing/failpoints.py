"""Named places where a test can make a process die, as `kill -9` at exactly that moment would.

`FAILPOINT=after_hold_commit` in a process's environment kills it when it first gets there, `after_hold_commit:3` the
third time. In production nothing is armed and `hit` does nothing; an unknown name, or one where failpoints are not
allowed (DEBUG, or FAILPOINTS_ALLOWED for tests), ends the start.
"""

import os
import signal
from collections.abc import Callable

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

NAMES = frozenset({
    "after_hold_commit",  # the hold is durable, and nobody has been told
    "before_dispatch",  # the attempt is noted, and nothing has been sent
    "after_first_byte",  # the upstream has begun to answer
    "mid_stream",  # what a stream has produced is about to be noted: at its beginning, and as long as it lasts
    "before_settle_commit",  # the charge is known and noted, and not in the books
    "after_commit_before_reply",  # the charge is in the books, and the client has not been told
    "after_store_answer",  # as before, and the answer is kept for the call's idempotency key
})  # fmt: skip


def _nothing(name: str) -> None:
    """Production's."""


hit: Callable[[str], None] = _nothing


def arm(wanted: str) -> None:
    """Called once at the start with the value of FAILPOINT. Raises ImproperlyConfigured."""
    global hit
    if not wanted:
        return
    name, _, times = wanted.partition(":")
    if name not in NAMES:
        raise ImproperlyConfigured(f"FAILPOINT: unknown name {name!r}; known are {', '.join(sorted(NAMES))}")
    if not (settings.DEBUG or settings.FAILPOINTS_ALLOWED):
        raise ImproperlyConfigured("FAILPOINT is set; it is for tests, and needs DEBUG or FAILPOINTS_ALLOWED")
    hit = _deadly(name, int(times or 1))


def _deadly(name: str, times: int) -> Callable[[str], None]:
    left = times

    def count(reached: str) -> None:
        nonlocal left
        if reached == name:
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

    return count
