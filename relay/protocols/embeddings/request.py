"""OpenAI embedding requests: a text, several, or the tokens of either.

Source: OpenAI API reference, "Create embeddings". A client that sends tokens has used the vocabulary of OpenAI's
embedding models (LangChain does, whatever the model is called).
"""

from typing import ClassVar, Literal

import msgspec

from relay.counting.families import Family
from relay.counting.prompt import Prompt
from relay.protocols import once, raws, vectors

MOST_INPUTS = 2048  # OpenAI's


class _Wanted(msgspec.Struct):
    """What is read of a request. Raw: known to exist, not looked into."""

    model: str | None = None
    input: msgspec.Raw = raws.ABSENT
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: int | None = None
    api_key: str | None = None


class EmbeddingAsked(once.OnceAsked):
    """`texts` are what is to be embedded, or `tokens` (as the JSON list or lists that they came in) is it; `inputs` is
    how many vectors there will be."""

    __slots__ = ("base64", "dimensions", "inputs", "texts", "tokens")

    kind: ClassVar[str] = "embedding"
    READ = _Wanted.__struct_fields__

    def __init__(self, body: bytes, wanted: _Wanted, fields: once.Fields) -> None:
        numbers = _is_numbers(wanted.input)
        super().__init__(body, wanted.model or "", fields, text_bytes=0 if numbers else len(body))
        self.base64 = wanted.encoding_format == "base64"
        self.dimensions = wanted.dimensions
        self.texts: list[str] | None = None
        self.tokens = b""
        if _first(wanted.input) == b'"':
            self.texts = [msgspec.json.decode(wanted.input, type=str)]
        elif numbers:
            self.tokens = _lists_of_tokens(bytes(wanted.input))
        else:
            self.texts = _texts(wanted.input)
        self.inputs = len(self.texts) if self.texts is not None else max(1, self.tokens.count(b"[") - 1)
        if self.inputs > MOST_INPUTS:
            raise _too_many()

    @property
    def _token_count(self) -> int:
        return self.tokens.count(b",") + 1 if self.tokens else 0

    def _most(self, family: Family) -> int:
        return self.text_bytes + self._token_count + (0 if family.exact else family.framing + once.AROUND * self.inputs)

    def prompt(self) -> Prompt:
        return Prompt(texts=self.texts or [], framing=0, tokens=self._token_count)

    def vectors(self) -> vectors.Request:
        """The request in values. Raises RelayError for tokens that are none of OpenAI's."""
        texts = self.texts if self.texts is not None else vectors.texts_of(self.tokens)
        beside = once.given(self._fields) - {*self.READ}
        return vectors.Request(texts=texts, dimensions=self.dimensions, extra=sorted(beside))


_decoder = msgspec.json.Decoder(_Wanted)
_texts_decoder = msgspec.json.Decoder(list[str])


def read(body: bytes) -> EmbeddingAsked:
    """Raises RelayError: invalid_json or invalid_parameter, with the field's name."""
    wanted, fields = once.read(body, _decoder)
    if not raws.is_given(wanted.input):
        raise once.refused("input", "`input` is missing: a text, a list of texts, or tokens.")
    once.positive(wanted, "dimensions")
    return EmbeddingAsked(body, wanted, fields)


def _first(raw: msgspec.Raw) -> bytes:
    return bytes(memoryview(raw)[:1])


def _is_numbers(raw: msgspec.Raw) -> bool:
    """Whether it is a list that begins with a number, or with a list."""
    start = bytes(memoryview(raw)[1:64]).lstrip(b" \t\r\n")[:1]
    return _first(raw) == b"[" and (start.isdigit() or start in (b"[", b"-"))


def _texts(raw: msgspec.Raw) -> list[str]:
    if once.has_more_strings(raw, MOST_INPUTS):
        raise _too_many()
    try:
        found = _texts_decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise once.refused("input", "`input` must be a text, a list of texts, or lists of tokens.") from error
    if not found:
        raise once.refused("input", "`input` is an empty list.")
    return found


def _lists_of_tokens(raw: bytes) -> bytes:
    """The tokens without spaces. Looked at as characters: as numbers they would take ten times the room."""
    if raw.translate(None, b"0123456789,[] \t\r\n"):
        raise once.refused("input", "`input` may have texts or tokens, which are whole numbers, and not both.")
    flat = raw.translate(None, b" \t\r\n")
    lists = flat.count(b"[")
    if b"[]" in flat:
        raise once.refused("input", "`input` has an empty list.")
    nested = flat.startswith(b"[[") and flat.count(b"],[") == flat.count(b"],") == lists - 2 and flat.endswith(b"]]")
    if lists != 1 and not nested:
        raise once.refused("input", "`input` may have tokens, or lists of tokens.")
    return flat


def _too_many() -> Exception:
    return once.refused("input", f"`input` may have at most {MOST_INPUTS} entries.")
