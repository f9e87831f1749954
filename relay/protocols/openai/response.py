"""OpenAI chat answers: read for usage and faults, passed on as the bytes they came in."""

from typing import Any

import msgspec

from billing.usage import Usage
from relay.counting.output import Output
from relay.errors import Cause, RelayError
from relay.protocols.codec import Told
from relay.protocols.envelope import error_text
from relay.protocols.openai import usage
from relay.protocols.raws import ABSENT, is_given


class Delta(msgspec.Struct, gc=False):
    """What a message, or a piece of one, puts out. Raw, because it is only passed on and counted."""

    content: msgspec.Raw = ABSENT
    reasoning_content: msgspec.Raw = ABSENT
    reasoning: msgspec.Raw = ABSENT
    refusal: msgspec.Raw = ABSENT
    tool_calls: msgspec.Raw = ABSENT
    function_call: msgspec.Raw = ABSENT


class _Choice(msgspec.Struct):
    message: Delta | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    id: str | None = None
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


class ChatAnswer(msgspec.Struct):
    """A whole answer. `usage` is None where the upstream gave none."""

    body: bytes
    id: str
    usage: Usage | None
    finish: str
    choices: list[_Choice]

    def seen(self, upstream_model: str) -> Output:
        """What was put out, for counting."""
        found = Output(upstream_model)
        for number, choice in enumerate(self.choices):
            if choice.message is not None:
                note(choice.message, number, found)
            if choice.finish_reason is not None:
                found.ended += choice.finish_reason != "length"
        return found

    @property
    def output_bytes(self) -> int:
        """Bytes of the model's output as they stand in the JSON."""
        return sum(_size(choice.message) for choice in self.choices if choice.message is not None)

    def encode(self, *, model: str, pisces: Told, counted: Usage | None = None) -> bytes:
        """The same answer under the offered name, with the gateway's own object at its end."""
        fields: dict[str, Any] = _fields_decoder.decode(self.body)
        if "model" in fields:
            fields["model"] = model
        if counted is not None:
            fields["usage"] = usage.encode(counted)
        fields["pisces"] = pisces
        return msgspec.json.encode(fields)


_decoder = msgspec.json.Decoder(_Answer)
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def decode(body: bytes, asked: object = None) -> ChatAnswer:
    """The same whatever was asked. Raises RelayError (upstream_error) for what is no answer, be it with status 200."""
    try:
        body.decode()  # what is passed on as raw bytes has not been looked at
        answer = _decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider's answer is not a chat completion.") from error
    if is_given(answer.error):
        raise RelayError(Cause.UPSTREAM_ERROR, f"The provider failed: {error_text(answer.error)}")
    if not answer.choices:
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider's answer has no choices.")
    return ChatAnswer(
        body=body,
        id=answer.id or "",
        usage=usage.decode(answer.usage),
        finish=answer.choices[0].finish_reason or "",
        choices=answer.choices,
    )


# ---- what is put out ------------------------------------------------------------------------------------------------


class _Function(msgspec.Struct, gc=False):
    name: msgspec.Raw = ABSENT
    arguments: msgspec.Raw = ABSENT


class _Call(msgspec.Struct, gc=False):
    index: int | None = None
    function: _Function | None = None


_calls_decoder = msgspec.json.Decoder(list[_Call])
_call_decoder = msgspec.json.Decoder(_Function)
TEXTS = ("content", "reasoning_content", "reasoning", "refusal")


def _size(message: Delta) -> int:
    parts = (getattr(message, part) for part in (*TEXTS, "tool_calls", "function_call"))
    return sum(memoryview(raw).nbytes - 2 for raw in parts if is_given(raw))


def note(delta: Delta, choice: int, seen: Output) -> None:
    """Adds what a message or a piece of one put out."""
    for part in TEXTS:
        raw = getattr(delta, part)
        if raw is not ABSENT:
            _add(raw, seen, choice, part)
    if is_given(delta.tool_calls):
        _note_calls(delta.tool_calls, choice, seen)
    if is_given(delta.function_call):
        try:
            _note_call(_call_decoder.decode(delta.function_call), choice, 0, seen)
        except (msgspec.DecodeError, RecursionError):
            seen.text(choice, "function_call").add_json(delta.function_call)


def _note_calls(raw: msgspec.Raw, choice: int, seen: Output) -> None:
    try:
        calls = _calls_decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError):
        seen.text(choice, "tool_calls").add_json(raw)
        return
    for place, call in enumerate(calls):
        if call.function is not None:
            _note_call(call.function, choice, place if call.index is None else call.index, seen)


def _note_call(function: _Function, choice: int, number: int, seen: Output) -> None:
    for part in ("name", "arguments"):
        raw = getattr(function, part)
        if raw is not ABSENT:
            _add(raw, seen, choice, part, number)


def _add(raw: msgspec.Raw, seen: Output, choice: int, part: str, number: int = 0) -> None:
    size = memoryview(raw).nbytes
    if size == 2 or (size == 4 and not is_given(raw)):
        return  # "" or null
    text = seen.text(choice, part, number)
    if memoryview(raw)[0] == 0x22:
        text.add(raw)
    else:
        text.add_json(raw)
