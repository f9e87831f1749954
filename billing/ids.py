"""Call ids: UUID version 7 (RFC 9562, section 5.7), so that they sort by time."""

import datetime as dt
import os
import random
import time
import uuid

# Seeded from the system, then without a system call for each id. Ids need to be unique, not secret.
_source = random.Random(os.urandom(32))
os.register_at_fork(after_in_child=lambda: _source.seed(os.urandom(32)))


def uuid7() -> uuid.UUID:
    """48 bits of Unix milliseconds, then 74 random bits."""
    value = (time.time_ns() // 1_000_000) << 80 | _source.getrandbits(80)
    value = value & ~(0xF << 76) | 0x7 << 76
    value = value & ~(0x3 << 62) | 0x2 << 62
    return uuid.UUID(int=value)


def first(moment: dt.datetime) -> uuid.UUID:
    """The smallest id that is made in the millisecond of that moment."""
    return first_at(moment.timestamp())


def first_at(seconds: float) -> uuid.UUID:
    """As `first`, by Unix seconds."""
    return uuid.UUID(int=max(0, int(seconds * 1000)) << 80)


def read(text: str) -> uuid.UUID | None:
    """The id that is written so; None where the text is none."""
    try:
        return uuid.UUID(text)
    except ValueError:
        return None


def time_of(number: uuid.UUID) -> dt.datetime | None:
    """When the id was made; None where its first bits are no time."""
    try:
        return dt.datetime.fromtimestamp((number.int >> 80) / 1000, dt.UTC)
    except (ValueError, OverflowError, OSError):
        return None
