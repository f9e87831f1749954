"""Single parts of the hub as Gemini writes them: for a client that reads an answer, for an upstream that is asked.

What Gemini cannot write is None; what it must not be asked is a RelayError.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import customs
from relay.protocols.canonical import Json, Media, Part, Raw, Reasoning, Refusal, Text, ToolCall, ToolResult
from relay.protocols.gemini import media, signatures

_object_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
# A response of one of these keys alone is a text that was wrapped, and is read as the text again.
_WRAPPERS = frozenset(("result", "output", "error"))


def for_client(part: Part, *, thoughts: bool) -> Json | None:
    """A whole part of an answer. Unless `thoughts` are asked for, they go only to bring their state along."""
    match part:
        case Text():
            signature = signatures.for_client(part.state)
            return _signed({"text": part.text}, signature) if part.text or signature else None
        case Refusal():
            return {"text": part.text} if part.text else None
        case Reasoning():
            return _thought(part, signatures.for_client(part.state), shown=thoughts)
        case ToolCall():
            called = {"id": part.id, "name": part.name, "args": arguments(part) or msgspec.Raw(b"{}")}
            return _signed({"functionCall": called}, signatures.for_client(part.state))
        case Media() if not part.file or part.owner == "gemini":
            return _signed(media.encode(part), signatures.for_client(part.state))
        case Raw() if part.owner == "gemini":
            return part.value
    return None


def for_upstream(
    part: Part, renamed: Mapping[str, str], calls: Mapping[str, str], kinds: frozenset[str]
) -> Json | None:
    """A part of a turn; media of a tool's result stand apart. `renamed` has the upstream's names of functions, `calls`
    the name of each call's function, `kinds` what the model takes. Raises RelayError."""
    match part:
        case Text():
            signature = signatures.for_upstream(part.state)
            return _signed({"text": part.text}, signature) if part.text or signature else None
        case Refusal():
            return {"text": part.text} if part.text else None
        case Reasoning():
            return _thought(part, signatures.for_upstream(part.state), shown=True)
        case ToolCall():
            called: Json = {"id": part.id, "name": renamed.get(part.name, part.name)}
            if (given := arguments(part)) is not None:
                called["args"] = given
            return _signed({"functionCall": called}, signatures.for_upstream(part.state))
        case ToolResult():
            name = part.name or calls.get(part.call, "tool")
            return {"functionResponse": {"id": part.call, "name": renamed.get(name, name), "response": _response(part)}}
        case Media():
            _demand_kind(part, kinds)
            return _signed(media.encode(part), signatures.for_upstream(part.state))
        case Raw() if part.owner == "gemini":
            return part.value
        case Raw():
            message = f"A part of kind {part.label!r} can only be read by the provider that it comes from."
            raise RelayError(Cause.INVALID_MESSAGES, message, param="messages")


def arguments(call: ToolCall) -> msgspec.Raw | None:
    """A call's arguments as the object that Gemini wants; None for none. What is no object is put into one."""
    text = customs.arguments_for(call.arguments) if call.custom else call.arguments
    if not text:
        return None
    return as_object(text) or msgspec.Raw(msgspec.json.encode({"arguments": text}))


def as_object(text: str) -> msgspec.Raw | None:
    """A JSON object, on one line; None for anything else."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        data = text.encode()
        _object_decoder.decode(data)
        return msgspec.Raw(msgspec.json.format(data, indent=-1))
    except (msgspec.DecodeError, RecursionError, UnicodeError):
        return None


def _response(result: ToolResult) -> Any:
    text = "\n".join(part.text for part in result.parts if isinstance(part, Text))
    if result.failed:
        return {"error": text}
    found = as_object(text)
    if found is None:
        return {"result": text}
    fields = _object_decoder.decode(found)
    return {"result": text} if not fields or (fields.keys() <= _WRAPPERS and len(fields) == 1) else found


def _thought(part: Reasoning, signature: str, *, shown: bool) -> Json | None:
    """A part without text, rather than with an empty one, is state alone."""
    if part.redacted:
        return {"thought": True, "thoughtSignature": signature} if signature else None
    if not signature and not (shown and part.text):
        return None
    return _signed({"text": part.text, "thought": True}, signature)


def _signed(part: Json, signature: str) -> Json:
    if signature:
        part["thoughtSignature"] = signature
    return part


def _demand_kind(part: Media, kinds: frozenset[str]) -> None:
    if part.kind not in kinds:
        message = f"This model takes no {part.kind}."
        raise RelayError(Cause.INVALID_MESSAGES, message, param="messages")
