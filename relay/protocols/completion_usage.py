"""The usage object of OpenAI's completions, chat and text, and disjoint buckets: its prompt contains the cached tokens,
its completion the reasoning."""

from typing import Any

import msgspec

from billing.usage import Usage
from relay.protocols import reported
from relay.protocols.reported import InputDetails, OutputDetails


class _Wire(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: InputDetails | None = None
    completion_tokens_details: OutputDetails | None = None
    total_tokens: Any = None
    prompt_cache_hit_tokens: int | None = None  # DeepSeek's spelling of cached_tokens
    cached_tokens: int | None = None  # Moonshot's


_decoder = msgspec.json.Decoder(_Wire | None)


def decode(wire: bytes | msgspec.Raw) -> Usage | None:
    """None where the object is missing, null, tells but one side or makes no sense: then somebody has to count."""
    try:
        found = _decoder.decode(wire)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if found is None:
        return None
    into, out = found.prompt_tokens_details, found.completion_tokens_details
    cached = (into and into.cached_tokens) or found.prompt_cache_hit_tokens or found.cached_tokens or 0
    parts_in = (cached, (into and into.cache_write_tokens) or 0, (into and into.audio_tokens) or 0)
    parts_out = ((out and out.reasoning_tokens) or 0, (out and out.audio_tokens) or 0)
    total_in, total_out = found.prompt_tokens, found.completion_tokens
    if not reported.make_sense((total_in, total_out, *parts_in, *parts_out)):
        return None
    if parts_out[0] and found.total_tokens == total_in + total_out + parts_out[0]:
        total_out += parts_out[0]  # xAI and Google's OpenAI layer leave the thoughts out of the completion
    return reported.disjoint(total_in, parts_in, total_out, parts_out)


def encode(usage: Usage) -> dict[str, Any]:
    """The object as OpenAI writes it. Its totals are the buckets' sums."""
    return {
        "prompt_tokens": usage.tokens_in,
        "completion_tokens": usage.tokens_out,
        "total_tokens": usage.tokens_in + usage.tokens_out,
        "prompt_tokens_details": {
            "cached_tokens": usage.cache_read or 0,
            "cache_write_tokens": usage.cache_writes,
            "audio_tokens": usage.audio_in or 0,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning or 0,
            "audio_tokens": usage.audio_out or 0,
        },
    }
