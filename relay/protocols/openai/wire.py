"""Shapes of OpenAI's chat that stand in requests and in answers, as many vendors write them. Pure.

What no two vendors write alike is `Any` and looked at with care: a stranger's extra must not break an answer.
"""

from typing import Any, Literal

import msgspec

from relay.protocols import states
from relay.protocols.canonical import Finish, Media, Opaque, ToolCall


class Function(msgspec.Struct, gc=False):
    """`arguments` is JSON text; some vendors write the object itself."""

    name: str | None = None
    arguments: Any = None


class Custom(msgspec.Struct, gc=False):
    name: str | None = None
    input: str | None = None


class Call(msgspec.Struct):
    """A call, or a piece of one in a stream."""

    index: int | None = None
    id: str | None = None
    type: str | None = None
    function: Function | None = None
    custom: Custom | None = None
    extra_content: Any = None

    @property
    def name(self) -> str:
        inner = self.custom or self.function
        return (inner and inner.name) or ""

    @property
    def text(self) -> str:
        """The arguments, or what a custom tool is given."""
        if self.custom is not None:
            return self.custom.input or ""
        return arguments_of(self.function)

    @property
    def state(self) -> Opaque | None:
        """Gemini's signature, in the field that Google's own OpenAI layer has for it."""
        google = self.extra_content.get("google") if isinstance(self.extra_content, dict) else None
        field = google.get("thought_signature") if isinstance(google, dict) else None
        return states.unwrapped(field, native="gemini") if isinstance(field, str) else None


class Delta(msgspec.Struct):
    """A message of the model, or a piece of one. `content` may be a list of parts at Mistral's."""

    content: str | list[Any] | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    reasoning_details: Any = None
    refusal: str | None = None
    tool_calls: list[Call] | None = None
    function_call: Function | None = None
    images: Any = None
    annotations: Any = None
    audio: Any = None

    @property
    def thoughts(self) -> str:
        """Their text: vendors have two names for it, and some write both."""
        for said in (self.reasoning_content, self.reasoning):
            if said and isinstance(said, str):
                return said
        return ""


def arguments_of(function: Function | None) -> str:
    if function is None or function.arguments is None:
        return ""
    if isinstance(function.arguments, str):
        return function.arguments
    return msgspec.json.encode(function.arguments).decode()


def extra_content(state: Opaque | None) -> dict[str, Any]:
    """A call's field for its state, {} for none."""
    field = states.wrapped(state, native="gemini")
    return {"extra_content": {"google": {"thought_signature": field}}} if field else {}


def written_call(call: ToolCall, *, arguments: str) -> dict[str, Any]:
    """A whole call of a message."""
    if call.custom:
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": arguments}}
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": arguments}}


# ---- addresses ------------------------------------------------------------------------------------------------------

Kind = Literal["image", "document", "audio", "video"]


def medium(address: str, kind: Kind) -> Media:
    """What a data URI or a link leads to. The type inside a data URI decides over a document that is none."""
    if not address.startswith("data:"):
        return Media(kind=kind, url=address)
    head, _, data = address[5:].partition(",")
    mime = head.partition(";")[0].lower()
    if kind == "document" and mime.partition("/")[0] in ("image", "audio", "video"):
        kind = mime.partition("/")[0]  # type: ignore[assignment]
    return Media(kind=kind, mime=mime, data=data)


def address_of(part: Media) -> str:
    return part.url or f"data:{part.mime or 'application/octet-stream'};base64,{part.data}"


# ---- ends -----------------------------------------------------------------------------------------------------------

FINISHES = {
    "stop": Finish.STOP,
    "length": Finish.LENGTH,
    "tool_calls": Finish.TOOL_CALLS,
    "function_call": Finish.TOOL_CALLS,
    "content_filter": Finish.FILTER,
    # Other vendors' words behind the same field.
    "max_tokens": Finish.LENGTH,
    "model_length": Finish.LENGTH,
    "tool_use": Finish.TOOL_CALLS,
    "sensitive": Finish.FILTER,
    "safety": Finish.FILTER,
}
# Words for an answer that broke off by the vendor's own fault.
FAULTS = frozenset(("error", "network_error", "abort", "aborted", "insufficient_system_resource"))
_WORDS = {
    Finish.LENGTH: "length",
    Finish.PAUSE: "length",
    Finish.CONTEXT: "length",
    Finish.TOOL_CALLS: "tool_calls",
    Finish.FILTER: "content_filter",
}


def finish_word(reason: Finish, *, calls: bool, legacy: bool = False) -> str:
    """Decided by what was put out: `tool_calls` where there are calls and the answer is whole, and only there."""
    if reason in (Finish.STOP, Finish.TOOL_CALLS, Finish.STOP_SEQUENCE):
        reason = Finish.TOOL_CALLS if calls else Finish.STOP
    if legacy and reason is Finish.TOOL_CALLS:
        return "function_call"
    return _WORDS.get(reason, "stop")
