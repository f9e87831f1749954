"""Calls that are answered once and whole, and put no tokens out: what embeddings, reranking, moderation share. Pure.

The fields that the gateway must know are read; everything else stays the bytes that it came in.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, TypeVar

import msgspec

from billing.usage import Usage
from relay.counting import families
from relay.counting.families import Family
from relay.counting.output import Output
from relay.counting.prompt import Prompt
from relay.errors import Cause, RelayError
from relay.protocols import bodies, reported
from relay.protocols.codec import Told
from relay.protocols.raws import ABSENT, is_given

Fields = dict[str, msgspec.Raw]
# Tokens that models which are not OpenAI's put around each text: a beginning, an end, what it is embedded for.
AROUND = 16

_fields_decoder = msgspec.json.Decoder(Fields)
_FIELD = re.compile(r"\$\.([a-z_]+)")
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)
Wanted = TypeVar("Wanted", bound=msgspec.Struct)


def given(fields: Fields) -> set[str]:
    """The names of those that are not null."""
    return {name for name, raw in fields.items() if is_given(raw)}


# ---- requests -------------------------------------------------------------------------------------------------------


def read(body: bytes, decoder: msgspec.json.Decoder[Wanted]) -> tuple[Wanted, Fields]:
    """What the decoder wants of a body, and all fields of it. Raises RelayError: invalid_json or invalid_parameter,
    with the field's name."""
    try:
        body.decode()
        wanted = decoder.decode(body)
        fields = _fields_decoder.decode(body)
    except msgspec.ValidationError as error:
        raise wrong_type(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bodies.no_json(error) from error
    known = wanted.__struct_fields__
    for name in fields:
        if name not in known and name.lower() in known:
            # A provider that ignores case would take it for the field itself, behind the price that we looked up.
            raise refused(name, f"Write `{name.lower()}`, not `{name}`.")
    return wanted, fields


def wrong_type(error: msgspec.ValidationError, param: str | None = None) -> RelayError:
    """msgspec says `Expected `str`, got `int` - at `$.model``; the caller gets the field's name."""
    if param is None and (match := _FIELD.search(str(error))) is not None:
        param = match.group(1)
    if param is None:
        return RelayError(Cause.INVALID_JSON, "The body must be a JSON object.")
    what = str(error).split(" - at ")[0].replace("`", "").lower()
    return refused(param, f"`{param}` has a wrong type or value: {what}.")


def refused(param: str, message: str) -> RelayError:
    return RelayError(Cause.INVALID_PARAMETER, message[:500], param=param[:200])


def positive(wanted: msgspec.Struct, *names: str) -> None:
    """Raises RelayError for one of these numbers that is there and not from 1 to 2**31."""
    for name in names:
        value = getattr(wanted, name)
        if value is not None and not 1 <= value <= 2**31:
            raise refused(name, f"`{name}` must be a positive integer.")


def has_more_strings(raw: msgspec.Raw, most: int) -> bool:
    """Whether more than `most` JSON strings are in it, found without making them."""
    view = bytes(raw)
    if view.count(b'"') <= 2 * most:
        return False
    return any(number == most for number, _ in enumerate(_STRING.finditer(view)))


class OnceAsked(ABC):
    """A request as `codec.Asked` promises it, by what its endpoint's subclass reads."""

    __slots__ = ("_fields", "body", "limit", "model", "n", "stream", "text_bytes")

    protocol: ClassVar[str] = "openai"
    kind: ClassVar[str]
    shown: ClassVar[int] = 0
    # The fields that the gateway reads.
    READ: ClassVar[Sequence[str]]

    def __init__(self, body: bytes, model: str, fields: Fields, *, text_bytes: int) -> None:
        self.body = body
        self.model = model
        self.stream = False
        self.limit: int | None = None
        self.n = 1
        self._fields = fields
        self.text_bytes = text_bytes

    @abstractmethod
    def prompt(self) -> Prompt: ...

    @abstractmethod
    def _most(self, family: Family) -> int:
        """Input tokens that no model of this family reports more than."""

    def input_bound(self, *upstream_models: str) -> int:
        return max(self._most(family) for family in {families.of(model) for model in upstream_models or (self.model,)})

    def encode(self, *, model: str, limit: int | None) -> bytes:
        """The body for the upstream: its own bytes, but for the model's name, an `api_key` that belongs to us, and a
        field written twice. There is no limit to write."""
        if model == self.model and bodies.is_plain(self.body, bodies.quoted(self.READ)):
            return self.body
        merged: dict[str, Any] = {**self._fields, "model": model}
        merged.pop("api_key", None)
        return msgspec.json.encode(merged)


# ---- answers --------------------------------------------------------------------------------------------------------


class OnceWhole:
    """A whole answer, looked into for its usage and passed on as it came, as `codec.Whole` promises it.

    `write_usage` makes the field that tells usage, where the endpoint's answers have one.
    """

    __slots__ = ("_body", "_write_usage", "finish", "id", "output_bytes", "usage")

    def __init__(
        self, body: bytes, *, id: str, usage: Usage | None, write_usage: Callable[[Usage], Told] | None = None
    ) -> None:
        self._body = body
        self._write_usage = write_usage
        self.id = id
        self.usage = usage
        self.finish = ""
        self.output_bytes = 0

    def seen(self, upstream_model: str) -> Output:
        """Nothing that is counted: these models put no tokens out."""
        return Output(upstream_model)

    def encode(self, *, model: str, pisces: Told, counted: Usage | None = None) -> bytes:
        """The same answer under the offered name, with the gateway's own object at its end."""
        fields: dict[str, Any] = self._fields()
        if "model" in fields:
            fields["model"] = model
        if counted is not None and self._write_usage is not None:
            fields |= self._write_usage(counted)
        fields["pisces"] = pisces
        return msgspec.json.encode(fields)

    def _fields(self) -> Fields:
        return _fields_decoder.decode(self._body)


class _Error(msgspec.Struct):
    message: str | None = None


class _Failure(msgspec.Struct):
    error: msgspec.Raw = ABSENT


Answer = TypeVar("Answer", bound=msgspec.Struct)


def answer(body: bytes, decoder: msgspec.json.Decoder[Answer], what: str) -> Answer:
    """What the decoder wants of an upstream's answer. Raises RelayError (upstream_error) for what is none, be it with
    status 200; `what` is what it should have been."""
    try:
        body.decode()  # what is passed on as raw bytes has not been looked at
        failure = msgspec.json.decode(body, type=_Failure).error
        if is_given(failure):
            raise RelayError(Cause.UPSTREAM_ERROR, f"The provider failed: {_reason(failure)}")
        return decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RelayError(Cause.UPSTREAM_ERROR, f"The provider's answer is no {what}.") from error


def _reason(raw: msgspec.Raw) -> str:
    try:
        found = msgspec.json.decode(raw, type=_Error | str)
    except (msgspec.DecodeError, RecursionError):
        return "no reason given"
    return ((found if isinstance(found, str) else found.message) or "no reason given")[:500]


# ---- usage ----------------------------------------------------------------------------------------------------------


class _Counted(msgspec.Struct):
    prompt_tokens: int | None = None
    input_tokens: int | None = None
    total_tokens: int | None = None
    promptTokenCount: int | None = None  # Gemini's
    totalTokenCount: int | None = None


_counted_decoder = msgspec.json.Decoder(_Counted | None)


def write_usage(usage: Usage) -> Told:
    """As OpenAI's embeddings tell it, and rerankers after them."""
    return {"usage": {"prompt_tokens": usage.tokens_in, "total_tokens": usage.tokens_in}}


def usage(*reports: msgspec.Raw) -> Usage | None:
    """The input tokens that the first of these objects tells: those of the prompt, or a total where some providers
    leave the prompt at 0. None where none tells any that make sense: then somebody has to count."""
    for report in reports:
        try:
            found = _counted_decoder.decode(report) if report is not ABSENT else None
        except (msgspec.DecodeError, RecursionError):
            continue
        numbers = [number for number in msgspec.structs.astuple(found) if number is not None] if found else []
        if numbers and reported.make_sense(numbers):
            return Usage(input=next((number for number in numbers if number), 0))
    return None
