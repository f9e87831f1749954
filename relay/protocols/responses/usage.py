"""The usage object of Responses and disjoint buckets: its input contains the cached tokens, its output the reasoning.

Every key that OpenAI's SDK demands is always written, `cache_write_tokens` too.
"""

from typing import Any

import msgspec

from billing.usage import Usage
from relay.protocols import reported
from relay.protocols.reported import InputDetails, OutputDetails


class _Wire(msgspec.Struct):
    input_tokens: int
    output_tokens: int
    input_tokens_details: InputDetails | None = None
    output_tokens_details: OutputDetails | None = None


_decoder = msgspec.json.Decoder(_Wire | None)


def decode(wire: bytes | msgspec.Raw) -> Usage | None:
    """None where the object is missing, null, tells but one side or makes no sense: then somebody has to count."""
    try:
        found = _decoder.decode(wire)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if found is None:
        return None
    into, out = found.input_tokens_details or InputDetails(), found.output_tokens_details or OutputDetails()
    parts_in = (into.cached_tokens or 0, into.cache_write_tokens or 0, into.audio_tokens or 0)
    parts_out = (out.reasoning_tokens or 0, out.audio_tokens or 0)
    total_in, total_out = found.input_tokens, found.output_tokens
    if not reported.make_sense((total_in, total_out, *parts_in, *parts_out)):
        return None
    return reported.disjoint(total_in, parts_in, total_out, parts_out)


def encode(usage: Usage | None) -> dict[str, Any] | None:
    """None where nothing was reported."""
    if usage is None:
        return None
    into = {"cached_tokens": usage.cache_read or 0, "cache_write_tokens": usage.cache_writes}
    out = {"reasoning_tokens": usage.reasoning or 0}
    return {
        "input_tokens": usage.tokens_in,
        "input_tokens_details": into | ({"audio_tokens": usage.audio_in} if usage.audio_in else {}),
        "output_tokens": usage.tokens_out,
        "output_tokens_details": out | ({"audio_tokens": usage.audio_out} if usage.audio_out else {}),
        "total_tokens": usage.tokens_in + usage.tokens_out,
    }
