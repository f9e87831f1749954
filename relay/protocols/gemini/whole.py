"""A whole Gemini answer for a Gemini client: passed on as the bytes it came in, with usage and output overheard."""

from typing import Any

import msgspec

from billing.usage import Usage
from relay.counting.output import BLOCK, Output
from relay.errors import Cause, RelayError
from relay.protocols import raws
from relay.protocols import seen as seeing
from relay.protocols.canonical import Finish
from relay.protocols.codec import Asked, Told
from relay.protocols.gemini import errors, finish, usage, wire

_encode = msgspec.json.Encoder().encode
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])


class GeminiWhole:
    """As `codec.Whole` promises it. Raises RelayError (upstream_error) for what is no answer."""

    __slots__ = ("_answer", "_body", "finish", "id", "usage")

    def __init__(self, body: bytes, _: Asked | None = None) -> None:
        answer = wire.read(body)
        if raws.is_given(answer.error):
            raise errors.decode_event(answer.error)
        if not answer.candidates and answer.blocked is None:
            raise RelayError(Cause.UPSTREAM_ERROR, "The provider's answer had no answer in it.")
        self._body = body
        self._answer = answer
        self.id = answer.responseId or ""
        reported = usage.decode(answer.usageMetadata) if raws.is_given(answer.usageMetadata) else None
        searches = usage.Searches()
        for candidate in answer.candidates or ():
            searches.see(candidate)
        self.usage: Usage | None = searches.added(reported, answer.modelVersion or "")
        self.finish = self._end().value

    @property
    def output_bytes(self) -> int:
        return self.seen("").size

    def seen(self, upstream_model: str) -> Output:
        found = Output(upstream_model)
        for candidate in self._answer.candidates or ():
            content = candidate.content
            for number, part in enumerate((content.parts or ()) if content is not None else ()):
                see(part, candidate.index or 0, number, found)
            found.ended += candidate.finishReason == "STOP"
        return found

    def encode(self, *, model: str, pisces: Told, counted: Usage | None = None) -> bytes:
        fields: dict[str, Any] = _fields_decoder.decode(self._body)
        if "modelVersion" in fields:
            fields["modelVersion"] = model
        if counted is not None:
            fields["usageMetadata"] = usage.encode(counted)
        fields["pisces"] = pisces
        return msgspec.json.encode(fields)

    def _end(self) -> Finish:
        """The first candidate's."""
        first = next(iter(self._answer.candidates or ()), None)
        if first is None:
            return Finish.FILTER
        found = finish.named(first.finishReason or "STOP")
        parts = (first.content.parts or ()) if first.content is not None else ()
        calls = any(part.functionCall is not None for part in parts)
        return Finish.TOOL_CALLS if calls and found is Finish.STOP else found


def see(part: wire.Part, candidate: int, number: int, seen: Output) -> None:
    """Adds what a part put out; `number` is that of a call among the candidate's."""
    if part.text:
        text = seen.text(candidate, "reasoning" if part.thought else "content")
        text.raw += _encode(part.text)[1:-1]
        if len(text.raw) > BLOCK:
            text.fold()
    elif part.functionCall is not None:
        seeing.add(seen.text(candidate, "name", number), part.functionCall.name or "")
        seeing.add(seen.text(candidate, "arguments", number), wire.arguments(part.functionCall.args))
