"""OpenAI embeddings: looked into for usage and faults, passed on as the bytes they came in."""

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import once, raws
from relay.protocols.embeddings.request import EmbeddingAsked


class Answer(msgspec.Struct):
    data: list[msgspec.Raw]
    id: str | None = None
    usage: msgspec.Raw = raws.ABSENT


_decoder = msgspec.json.Decoder(Answer)


def decode(body: bytes, inputs: int) -> Answer:
    """Raises RelayError (upstream_error) for what is no list of as many embeddings."""
    found = once.answer(body, _decoder, "list of embeddings")
    if len(found.data) != inputs:
        raise RelayError(Cause.UPSTREAM_ERROR, f"The provider gave {len(found.data)} embeddings for {inputs} inputs.")
    return found


def whole(body: bytes, asked: EmbeddingAsked) -> once.OnceWhole:
    found = decode(body, asked.inputs)
    return once.OnceWhole(body, id=found.id or "", usage=once.usage(found.usage), write_usage=once.write_usage)
