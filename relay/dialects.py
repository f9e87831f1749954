"""The protocols that the gateway speaks: a row for each folder of `relay.protocols`, and the one that fits a call."""

from functools import cache
from typing import NamedTuple

from relay.channels.routing import Candidate
from relay.errors import Cause, RelayError
from relay.protocols import anthropic, completions, embeddings, gemini, moderations, openai, rerank, responses
from relay.protocols.codec import Asked, Dialect, Endpoint
from relay.protocols.gemini import embedding

DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect
    for dialect in (
        openai.DIALECT,
        responses.DIALECT,
        anthropic.DIALECT,
        gemini.DIALECT,
        completions.DIALECT,
    )
}
# What there is for models that do not chat, by their kind and the protocol.
ENDPOINTS: dict[tuple[str, str], Endpoint] = {
    (endpoint.kind, endpoint.protocol): endpoint
    for endpoint in (embeddings.DIALECT, embedding.DIALECT, rerank.DIALECT, moderations.DIALECT)
}
OPENAI, COMPLETIONS, GEMINI = openai.DIALECT, completions.DIALECT, gemini.DIALECT


def of(name: str) -> Dialect:
    """The dialect of this name; OpenAI's for a call of which nobody knows what it speaks."""
    return DIALECTS.get(name, OPENAI)


class Way(NamedTuple):
    """How a chat's client and a channel's upstream are spoken with."""

    client: Dialect
    upstream: Dialect
    streams: bool  # the upstream is asked to stream: some always do, some never
    passes: bool  # the client's bytes can go through as they are


def way(asked: Asked, candidate: Candidate) -> Way:
    """The way of this call to this channel."""
    return _way(asked.protocol, asked.stream, candidate.protocol, candidate.caps.streams, candidate.caps.completions)


@cache  # of so few, and asked twice for every attempt
def _way(asked: str, streamed: bool, offered: str, streams: str, completes: bool) -> Way:
    client, upstream = of(asked), DIALECTS[offered]
    if client is COMPLETIONS and upstream is OPENAI and completes:
        upstream = COMPLETIONS  # old models complete texts and do not chat
    streaming = {"only": True, "never": False}.get(streams, streamed)
    return Way(client, upstream, streaming, upstream is client and streaming == streamed)


def endpoint(kind: str, protocol: str, *, lacks: frozenset[str] = frozenset()) -> Endpoint:
    """Raises RelayError for a protocol that has nothing of this kind, or where it is one of those that a provider
    lacks."""
    found = ENDPOINTS.get((kind, protocol)) if kind not in lacks else None
    if found is None:
        raise RelayError(Cause.INVALID_MODEL, f"The model's channel has no endpoint for {kind} models.", param="model")
    return found
