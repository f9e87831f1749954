"""The hub's values: a request and an answer that any of the protocols can be read into and written from. Pure.

Shaped like the richest grammar of them: a turn is a list of parts, a tool's result is a part of the user's turn,
thoughts are parts with the state that their vendor wants back. What only one vendor knows is kept whole (`Raw`,
`Opaque`) for that vendor and refused, dropped or passed over by the encoders of the others.
"""

from enum import StrEnum
from typing import Any, Literal

import msgspec

from billing.usage import Usage

Json = dict[str, Any]
Role = Literal["system", "user", "assistant"]
# The vendors whose state there is.
Owner = Literal["openai", "anthropic", "gemini"]
# The protocols that have parts, tools and names of their own: OpenAI's two know nothing of each other's.
Wire = Literal["openai", "responses", "anthropic", "gemini"]
OPENAI: frozenset[Wire] = frozenset(("openai", "responses"))


class Opaque(msgspec.Struct, frozen=True):
    """State that belongs to a vendor and is kept byte for byte: a thought's signature, encrypted reasoning. `id` is the
    item's, where the vendor has one."""

    owner: Owner
    data: str
    id: str = ""


class Mark(msgspec.Struct, frozen=True):
    """The end of a prefix that the upstream should cache, for `ttl` ("5m", "1h") or as long as is usual."""

    ttl: str | None = None


# ---- parts ----------------------------------------------------------------------------------------------------------


class Text(msgspec.Struct, kw_only=True):
    """`citations` as Anthropic writes them (title, url, cited_text …)."""

    text: str = ""
    mark: Mark | None = None
    state: Opaque | None = None
    citations: list[Json] = msgspec.field(default_factory=list)


class Refusal(msgspec.Struct, kw_only=True):
    """A model's words for not answering, where the protocol tells them from text."""

    text: str = ""


class Reasoning(msgspec.Struct, kw_only=True):
    """Thoughts. `redacted`: there is only `state` and no text. `summary`: the text is one and not the thoughts."""

    text: str = ""
    state: Opaque | None = None
    redacted: bool = False
    summary: bool = False


class ToolCall(msgspec.Struct, kw_only=True):
    """`arguments` is the JSON text as it came, not necessarily sound; "" for a call without any. A `custom` call has
    free text instead."""

    id: str
    name: str
    arguments: str = ""
    custom: bool = False
    state: Opaque | None = None
    mark: Mark | None = None


class ToolResult(msgspec.Struct, kw_only=True):
    """What the tool gave for the call `call`. `name` is the function's where the protocol says it."""

    call: str
    parts: "list[Text | Media]" = msgspec.field(default_factory=list)
    name: str = ""
    failed: bool = False
    custom: bool = False
    mark: Mark | None = None


class Media(msgspec.Struct, kw_only=True):
    """A picture, a document, sound or a film: by `data` (base64), by `url`, by `file` (an id that means something to
    `owner` only) or, for a document, by its `text`. `state` belongs to one that a model has drawn."""

    kind: Literal["image", "document", "audio", "video"]
    mime: str = ""
    data: str = ""
    url: str = ""
    file: str = ""
    owner: Owner | None = None
    text: str | None = None
    detail: str | None = None
    name: str | None = None
    mark: Mark | None = None
    state: Opaque | None = None


class Raw(msgspec.Struct, kw_only=True):
    """A part that only `owner` understands, as it was written there; `label` names it in errors."""

    owner: Wire
    label: str
    value: Json


Part = Text | Refusal | Reasoning | ToolCall | ToolResult | Media | Raw


class Message(msgspec.Struct, kw_only=True):
    """A turn. Results of tools are parts of a user's turn, before all others. `name` is the participant's."""

    role: Role
    parts: list[Part]
    name: str | None = None


# ---- the request ----------------------------------------------------------------------------------------------------


class Tool(msgspec.Struct, kw_only=True):
    """A function with the JSON Schema of its arguments, None for one without; or a `custom` one that takes free text in
    `format`; or, where `raw` is set, a tool that the vendor runs itself."""

    name: str
    description: str = ""
    schema: Json | None = None
    strict: bool | None = None
    custom: bool = False
    format: Json | None = None
    mark: Mark | None = None
    raw: Raw | None = None


class ToolChoice(msgspec.Struct, kw_only=True):
    """`any`: some tool has to be called. `tool`: `names[0]`. Otherwise only `names` may be called, if given."""

    mode: Literal["auto", "any", "none", "tool"]
    names: list[str] = msgspec.field(default_factory=list)


class Sampling(msgspec.Struct, kw_only=True):
    """As the client wrote them; None: not given. `logprobs` is how many alternatives, 0 for the chosen tokens alone."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop: list[str] = msgspec.field(default_factory=list)
    logprobs: int | None = None
    logit_bias: dict[str, float] | None = None


EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")


class Thinking(msgspec.Struct, kw_only=True):
    """How much to think: by `effort` (one of EFFORTS), by `budget` (tokens; 0 is off, -1 as the model likes), or
    `adaptive` alone. `visible`: whether the thoughts, or a summary, shall be shown; None: as is usual there."""

    effort: str | None = None
    budget: int | None = None
    adaptive: bool = False
    visible: bool | None = None


class Format(msgspec.Struct, kw_only=True):
    """The answer has to be JSON; of this `schema` if there is one."""

    schema: Json | None = None
    name: str = ""
    description: str = ""
    strict: bool | None = None


class Request(msgspec.Struct, kw_only=True):
    """What a client asks. System messages stand in `messages` where they were said. `limit` is its own bound on output
    tokens. `extra` has the fields that have no place here, by the name that the client gave them; `owner` says whose.
    """

    model: str
    messages: list[Message]
    owner: Wire = "openai"
    tools: list[Tool] = msgspec.field(default_factory=list)
    choice: ToolChoice | None = None
    parallel: bool | None = None
    sampling: Sampling = msgspec.field(default_factory=Sampling)
    limit: int | None = None
    thinking: Thinking | None = None
    format: Format | None = None
    stream: bool = False
    user: str | None = None
    cache_key: str | None = None
    verbosity: str | None = None
    service_tier: str | None = None
    metadata: Json | None = None
    extra: Json = msgspec.field(default_factory=dict)

    @property
    def metadata_elsewhere(self) -> Json | None:
        """The metadata that the upstream would have to keep: a response's the gateway keeps and gives back itself."""
        return None if self.owner == "responses" else self.metadata


# ---- the answer -----------------------------------------------------------------------------------------------------


class Finish(StrEnum):
    """Why an answer ended. PAUSE: the vendor wants to be asked again to go on. CONTEXT: the window is full."""

    STOP = "stop"
    STOP_SEQUENCE = "stop_sequence"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"
    FILTER = "content_filter"
    PAUSE = "pause"
    CONTEXT = "context"


class Response(msgspec.Struct, kw_only=True):
    """A whole answer. `usage` is None where none was reported; `note` says more about the end (why it was refused)."""

    id: str
    model: str
    parts: list[Part]
    finish: Finish
    stop_sequence: str | None = None
    note: str | None = None
    usage: Usage | None = None


def finish_of(parts: list[Part], said: Finish) -> Finish:
    """The end of an answer by what is in it: some vendors say `stop` where a tool was called."""
    calls = any(isinstance(part, ToolCall) for part in parts)
    return Finish.TOOL_CALLS if calls and said in (Finish.STOP, Finish.TOOL_CALLS) else said


def names_of_calls(messages: list[Message]) -> dict[str, str]:
    """The function's name by the id of its call, for protocols whose results bear none. Wants ids that differ."""
    return {part.id: part.name for message in messages for part in message.parts if isinstance(part, ToolCall)}
