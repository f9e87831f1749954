"""Gemini's embeddings: `:batchEmbedContents`, and `:embedContent` for a single content. Upstreams are asked by the
first alone.

Source: Gemini API reference, "Embeddings"; the paths that Google's SDK calls. Only texts are embedded here.
"""

from typing import Any, ClassVar

import msgspec

from billing.usage import Usage
from relay.counting.families import Family
from relay.counting.prompt import Prompt
from relay.errors import Cause, RelayError
from relay.protocols import codec, once, raws, vectors
from relay.protocols.codec import Encoded, Told
from relay.protocols.gemini import request as generation

MOST_REQUESTS = 2048  # Google's own bound is 100, and OpenAI's this
_MOST_STRINGS = 32 * MOST_REQUESTS


# ---- requests -------------------------------------------------------------------------------------------------------


class _Part(msgspec.Struct):
    text: str


class _Content(msgspec.Struct):
    parts: list[_Part] | _Part  # a list of one may be written without its brackets

    @property
    def texts(self) -> list[str]:
        return [part.text for part in ([self.parts] if isinstance(self.parts, _Part) else self.parts)]

    @property
    def text(self) -> str:
        return "\n".join(self.texts)


class _Single(msgspec.Struct):
    """Google's parser takes both spellings of a name."""

    content: _Content
    model: str = ""
    taskType: str | None = None
    task_type: str | None = None
    title: str | None = None
    outputDimensionality: int | None = None
    output_dimensionality: int | None = None
    api_key: str | None = None

    @property
    def purpose(self) -> str | None:
        return self.taskType if self.taskType is not None else self.task_type

    @property
    def dimensions(self) -> int | None:
        return self.outputDimensionality if self.outputDimensionality is not None else self.output_dimensionality


class _Batch(msgspec.Struct):
    requests: msgspec.Raw = raws.ABSENT
    api_key: str | None = None


_ONE = set(_Single.__struct_fields__)
_single_decoder = msgspec.json.Decoder(_Single)
_batch_decoder = msgspec.json.Decoder(_Batch)
_singles_decoder = msgspec.json.Decoder(list[_Single])
_each_decoder = msgspec.json.Decoder(list[once.Fields])


class EmbedAsked(once.OnceAsked):
    """`each` has the contents, `batch` says by which of the two paths they came."""

    __slots__ = ("_requests", "batch", "each", "inputs")

    protocol: ClassVar[str] = "gemini"
    kind: ClassVar[str] = "embedding"
    READ = ("model", "requests", "api_key")

    def __init__(
        self, body: bytes, model: str, fields: once.Fields, each: list[_Single], requests: list[once.Fields]
    ) -> None:
        super().__init__(body, model, fields, text_bytes=len(body))
        self.each = each
        self.batch = "requests" in fields
        self.inputs = len(each)
        self._requests = requests

    def _most(self, family: Family) -> int:
        return len(self.body) + (0 if family.exact else family.framing + once.AROUND * self.inputs)

    def prompt(self) -> Prompt:
        return Prompt(texts=[text for one in self.each for text in (one.content.text, one.title) if text], framing=0)

    def encode(self, *, model: str, limit: int | None) -> bytes:
        """The client's own contents, as a batch, under the upstream's name of the model."""
        beside = {name: value for name, value in self._fields.items() if self.batch and name != "api_key"}
        return msgspec.json.encode({**beside, "requests": [self._named(each, model) for each in self._requests]})

    @staticmethod
    def _named(request: once.Fields, model: str) -> dict[str, Any]:
        return {name: value for name, value in request.items() if name != "api_key"} | {"model": _name(model)}

    def vectors(self) -> vectors.Request:
        """Raises RelayError (400) where the contents are not asked for alike, which only Gemini takes."""
        first = self.each[0]
        if any((one.dimensions, one.purpose) != (first.dimensions, first.purpose) for one in self.each):
            raise once.refused("requests", "This model embeds all contents of a request in the same way.")
        return vectors.Request(
            texts=[one.content.text for one in self.each],
            dimensions=first.dimensions,
            purpose=first.purpose,
            title=next((one.title for one in self.each if one.title), None),
            extra=sorted({name for request in self._requests for name in once.given(request) - _ONE}),
        )


def read(body: bytes, *, model: str, batch: bool) -> EmbedAsked:
    """`model` is the path's, and so is whether it is a batch. Raises RelayError: invalid_json or invalid_parameter."""
    if not batch:
        single, fields = once.read(body, _single_decoder)
        return EmbedAsked(body, model, fields, _checked([single], model), [fields])
    wanted, fields = once.read(body, _batch_decoder)
    each = _several(wanted.requests)
    return EmbedAsked(body, model, fields, _checked(each, model), _each_decoder.decode(wanted.requests))


def _several(raw: msgspec.Raw) -> list[_Single]:
    if not raws.is_given(raw):
        raise once.refused("requests", "`requests` is missing: a list of contents to embed.")
    if once.has_more_strings(raw, _MOST_STRINGS):
        raise _too_many()
    try:
        found = _singles_decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise once.wrong_type(error, "requests") from error
    except RecursionError as error:
        raise once.refused("requests", "`requests` is nested too deeply.") from error
    if not found:
        raise once.refused("requests", "`requests` is an empty list.")
    if len(found) > MOST_REQUESTS:
        raise _too_many()
    return found


def _checked(each: list[_Single], model: str) -> list[_Single]:
    for one in each:
        if generation.name_of(one.model) not in ("", model):
            raise once.refused("model", "The `model` of a request must be the one that the path names.")
        if not one.content.texts:
            raise once.refused("content", "`content` has no parts.")
        if one.dimensions is not None and not 1 <= one.dimensions <= 2**31:
            raise once.refused("outputDimensionality", "`outputDimensionality` must be a positive integer.")
    return each


def _too_many() -> RelayError:
    return once.refused("requests", f"`requests` may have at most {MOST_REQUESTS} entries.")


def encode_request(request: vectors.Request, *, model: str) -> Encoded:
    name = _name(model)
    beside: dict[str, Any] = {"outputDimensionality": request.dimensions, "taskType": request.purpose}
    beside = {key: value for key, value in beside.items() if value is not None}
    each = [{"model": name, "content": {"parts": [{"text": text}]}, **beside} for text in request.texts]
    return Encoded({"requests": each}, losses=list(request.extra))


# ---- answers --------------------------------------------------------------------------------------------------------


class _Embedding(msgspec.Struct):
    values: msgspec.Raw


class _Answer(msgspec.Struct):
    embeddings: list[msgspec.Raw]
    usageMetadata: msgspec.Raw = raws.ABSENT


_answer_decoder = msgspec.json.Decoder(_Answer)
_embedding_decoder = msgspec.json.Decoder(_Embedding)


class SingleWhole(once.OnceWhole):
    """The answer to a batch of one, for a client that asked by `:embedContent`."""

    def _fields(self) -> once.Fields:
        fields = super()._fields()
        (only,) = msgspec.json.decode(fields.pop("embeddings"), type=list[msgspec.Raw])
        return {"embedding": only, **fields}


def whole(body: bytes, asked: EmbedAsked) -> once.OnceWhole:
    found = _decode(body, asked.inputs)
    kind = once.OnceWhole if asked.batch else SingleWhole
    return kind(body, id="", usage=once.usage(found.usageMetadata), write_usage=_write_usage)


def _decode(body: bytes, inputs: int) -> _Answer:
    found = once.answer(body, _answer_decoder, "list of embeddings")
    if len(found.embeddings) != inputs:
        message = f"The provider gave {len(found.embeddings)} embeddings for {inputs} contents."
        raise RelayError(Cause.UPSTREAM_ERROR, message)
    return found


def decode_response(body: bytes, inputs: int) -> vectors.Response:
    """Raises RelayError (upstream_error)."""
    found = _decode(body, inputs)
    try:
        values = [vectors.unpacked(_embedding_decoder.decode(raw).values) for raw in found.embeddings]
    except (ValueError, RecursionError) as error:
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider's embeddings are no lists of numbers.") from error
    return vectors.Response(vectors=values, usage=once.usage(found.usageMetadata))


def encode_response(
    response: vectors.Response, *, asked: EmbedAsked, model: str, usage: Usage | None, pisces: Told
) -> bytes:
    each = [{"values": vectors.listed(vector)} for vector in response.vectors]
    body: dict[str, Any] = {"embeddings": each} if asked.batch else {"embedding": each[0]}
    if usage is not None:
        body |= _write_usage(usage)
    return msgspec.json.encode({**body, "pisces": pisces})


def _write_usage(usage: Usage) -> Told:
    return {"usageMetadata": {"promptTokenCount": usage.tokens_in, "totalTokenCount": usage.tokens_in}}


def path(model: str) -> str:
    return generation.path(model, "batchEmbedContents")


def _name(model: str) -> str:
    """As Google writes it inside a body: with its collection."""
    return generation.path(model, "")[1:-1]


DIALECT = codec.Vectors(
    protocol="gemini",
    kind="embedding",
    path=path,
    read=read,
    whole=whole,
    encode_request=encode_request,
    decode_response=decode_response,
    encode_response=encode_response,
)
