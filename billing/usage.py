"""What a call used, in disjoint buckets: a token is counted in exactly one of them.

`None` says that nobody counted; 0 is a count. The wire's own, overlapping counting is converted by the protocol
decoders, so nothing past them has to know that one vendor's input contains the cached tokens and another's does not.
"""

from enum import StrEnum

import msgspec

BUCKETS = (
    "input",
    "cache_read",
    "cache_write",
    "output",
    "reasoning",
    "audio_in",
    "audio_out",
    "images",
    "seconds",
    "calls",
)


class Source(StrEnum):
    """Where the numbers come from."""

    REPORTED = "reported"  # the upstream's own final count
    PARTIAL = "partial"  # what was last known of a call whose process died
    COUNTED = "counted"  # the gateway counted what it saw
    NONE = "none"  # nothing was used or nothing is known


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Units by bucket: tokens, pictures, seconds, calls. None where nobody counted."""

    input: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    output: int | None = None
    reasoning: int | None = None
    audio_in: int | None = None
    audio_out: int | None = None
    images: int | None = None
    seconds: int | None = None
    calls: int | None = None

    def buckets(self) -> list[tuple[str, int]]:
        """The counted buckets in their canonical order, zeros left out."""
        return [(name, value) for name in BUCKETS if (value := getattr(self, name))]

    @property
    def tokens_in(self) -> int:
        return (self.input or 0) + (self.cache_read or 0) + (self.cache_write or 0) + (self.audio_in or 0)

    @property
    def tokens_out(self) -> int:
        return (self.output or 0) + (self.reasoning or 0) + (self.audio_out or 0)
