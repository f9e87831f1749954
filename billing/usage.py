"""What a call used, in disjoint buckets: a token is counted in exactly one of them, and so is a picture.

`None` says that nobody counted; 0 is a count. The wire's own, overlapping counting is converted by the protocol
decoders, so nothing past them has to know that one vendor's input contains the cached tokens and another's does not.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum

import msgspec
from msgspec.structs import astuple, replace

BUCKETS = (
    "input",
    "cache_read",
    "cache_write",
    "cache_write_1h",
    "output",
    "reasoning",
    "audio_in",
    "audio_out",
    "characters",
    "images",
    "seconds",
    "searches",
    "calls",
)
# Pictures whose size or quality is known are in a bucket of their own: `images/1024x1024/low`, `images/hd`.
PICTURES = "images/"


class Source(StrEnum):
    """Where the numbers come from."""

    REPORTED = "reported"  # the upstream's own final count
    PARTIAL = "partial"  # reported in part and counted in part, or what was last known of a call whose process died
    COUNTED = "counted"  # the gateway counted what it saw
    NONE = "none"  # nothing was used or nothing is known


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Units by bucket, in the order of BUCKETS: tokens, characters, pictures, seconds, searches, calls. None: nobody
    counted.

    `cache_write_1h` are tokens that were written to a cache for an hour, `cache_write` those written for less or for
    nobody knows how long.

    `pictures` are by size and quality (`1024x1024/low`, or one of both), `images` those of which neither is known.
    """

    input: int | None = None
    cache_read: int | None = None
    cache_write: int | None = None
    cache_write_1h: int | None = None
    output: int | None = None
    reasoning: int | None = None
    audio_in: int | None = None
    audio_out: int | None = None
    characters: int | None = None
    images: int | None = None
    seconds: int | None = None
    searches: int | None = None
    calls: int | None = None
    pictures: dict[str, int] | None = None

    def buckets(self) -> list[tuple[str, int]]:
        """The counted buckets in their canonical order, pictures by size and quality last; zeros left out."""
        found = [(name, value) for name, value in zip(BUCKETS, astuple(self), strict=False) if value]
        if self.pictures:
            found += [(PICTURES + name, count) for name, count in sorted(self.pictures.items()) if count]
        return found

    @property
    def cache_writes(self) -> int:
        """Tokens that were written to a cache, for however long."""
        return (self.cache_write or 0) + (self.cache_write_1h or 0)

    @property
    def tokens_in(self) -> int:
        return (self.input or 0) + (self.cache_read or 0) + self.cache_writes + (self.audio_in or 0)

    @property
    def tokens_out(self) -> int:
        return (self.output or 0) + (self.reasoning or 0) + (self.audio_out or 0)


def completed(reported: Usage, counted: Usage) -> Usage:
    """A report from before an answer's end, and what it could not know yet: output and searches where more of them were
    counted, and input where it tells of none."""
    missing = max(0, counted.tokens_out - reported.tokens_out)
    searches = max(reported.searches or 0, counted.searches or 0) or reported.searches
    whole = replace(reported, output=(reported.output or 0) + missing, searches=searches)
    return whole if reported.tokens_in else replace(whole, input=counted.tokens_in)


def searched(reported: Usage, seen: int) -> Usage:
    """A report, with the searches that were seen where it does not tell how many there were."""
    return replace(reported, searches=seen) if seen and reported.searches is None else reported


def of(buckets: Mapping[str, int]) -> Usage:
    """The inverse of `Usage.buckets`. Raises TypeError for a bucket that there is not."""
    plain = {name: count for name, count in buckets.items() if not name.startswith(PICTURES)}
    pictures = {name.removeprefix(PICTURES): count for name, count in buckets.items() if name not in plain}
    return Usage(**plain, pictures=pictures or None)


def are_known(buckets: Iterable[str]) -> bool:
    """Whether all of these are names of buckets."""
    return all(name in BUCKETS or name.startswith(PICTURES) for name in buckets)
