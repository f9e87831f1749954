"""Gemini's `models.countTokens`: the prompt alone, or a whole `generateContentRequest` with system text and tools.

Source: Gemini API reference, `models.countTokens`.
"""

from collections.abc import Mapping

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import extent, reported
from relay.protocols.capabilities import Capabilities
from relay.protocols.codec import Chat, Told
from relay.protocols.gemini import request, writing

_GROUPS = ("generateContentRequest", "generate_content_request")


class _Answer(msgspec.Struct):
    totalTokens: int


_answer_decoder = msgspec.json.Decoder(_Answer)
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def read(body: bytes, *, model: str) -> request.GeminiRequest:
    """What is to be counted, as the request that it would be. Raises RelayError (400)."""
    extent.bounded(body)
    try:
        fields = _fields_decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RelayError(Cause.INVALID_JSON, "The body must be a JSON object.") from error
    inner = next((fields[name] for name in _GROUPS if name in fields), None)
    return request.read(body if inner is None else bytes(inner), model=model, stream=False)


def path(model: str) -> str:
    return request.path(model, "countTokens")


def encode_request(asked: Chat, *, model: str, caps: Capabilities) -> bytes:
    """The request whose prompt is counted: one of the same protocol with its own bytes, any other translated."""
    if isinstance(asked, request.GeminiRequest):
        return asked.encode(model=model, limit=None)
    return msgspec.json.encode(writing.encode_request(asked.canonical(), model=model, limit=None, caps=caps).body)


def question(body: bytes, *, model: str) -> bytes:
    """What an upstream is asked of this request."""
    name = request.path(model, "")[1:-1]
    return msgspec.json.encode({"generateContentRequest": {"model": name, **_fields_decoder.decode(body)}})


def decode_response(body: bytes) -> int:
    """Raises RelayError (upstream_error)."""
    try:
        found = _answer_decoder.decode(body).totalTokens
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider sent no count of tokens.") from error
    if not reported.make_sense((found,)):
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider sent a count of tokens that makes no sense.")
    return found


def encode_response(tokens: int, *, told: Mapping[str, msgspec.Raw], pisces: Told) -> bytes:
    """`told` is what else an upstream of the same protocol said: how the tokens are made up, how many are cached."""
    return msgspec.json.encode({"totalTokens": tokens, **told, "pisces": pisces})
