"""Whole text completions on their way to a client: read for usage and faults, passed on as the bytes they came in."""

from typing import Any

import msgspec

from billing.usage import Usage
from relay.counting.output import Output
from relay.errors import Cause, RelayError
from relay.protocols import completion_usage, envelope
from relay.protocols.chunks import Chunk
from relay.protocols.codec import Told
from relay.protocols.completions.echo import Asking, Echoes
from relay.protocols.raws import ABSENT, is_given


class Choice(msgspec.Struct, gc=False):
    """Its text is raw, because it is only passed on and counted."""

    index: int | None = None
    text: msgspec.Raw = ABSENT
    finish_reason: str | None = None


decoder = msgspec.json.Decoder(Chunk[Choice])
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


def note(choice: Choice, seen: Output, echoes: Echoes) -> None:
    """Adds what a choice put out."""
    if not is_given(choice.text):
        return
    text = seen.text(choice.index or 0, "text")
    if memoryview(choice.text)[0] == 0x22:
        echoes.add(choice.index or 0, choice.text, text)
    else:
        text.add_json(choice.text)


class TextAnswer(msgspec.Struct):
    """A whole answer, as `codec.Whole` promises it."""

    body: bytes
    id: str
    usage: Usage | None
    finish: str
    choices: list[Choice]
    asked: Asking | None = None

    def seen(self, upstream_model: str) -> Output:
        found, echoes = Output(upstream_model), Echoes(self.asked)
        for choice in self.choices:
            note(choice, found, echoes)
            found.ended += choice.finish_reason not in (None, "length")
        return found

    @property
    def output_bytes(self) -> int:
        return self.seen("").size

    def encode(self, *, model: str, pisces: Told, counted: Usage | None = None) -> bytes:
        """The same answer under the offered name, with the gateway's own object at its end."""
        fields: dict[str, Any] = _fields_decoder.decode(self.body)
        if "model" in fields:
            fields["model"] = model
        if counted is not None:
            fields["usage"] = completion_usage.encode(counted)
        fields["pisces"] = pisces
        return msgspec.json.encode(fields)


def decode(body: bytes, asked: Asking | None = None) -> TextAnswer:
    """Raises RelayError (upstream_error) for what is no answer, be it with status 200."""
    try:
        body.decode()  # what is passed on as raw bytes has not been looked at
        answer = decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider's answer is not a completion.") from error
    if is_given(answer.error):
        raise RelayError(Cause.UPSTREAM_ERROR, f"The provider failed: {envelope.error_text(answer.error)}")
    if not answer.choices:
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider's answer has no choices.")
    usage = completion_usage.decode(answer.usage)
    return TextAnswer(body, answer.id or "", usage, answer.choices[0].finish_reason or "", answer.choices, asked)
