"""The protocols that the gateway speaks: a row for each folder of `relay.protocols`, and the one that fits a call."""

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
    """OpenAI's for a call of which nobody knows what it speaks."""
    return DIALECTS.get(name, OPENAI)


def streams(asked: Asked, candidate: Candidate) -> bool:
    """Whether the upstream is asked to stream: some always do, some never."""
    return {"only": True, "never": False}.get(candidate.streams, asked.stream)


def passes(asked: Asked, candidate: Candidate) -> bool:
    """Whether the client's bytes can go through as they are."""
    return towards(candidate, asked.protocol) is of(asked.protocol) and streams(asked, candidate) == asked.stream


def towards(candidate: Candidate, client: str) -> Dialect:
    """What is spoken with a channel for a client of this protocol. Old models complete texts and do not chat."""
    if client == COMPLETIONS.name and candidate.protocol == OPENAI.name and candidate.caps.completions:
        return COMPLETIONS
    return DIALECTS[candidate.protocol]


def endpoint(kind: str, protocol: str) -> Endpoint:
    """Raises RelayError for a protocol that has nothing of this kind."""
    found = ENDPOINTS.get((kind, protocol))
    if found is None:
        raise RelayError(Cause.INVALID_MODEL, f"The model's channel has no endpoint for {kind} models.", param="model")
    return found
