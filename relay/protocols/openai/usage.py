"""OpenAI's usage object to disjoint buckets: its prompt contains the cached tokens, its completion the reasoning."""

import msgspec

from billing.usage import Usage


class _InputDetails(msgspec.Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    audio_tokens: int | None = None


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None


class _Wire(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int | None = None
    prompt_tokens_details: _InputDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    prompt_cache_hit_tokens: int | None = None  # DeepSeek's spelling of cached_tokens


_LARGEST = 2**40
_decoder = msgspec.json.Decoder(_Wire | None)


def decode(wire: bytes | msgspec.Raw) -> Usage | None:
    """None where the object is missing, null or makes no sense: then somebody has to count."""
    try:
        found = _decoder.decode(wire)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if found is None:
        return None
    into, out = found.prompt_tokens_details, found.completion_tokens_details
    cached = (into and into.cached_tokens) or found.prompt_cache_hit_tokens or 0
    parts_in = (cached, (into and into.cache_write_tokens) or 0, (into and into.audio_tokens) or 0)
    parts_out = ((out and out.reasoning_tokens) or 0, (out and out.audio_tokens) or 0)
    total_in, total_out = found.prompt_tokens, found.completion_tokens or 0
    if any(not 0 <= number < _LARGEST for number in (total_in, total_out, *parts_in, *parts_out)):
        return None
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
