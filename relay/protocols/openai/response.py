"""OpenAI chat answers: read for usage and faults, passed on as the bytes they came in."""

from typing import Any

import msgspec

from billing.usage import Usage
from relay.errors import Cause, RelayError
from relay.protocols.openai import usage

ABSENT = msgspec.Raw(b"")


def is_given(raw: msgspec.Raw) -> bool:
    """Whether a field is there and not null."""
    return raw is not ABSENT and bytes(raw) != b"null"


class _Message(msgspec.Struct):
    content: msgspec.Raw = ABSENT
    reasoning_content: msgspec.Raw = ABSENT
    refusal: msgspec.Raw = ABSENT
    tool_calls: msgspec.Raw = ABSENT


class _Choice(msgspec.Struct):
    message: _Message | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    id: str | None = None
    choices: list[_Choice] | None = None
    usage: msgspec.Raw = ABSENT
    error: msgspec.Raw = ABSENT


class ChatAnswer(msgspec.Struct):
    """A whole answer. `usage` is None where the upstream gave none; `output_bytes` then tells how much there was."""

    body: bytes
    id: str
    usage: Usage | None
    finish: str
    output_bytes: int

    def encode(self, *, model: str, pisces: dict[str, Any]) -> bytes:
        """The same answer under the offered name, with the gateway's own object at its end."""
        fields: dict[str, Any] = _fields_decoder.decode(self.body)
        if "model" in fields:
            fields["model"] = model
        fields["pisces"] = pisces
        return msgspec.json.encode(fields)


_decoder = msgspec.json.Decoder(_Answer)
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def decode(body: bytes) -> ChatAnswer:
    """Raises RelayError (upstream_error) for what is no answer, be it with status 200."""
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
        output_bytes=sum(_size(choice.message) for choice in answer.choices if choice.message),
    )


def _size(message: _Message) -> int:
    parts = (message.content, message.reasoning_content, message.refusal, message.tool_calls)
    return sum(output_size(part) for part in parts if part is not ABSENT)


def output_size(raw: msgspec.Raw) -> int:
    """Bytes of model output in a JSON value: a string's without its quotes, nothing for null."""
    size = memoryview(raw).nbytes
    return size - 2 if size != 4 or is_given(raw) else 0


class _ErrorObject(msgspec.Struct):
    message: str | None = None


def error_text(raw: bytes | msgspec.Raw) -> str:
    """The text of an error object or string, at most 500 characters."""
    try:
        found = msgspec.json.decode(raw, type=_ErrorObject | str)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return "no reason given"
    text = found if isinstance(found, str) else found.message
    return (text or "no reason given")[:500]
