"""Counts that providers report: which of them make sense, and overlapping ones as disjoint buckets. Pure."""

from collections.abc import Collection

import msgspec

from billing.usage import Usage

LARGEST = 2**40  # tokens; a provider that reports as many, or fewer than none, is not believed


class InputDetails(msgspec.Struct):
    """What OpenAI tells apart within a prompt."""

    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None


class OutputDetails(msgspec.Struct):
    """What OpenAI tells apart within an answer."""

    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


def make_sense(counts: Collection[int]) -> bool:
    """Whether each of these, of which there is at least one, can be a count of tokens."""
    return min(counts) >= 0 and max(counts) < LARGEST


def disjoint(total_in: int, parts_in: tuple[int, int, int], total_out: int, parts_out: tuple[int, int]) -> Usage:
    """The buckets of totals that contain their parts: of the prompt what was read from the cache, what was written to
    it and what was heard; of the answer what was thought and what was spoken."""
    read, write, audio_in = _within(total_in, parts_in)
    reasoning, audio_out = _within(total_out, parts_out)
    return Usage(
        input=total_in - read - write - audio_in,
        cache_read=read,
        cache_write=write,
        audio_in=audio_in,
        output=total_out - reasoning - audio_out,
        reasoning=reasoning,
        audio_out=audio_out,
    )


def _within(total: int, parts: tuple[int, ...]) -> list[int]:
    """Parts as disjoint shares of their total: a provider whose details exceed it cannot make a bucket negative."""
    shares = []
    for part in parts:
        share = min(part, total)
        total -= share
        shares.append(share)
    return shares
