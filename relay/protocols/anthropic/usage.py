"""Anthropic's usage object and disjoint buckets: its input contains no cached tokens, its output contains the thinking.

What was written to the cache is one number, and apart what of it stays for five minutes and what for an hour, which
costs 2 and not 1.25 times the input ("Prompt caching", pricing).

What the provider itself spends on summarising a conversation in the middle of a call ("Compaction") stands among the
`iterations` alone and is in no other number, but billed as all others are.

In a stream the numbers are cumulative: `message_start` has the input, `message_delta` the end of it all. A later number
replaces an earlier one and is never added to it (Messages API, "Streaming").
"""

from typing import Any

import msgspec

from billing.usage import Usage
from relay.protocols import reported


class _Creation(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: int | None = None
    ephemeral_1h_input_tokens: int | None = None


class _OutputDetails(msgspec.Struct, gc=False):
    thinking_tokens: int | None = None


class _Tools(msgspec.Struct, gc=False):
    web_search_requests: int | None = None


class _Wire(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    cache_creation: _Creation | None = None
    output_tokens_details: _OutputDetails | None = None
    server_tool_use: _Tools | None = None
    iterations: msgspec.Raw = msgspec.Raw(b"null")


class _Iteration(_Wire):
    type: str | None = None


_decoder = msgspec.json.Decoder(_Wire | None)
_iterations_decoder = msgspec.json.Decoder(list[_Iteration] | None)


class Tally:
    """What a stream has told so far, the later number in place of the earlier one."""

    __slots__ = ("_broken", "_compactions", "_seen")

    def __init__(self) -> None:
        self._seen: dict[str, int] = {}
        self._compactions: list[dict[str, int]] = []
        self._broken = False

    def see(self, wire: bytes | msgspec.Raw) -> bool:
        """Whether the output was among what it told."""
        try:
            found = _decoder.decode(wire)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
            self._broken = True
            return False
        if found is not None:
            self._seen.update(_numbers(found))
            self._compactions = _compactions(found.iterations) or self._compactions
        return found is not None and found.output_tokens is not None

    def usage(self) -> Usage | None:
        """None where nothing was told, or what makes no sense: then somebody has to count. Thinking that is not told
        apart stays in the output."""
        seen = self._seen
        if self._broken or "input_tokens" not in seen or "output_tokens" not in seen:
            return None
        told = (seen, *filter(None, self._compactions))
        if not all(reported.make_sense(numbers.values()) for numbers in told):
            return None
        found = _usage(seen)
        for numbers in self._compactions:
            found = _added(found, _usage(numbers))
        return found


def decode(wire: bytes | msgspec.Raw) -> Usage | None:
    """Of a whole answer; as `Tally.usage`."""
    tally = Tally()
    tally.see(wire)
    return tally.usage()


def _numbers(found: _Wire) -> dict[str, int]:
    creation, details = found.cache_creation or _Creation(), found.output_tokens_details or _OutputDetails()
    tools = found.server_tool_use or _Tools()
    numbers = {
        "input_tokens": found.input_tokens,
        "output_tokens": found.output_tokens,
        "cache_creation_input_tokens": found.cache_creation_input_tokens,
        "cache_read_input_tokens": found.cache_read_input_tokens,
        "ephemeral_5m_input_tokens": creation.ephemeral_5m_input_tokens,
        "ephemeral_1h_input_tokens": creation.ephemeral_1h_input_tokens,
        "thinking_tokens": details.thinking_tokens,
        "web_search_requests": tools.web_search_requests,
    }
    return {name: number for name, number in numbers.items() if number is not None}


def _compactions(wire: msgspec.Raw) -> list[dict[str, int]]:
    """None where the iterations are another provider's, and of another shape."""
    try:
        found = _iterations_decoder.decode(wire) or []
    except (msgspec.DecodeError, RecursionError):
        return []
    return [_numbers(each) for each in found if each.type == "compaction"]


def _usage(seen: dict[str, int]) -> Usage:
    thinking, written, output = seen.get("thinking_tokens"), _written(seen), seen.get("output_tokens", 0)
    for_an_hour = seen.get("ephemeral_1h_input_tokens")
    lasting = min(for_an_hour or 0, written)
    shown = min(thinking or 0, output)
    return Usage(
        input=seen.get("input_tokens", 0),
        cache_read=seen.get("cache_read_input_tokens", 0),
        cache_write=written - lasting,
        cache_write_1h=None if for_an_hour is None else lasting,
        output=output - shown,
        reasoning=None if thinking is None else shown,
        searches=seen.get("web_search_requests"),
    )


def _added(one: Usage, other: Usage) -> Usage:
    """The sums; None where neither has a number. These reports have no pictures."""
    pairs = zip(msgspec.structs.astuple(one), msgspec.structs.astuple(other), strict=True)
    return Usage(*(a if b is None else (a or 0) + b for a, b in pairs))


def _written(seen: dict[str, int]) -> int:
    """The total contains both lifetimes; some clouds tell only these."""
    by_lifetime = seen.get("ephemeral_5m_input_tokens", 0) + seen.get("ephemeral_1h_input_tokens", 0)
    return seen.get("cache_creation_input_tokens", by_lifetime)


def encode(usage: Usage | None, *, prompt_tokens: int = 0) -> dict[str, Any]:
    """All that an SDK reads. Without a report there is only what the gateway estimates of the input; cache writes are
    told by their lifetimes where these are known."""
    if usage is None:
        usage = Usage(input=prompt_tokens)
    wire: dict[str, Any] = {
        "input_tokens": (usage.input or 0) + (usage.audio_in or 0),
        "cache_creation_input_tokens": usage.cache_writes,
        "cache_read_input_tokens": usage.cache_read or 0,
        "output_tokens": usage.tokens_out,
    }
    if usage.cache_write_1h is not None:
        wire["cache_creation"] = {
            "ephemeral_5m_input_tokens": usage.cache_write or 0,
            "ephemeral_1h_input_tokens": usage.cache_write_1h,
        }
    if usage.reasoning is not None:
        wire["output_tokens_details"] = {"thinking_tokens": usage.reasoning}
    if usage.searches is not None:
        wire["server_tool_use"] = {"web_search_requests": usage.searches, "web_fetch_requests": 0}
    return wire
