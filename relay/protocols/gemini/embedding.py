"""Gemini's `models.embedContent` and `models.batchEmbedContents`: texts into vectors, both ways. Pure.

SDKs send a batch even for one text. Source: Gemini API reference, `EmbedContentRequest`.
"""

from typing import Any

import msgspec

from billing.usage import Usage
from relay.errors import Cause, RelayError
from relay.protocols.codec import Told
from relay.protocols.gemini import request

MOST_TEXTS = 2048
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


class Part(msgspec.Struct, forbid_unknown_fields=True):
    text: str


class Content(msgspec.Struct):
    parts: list[Part] | Part
    role: str | None = None


class _One(msgspec.Struct):
    content: Content
    model: str | None = None
    taskType: str | None = None
    task_type: str | None = None
    title: str | None = None
    outputDimensionality: int | None = None
    output_dimensionality: int | None = None


class _Batch(msgspec.Struct):
    requests: list[_One]
    model: str | None = None


class Embeddings(msgspec.Struct):
    """What is asked: a vector for each text, of `dimensions` numbers if that is said. `task` is Gemini's word for what
    the vectors are for, `batch` whether several answers are expected, even to one text."""

    model: str
    texts: list[str]
    dimensions: int | None = None
    task: str | None = None
    title: str | None = None
    batch: bool = True


class Vectors(msgspec.Struct):
    """One for each text. `usage` is None where none was reported."""

    vectors: list[list[float]]
    usage: Usage | None = None


class _Values(msgspec.Struct):
    values: list[float]


class _Report(msgspec.Struct):
    promptTokenCount: int | None = None


class _Answer(msgspec.Struct):
    embedding: _Values | None = None
    embeddings: list[_Values] | None = None
    usageMetadata: _Report | None = None


_one_decoder = msgspec.json.Decoder(_One)
_batch_decoder = msgspec.json.Decoder(_Batch)
_answer_decoder = msgspec.json.Decoder(_Answer)


def read(body: bytes, *, model: str = "", batch: bool) -> Embeddings:
    """A client's request; the path says the model. Raises RelayError (400), also for texts that are asked for in
    different ways: no other protocol has words for that."""
    try:
        body.decode()
        whole = _batch_decoder.decode(body) if batch else None
        several = whole.requests if whole is not None else [_one_decoder.decode(body)]
    except msgspec.ValidationError as error:
        raise RelayError(
            Cause.INVALID_PARAMETER, f"The texts to embed are malformed: {error}", param="content"
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RelayError(Cause.INVALID_JSON, "The body is not valid JSON.") from error
    if not 1 <= len(several) <= MOST_TEXTS:
        message = f"`requests` must have between 1 and {MOST_TEXTS} texts."
        raise RelayError(Cause.INVALID_PARAMETER, message, param="requests")
    first = _manner(several[0])
    if any(_manner(one) != first for one in several):
        message = "All `requests` of a batch must have the same `taskType`, `title` and `outputDimensionality`."
        raise RelayError(Cause.INVALID_PARAMETER, message, param="requests")
    task, title, dimensions = first
    if dimensions is not None and not 1 <= dimensions <= 2**16:
        message = "`outputDimensionality` must be a positive integer."
        raise RelayError(Cause.INVALID_PARAMETER, message, param="outputDimensionality")
    named = request.name_of(model or (whole.model if whole else None) or several[0].model or "")
    return Embeddings(named, [_text(one) for one in several], dimensions, task, title, batch)


def _manner(one: _One) -> tuple[str | None, str | None, int | None]:
    return one.taskType or one.task_type, one.title, one.outputDimensionality or one.output_dimensionality


def _text(one: _One) -> str:
    parts = one.content.parts
    return "\n".join(part.text for part in ([parts] if isinstance(parts, Part) else parts))


def encode(body: bytes, *, model: str) -> bytes:
    """A client's own request for an upstream of the same protocol: every `model` in it is the upstream's, and an
    `api_key` that belongs to us is taken out. Wants a body that `read` has read."""
    fields: dict[str, Any] = _fields_decoder.decode(body)
    fields.pop("api_key", None)
    if "requests" not in fields:
        return msgspec.json.encode({**fields, "model": _name(model)})
    fields.pop("model", None)
    several = msgspec.json.decode(fields["requests"], type=list[dict[str, msgspec.Raw]])
    fields["requests"] = [{**one, "model": _name(model)} for one in several]
    return msgspec.json.encode(fields)


def encode_request(asked: Embeddings, *, model: str) -> bytes:
    """Any client's request, as a batch."""
    manner = {"taskType": asked.task, "title": asked.title, "outputDimensionality": asked.dimensions}
    beside = {name: value for name, value in manner.items() if value is not None}
    return msgspec.json.encode(
        {
            "requests": [
                {"model": _name(model), "content": {"parts": [{"text": text}]}, **beside} for text in asked.texts
            ]
        }
    )


def path(model: str, *, batch: bool = True) -> str:
    return request.path(model, "batchEmbedContents" if batch else "embedContent")


def _name(model: str) -> str:
    return request.path(model, "")[1:-1]


def decode_response(body: bytes) -> Vectors:
    """Of either call. Raises RelayError (upstream_error)."""
    try:
        found = _answer_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider sent no vectors.") from error
    values = found.embeddings if found.embeddings is not None else [found.embedding] if found.embedding else []
    if not values:
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider sent no vectors.")
    count = found.usageMetadata.promptTokenCount if found.usageMetadata is not None else None
    usage = Usage(input=count) if count is not None and 0 <= count < 2**40 else None
    return Vectors([one.values for one in values], usage)


def encode_response(found: Vectors, *, batch: bool, pisces: Told) -> bytes:
    """The first vector alone where one was asked for."""
    body: dict[str, Any]
    if batch:
        body = {"embeddings": [{"values": vector} for vector in found.vectors]}
    else:
        body = {"embedding": {"values": found.vectors[0]}}
    if found.usage is not None:
        body["usageMetadata"] = {"promptTokenCount": found.usage.tokens_in}
    return msgspec.json.encode({**body, "pisces": pisces})
