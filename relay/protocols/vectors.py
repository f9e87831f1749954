"""Embeddings in values that any protocol's can be read into and written from, and how they are packed. Pure."""

import base64
import binascii
import sys
from array import array

import msgspec

from billing.usage import Usage
from relay.counting import tokenizer
from relay.errors import Cause, RelayError

MOST_TOKENS = 300_000  # of all inputs together, OpenAI's


class Request(msgspec.Struct, kw_only=True):
    """`texts` to be embedded, each for itself, in `dimensions` numbers. `purpose` (Gemini's task type) and `title` are
    of all of them. `extra` names the client's fields that have no place here."""

    texts: list[str]
    dimensions: int | None = None
    purpose: str | None = None
    title: str | None = None
    extra: list[str] = msgspec.field(default_factory=list)


class Response(msgspec.Struct, kw_only=True):
    """One vector for each text, in their order. `usage` is None where none was reported."""

    vectors: list["array[float]"]
    id: str = ""
    usage: Usage | None = None


_numbers = msgspec.json.Decoder(list[float])


def unpacked(raw: msgspec.Raw) -> "array[float]":
    """A vector written as a JSON list of numbers, or as base64 of little-endian 32-bit floats. Raises ValueError."""
    if bytes(memoryview(raw)[:1]) != b'"':
        return array("d", _numbers.decode(raw))
    try:
        data = base64.b64decode(msgspec.json.decode(raw, type=str), validate=True)
    except binascii.Error as error:
        raise ValueError("a vector that is no base64") from error
    return array("d", _little_endian(array("f", data)))


def listed(vector: "array[float]") -> list[float]:
    return vector.tolist()


def packed(vector: "array[float]") -> str:
    """Base64 of little-endian 32-bit floats."""
    return base64.b64encode(_little_endian(array("f", vector)).tobytes()).decode()


def _little_endian(floats: "array[float]") -> "array[float]":
    if sys.byteorder == "big":
        floats.byteswap()
    return floats


def texts_of(tokens: bytes) -> list[str]:
    """The texts of a JSON list of tokens, or of lists of them, by the vocabulary of OpenAI's embedding models. Raises
    RelayError where it has no such tokens."""
    if tokens.count(b",") >= MOST_TOKENS:
        raise RelayError(Cause.INVALID_PARAMETER, f"`input` may have at most {MOST_TOKENS} tokens.", param="input")
    if not tokens.startswith(b"[["):
        tokens = b"[" + tokens + b"]"
    try:
        return [tokenizer.text_of(each) for each in msgspec.json.decode(tokens, type=list[list[int]])]
    except (ValueError, msgspec.DecodeError) as error:
        message = "This model takes texts. `input` has tokens, and they are not those of OpenAI's embedding models."
        raise RelayError(Cause.INVALID_PARAMETER, message, param="input") from error
