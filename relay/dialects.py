"""The protocols that the gateway speaks, by name: a row for each folder of `relay.protocols`."""

from relay.channels.routing import Candidate
from relay.protocols import anthropic, completions, gemini, openai, responses
from relay.protocols.codec import Asked, Dialect

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
