"""Gemini's `usageMetadata` to disjoint buckets and back: its prompt contains the cached tokens, its candidates do not
contain the thoughts, and what hosted tools put into the prompt stands apart.

Source: Gemini API reference, `UsageMetadata`. Fields that are zero are left out on the wire. In a stream every event
has the numbers as they stand by then, so a later one replaces the one before.
"""

import re
from typing import Any

import msgspec

from billing import usage as usages
from billing.usage import Usage
from relay.protocols import reported
from relay.protocols.gemini import wire as wires


class _Modality(msgspec.Struct):
    modality: str = ""
    tokenCount: int = 0


class _Wire(msgspec.Struct):
    promptTokenCount: int
    cachedContentTokenCount: int | None = None
    candidatesTokenCount: int | None = None
    thoughtsTokenCount: int | None = None
    toolUsePromptTokenCount: int | None = None
    totalTokenCount: int | None = None
    promptTokensDetails: list[_Modality] | None = None
    cacheTokensDetails: list[_Modality] | None = None
    candidatesTokensDetails: list[_Modality] | None = None


_decoder = msgspec.json.Decoder(_Wire | None)


def decode(wire: bytes | msgspec.Raw) -> Usage | None:
    """None where the object is missing, null, tells but one side or makes no sense: then somebody has to count."""
    try:
        found = _decoder.decode(wire)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
    if found is None:
        return None
    cached, thoughts = found.cachedContentTokenCount or 0, found.thoughtsTokenCount or 0
    tools, prompt = found.toolUsePromptTokenCount or 0, found.promptTokenCount
    candidates = found.candidatesTokenCount
    if candidates is None:  # zero; and some versions leave it out and count it in the total only
        if found.totalTokenCount is None:
            return None
        candidates = max(0, found.totalTokenCount - prompt - thoughts - tools)
    heard, heard_before = _audio(found.promptTokensDetails), _audio(found.cacheTokensDetails)
    spoken = _audio(found.candidatesTokensDetails)
    if not reported.make_sense((prompt, cached, thoughts, tools, candidates)):
        return None
    cached = min(cached, prompt)
    audio_in = min(max(0, heard - heard_before), prompt - cached)
    audio_out = min(spoken, candidates)
    return Usage(
        input=prompt - cached - audio_in + tools,
        cache_read=cached,
        audio_in=audio_in,
        output=candidates - audio_out,
        reasoning=thoughts,
        audio_out=audio_out,
    )


class Searches:
    """Google's own searches for one answer, by the newest word on each of its candidates.

    Every query costs; with the models before Gemini 3 an answer that was searched for costs once (Gemini API,
    "Grounding with Google Search", pricing).
    """

    __slots__ = ("_queries",)

    def __init__(self) -> None:
        self._queries: dict[int, int] = {}

    def see(self, candidate: wires.Candidate) -> None:
        grounding = candidate.groundingMetadata
        if grounding is not None and grounding.webSearchQueries:
            self._queries[candidate.index or 0] = sum(bool(query) for query in grounding.webSearchQueries)

    def added(self, reported: Usage | None, model: str) -> Usage | None:
        """The report with these searches, by the model that answered: the name that was asked for may be an alias of
        it (`gemini-flash-latest`)."""
        count = sum(self._queries.values())
        if _BY_ANSWER.search(model):
            count = min(count, 1)
        return usages.searched(reported, count) if reported is not None else None


_BY_ANSWER = re.compile(r"gemini-[12](?![0-9])")


def _audio(details: list[_Modality] | None) -> int:
    """Never below zero, and nothing where the numbers make no sense."""
    found = sum(one.tokenCount for one in details or () if one.modality == "AUDIO")
    return found if reported.make_sense((found,)) else 0


def encode(usage: Usage) -> dict[str, Any]:
    """`usageMetadata` as a client reads it. Its total is the sum of all buckets."""
    prompt, thoughts = usage.tokens_in, usage.reasoning or 0
    candidates = usage.tokens_out - thoughts
    wire: dict[str, Any] = {"promptTokenCount": prompt, "candidatesTokenCount": candidates}
    if usage.cache_read:
        wire["cachedContentTokenCount"] = usage.cache_read
    if thoughts:
        wire["thoughtsTokenCount"] = thoughts
    wire["totalTokenCount"] = prompt + candidates + thoughts
    wire["promptTokensDetails"] = _details(prompt, usage.audio_in or 0)
    if usage.audio_out:
        wire["candidatesTokensDetails"] = _details(candidates, usage.audio_out)
    return wire


def _details(total: int, audio: int) -> list[dict[str, Any]]:
    found = [{"modality": "TEXT", "tokenCount": total - audio}]
    return [*found, {"modality": "AUDIO", "tokenCount": audio}] if audio else found
