"""Embeddings between the hub's values and OpenAI's wire, for calls that are translated."""

from typing import Any

import msgspec

from billing.usage import Usage
from relay.errors import Cause, RelayError
from relay.protocols import once, vectors
from relay.protocols.codec import Encoded, Told
from relay.protocols.embeddings import answer
from relay.protocols.embeddings.request import EmbeddingAsked


class _Embedding(msgspec.Struct):
    embedding: msgspec.Raw
    index: int | None = None


_decoder = msgspec.json.Decoder(_Embedding)


def encode_request(request: vectors.Request, *, model: str) -> Encoded:
    body: dict[str, Any] = {"model": model, "input": request.texts, "encoding_format": "float"}
    if request.dimensions is not None:
        body["dimensions"] = request.dimensions
    named = {"taskType": request.purpose, "title": request.title}
    return Encoded(body, losses=[*request.extra, *(name for name, value in named.items() if value is not None)])


def decode_response(body: bytes, inputs: int) -> vectors.Response:
    """Raises RelayError (upstream_error)."""
    found = answer.decode(body, inputs)
    try:
        each = [_decoder.decode(raw) for raw in found.data]
        each.sort(key=lambda embedding: embedding.index or 0)
        return vectors.Response(
            vectors=[vectors.unpacked(embedding.embedding) for embedding in each],
            id=found.id or "",
            usage=once.usage(found.usage),
        )
    except (ValueError, RecursionError) as error:
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider's embeddings are no lists of numbers.") from error


def encode_response(
    response: vectors.Response, *, asked: EmbeddingAsked, model: str, usage: Usage | None, pisces: Told
) -> bytes:
    """`usage` is what is charged, where it is known."""
    write = vectors.packed if asked.base64 else vectors.listed
    data = [
        {"object": "embedding", "index": index, "embedding": write(vector)}
        for index, vector in enumerate(response.vectors)
    ]
    told = once.write_usage(usage if usage is not None else Usage())
    return msgspec.json.encode({"object": "list", "data": data, "model": model, **told, "pisces": pisces})
