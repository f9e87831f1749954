"""Anthropic messages into the hub's values: a client's request, an upstream's whole answer. Pure.

What the hub has no place for is kept whole (`Raw`), and nothing is refused here that the vendor might take: requests
for Anthropic's own upstreams are read here too, for what their pictures and files may cost.
"""

import base64
import binascii
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import markdown, names, states
from relay.protocols.anthropic import errors, usage
from relay.protocols.canonical import (
    Finish,
    Format,
    Json,
    Mark,
    Media,
    Message,
    Opaque,
    Part,
    Raw,
    Reasoning,
    Request,
    Response,
    Role,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    finish_of,
)
from relay.protocols.raws import NULL

_NOTHING = (b"null", b"{}", b"")
# Marks the carrier of a text's state: Anthropic has no field for one (see `writing.carrier`).
OF_TEXT = "text"


# ---- blocks ---------------------------------------------------------------------------------------------------------


class _CacheControl(msgspec.Struct):
    ttl: str | None = None


class _Citations(msgspec.Struct):
    enabled: bool | None = None


class _Source(msgspec.Struct):
    type: str = ""
    media_type: str | None = None
    data: str | None = None
    url: str | None = None
    file_id: str | None = None
    content: str | list[msgspec.Raw] | None = None


class _Block(msgspec.Struct):
    """Every field of the blocks that are understood."""

    type: str
    text: str | None = None
    citations: msgspec.Raw = NULL
    cache_control: _CacheControl | None = None
    source: msgspec.Raw = NULL
    title: str | None = None
    context: str | None = None
    thinking: str | None = None
    signature: str | None = None
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: msgspec.Raw = NULL
    tool_use_id: str | None = None
    content: msgspec.Raw = NULL
    is_error: bool | None = None


class _Kind(msgspec.Struct):
    type: str


_kind_decoder = msgspec.json.Decoder(_Kind)
_block_decoder = msgspec.json.Decoder(_Block)
_source_decoder = msgspec.json.Decoder(_Source)
_citations_decoder = msgspec.json.Decoder(_Citations | None)
_content_decoder = msgspec.json.Decoder(str | list[msgspec.Raw] | None)
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_object_decoder = msgspec.json.Decoder(dict[str, Any])
_objects_decoder = msgspec.json.Decoder(list[dict[str, Any]] | None)
_KNOWN = frozenset(("text", "image", "document", "thinking", "redacted_thinking", "tool_use", "tool_result"))


def blocks(content: msgspec.Raw) -> list[Part]:
    """The parts of a message, an answer or a result. Raises msgspec.DecodeError."""
    found = _content_decoder.decode(content)
    if isinstance(found, str):
        return [Text(text=found)]
    return [part for raw in found or () for part in _block(raw)]


def _block(raw: msgspec.Raw) -> list[Part]:
    """Mostly one part: a document of several pieces, or one with a context, is several."""
    kind = _kind_decoder.decode(raw).type
    if kind not in _KNOWN:
        return [Raw(owner="anthropic", label=kind, value=_object_decoder.decode(raw))]
    block = _block_decoder.decode(raw)
    mark = _mark(block.cache_control)
    match kind:
        case "text":
            cited = _objects_decoder.decode(block.citations) or []
            return [Text(text=block.text or "", mark=mark, citations=cited)]
        case "thinking":
            state = states.unwrapped(block.signature, native="anthropic")
            return [Reasoning(text=block.thinking or "", state=state)]
        case "redacted_thinking":
            return [Reasoning(state=states.unwrapped(block.data, native="anthropic"), redacted=True)]
        case "tool_use":
            return [ToolCall(id=block.id or "", name=block.name or "", arguments=arguments(block.input), mark=mark)]
        case "tool_result":
            return [_result(block, mark)]
        case "image":
            media = _media("image", block, mark)
        case _:
            media = _media("document", block, mark)
    return media or [Raw(owner="anthropic", label=kind, value=_object_decoder.decode(raw))]


def _mark(control: _CacheControl | None) -> Mark | None:
    return None if control is None else Mark(control.ttl)


def arguments(raw: msgspec.Raw) -> str:
    """A call's input as text, byte for byte; "" for one without."""
    inside = bytes(raw)
    return "" if inside in _NOTHING else inside.decode()


def _result(block: _Block, mark: Mark | None) -> ToolResult:
    parts: list[Text | Media] = []
    for part in blocks(block.content):
        match part:
            case Text() | Media():
                parts.append(part)
            case Raw(label="search_result"):
                parts.append(Text(text=search_result_text(part.value)))
            case Raw():
                parts.append(Text(text=msgspec.json.encode(part.value).decode()))
    return ToolResult(call=block.tool_use_id or "", parts=parts, failed=bool(block.is_error), mark=mark)


def search_result_text(value: Json) -> str:
    """A search result as any model can read it."""
    content = value.get("content")
    said = [inner.get("text") for inner in content if isinstance(inner, dict)] if isinstance(content, list) else []
    lines = [value.get("title"), value.get("source"), *said]
    return "\n".join(line for line in lines if isinstance(line, str) and line)


def _media(kind: Any, block: _Block, mark: Mark | None) -> list[Part] | None:
    """None where this kind of source is not known."""
    source = _source_decoder.decode(block.source)
    found = Media(kind=kind, mime=source.media_type or "", name=block.title, mark=mark)
    before: list[Part] = [Text(text=block.context)] if block.context else []
    match source.type:
        case "base64" if source.data is not None:
            found.data = source.data
        case "text" if source.data is not None:
            found.text, found.mime = source.data, source.media_type or "text/plain"
        case "url" if source.url is not None:
            _point_to(found, source.url)
        case "file" if source.file_id is not None:
            found.file, found.owner = source.file_id, "anthropic"
        case "content" if source.content is not None:
            return before + _pieces(source.content, found)
        case _:
            return None
    return [*before, found]


def _point_to(found: Media, url: str) -> None:
    head, comma, data = url.partition(",")
    if comma and head.startswith("data:") and head.endswith(";base64"):
        found.mime, found.data = head[5:-7].partition(";")[0], data
    else:
        found.url = url


def _pieces(content: str | list[msgspec.Raw], found: Media) -> list[Part]:
    """A document that the client has cut itself: of text alone one document, else what it consists of."""
    parts: list[Part] = (
        [Text(text=content)] if isinstance(content, str) else [p for raw in content for p in _block(raw)]
    )
    if all(isinstance(part, Text) for part in parts):
        found.text, found.mime = "\n".join(part.text for part in parts if isinstance(part, Text)), "text/plain"
        return [found]
    titled: list[Part] = [Text(text=found.name)] if found.name else []
    return titled + parts


def text_of(data: str) -> str | None:
    """The text inside a file's base64; None where there is none."""
    try:
        return base64.b64decode(data, validate=True).decode()
    except (binascii.Error, ValueError):
        return None


# ---- requests -------------------------------------------------------------------------------------------------------


class _Message(msgspec.Struct):
    role: Role
    content: msgspec.Raw


class _Metadata(msgspec.Struct):
    user_id: str | None = None


class _Thinking(msgspec.Struct):
    type: str = ""
    budget_tokens: int | None = None
    display: str | None = None


class _FormatConfig(msgspec.Struct):
    type: str = ""
    schema: dict[str, Any] | None = None


class _OutputConfig(msgspec.Struct):
    effort: str | None = None
    format: _FormatConfig | None = None


class _ToolChoice(msgspec.Struct):
    type: str
    name: str | None = None
    disable_parallel_tool_use: bool | None = None


class _Tool(msgspec.Struct):
    name: str = ""
    type: str | None = None
    description: str | None = None
    input_schema: dict[str, Any] | None = None
    strict: bool | None = None
    cache_control: _CacheControl | None = None


class _Wanted(msgspec.Struct):
    messages: list[_Message]
    system: msgspec.Raw = NULL
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] | None = None
    metadata: _Metadata | None = None
    thinking: _Thinking | None = None
    output_config: _OutputConfig | None = None
    output_format: _FormatConfig | None = None
    tools: list[msgspec.Raw] | None = None
    tool_choice: _ToolChoice | None = None
    service_tier: str | None = None
    cache_control: _CacheControl | None = None


_wanted_decoder = msgspec.json.Decoder(_Wanted)
_tool_decoder = msgspec.json.Decoder(_Tool)
_PLACED = frozenset((*_Wanted.__struct_fields__, "model", "stream", "api_key"))
_OF_TOOLS = frozenset((*_Tool.__struct_fields__,))
_TIERS = {"standard_only": "default"}
_CHOICES = {"auto": "auto", "any": "any", "none": "none", "tool": "tool"}


def decode_request(body: bytes, *, model: str, stream: bool) -> Request:
    """Raises RelayError (400) for what cannot be read."""
    with _named():
        fields = _fields_decoder.decode(body)
        wanted = _wanted_decoder.decode(body)
        extra = {name: msgspec.json.decode(raw) for name, raw in fields.items() if name not in _PLACED}
    with _named("messages"):
        messages = [Message(role=one.role, parts=_said(one)) for one in wanted.messages]
        if any(_cites(one.content) for one in wanted.messages):
            extra["citations"] = {"enabled": True}
    with _named("system"):
        if (system := blocks(wanted.system)) and not _blank(system):
            messages.insert(0, Message(role="system", parts=system))
    with _named("tools"):
        tools = [_tool(raw) for raw in wanted.tools or ()]
        extra |= {f"tools.{name}": True for raw in wanted.tools or () for name in _beside(raw)}
    if wanted.cache_control is not None:
        _mark_last(messages, _mark(wanted.cache_control))
    return Request(
        model=model,
        messages=messages,
        owner="anthropic",
        tools=tools,
        choice=_choice(wanted.tool_choice),
        parallel=False if wanted.tool_choice and wanted.tool_choice.disable_parallel_tool_use else None,
        sampling=_sampling(wanted),
        limit=wanted.max_tokens,
        thinking=_thinking(wanted),
        format=_format(wanted),
        stream=stream,
        user=wanted.metadata.user_id if wanted.metadata else None,
        service_tier=_TIERS.get(wanted.service_tier or "", wanted.service_tier),
        extra={name: value for name, value in extra.items() if value is not None},
    )


def refuse_nameless(request: Request) -> None:
    """Raises RelayError for what Anthropic refuses itself, and what nobody else could pair: a tool without a name, a
    call without one or without its id, a result without its call's."""
    if any(not tool.name for tool in request.tools):
        raise RelayError(Cause.INVALID_PARAMETER, "Each of `tools` must have a `name`.", param="tools")
    for part in (part for message in request.messages for part in message.parts):
        match part:
            case ToolCall(id="") | ToolCall(name=""):
                text = "A `tool_use` must have an `id` and a `name`."
            case ToolResult(call=""):
                text = "A `tool_result` must have a `tool_use_id`."
            case _:
                continue
        raise RelayError(Cause.INVALID_MESSAGES, text, param="messages")


def _blank(parts: list[Part]) -> bool:
    return all(isinstance(part, Text) and not part.text for part in parts)


@contextmanager
def _named(field: str | None = None) -> Iterator[None]:
    """Whatever cannot be read in here is told with the field's name, which msgspec's words have if nobody else does:
    "… - at `$.thinking.type`"."""
    try:
        yield
    except RecursionError as error:
        raise RelayError(Cause.INVALID_JSON, "The body is nested too deeply.") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        what, _, path = str(error).partition(" - at `$")
        name = field or path.lstrip(".").split(".")[0].split("[")[0].rstrip("`")
        causes = {"": Cause.INVALID_JSON, "messages": Cause.INVALID_MESSAGES}
        message = f"`{name or 'body'}` cannot be read: {what.replace('`', '')[:200]}."
        raise RelayError(causes.get(name, Cause.INVALID_PARAMETER), message, param=name or None) from error


def _mark_last(messages: list[Message], mark: Mark | None) -> None:
    """The request's own mark stands for one at its last block that can have one."""
    for message in reversed(messages):
        for part in reversed(message.parts):
            if isinstance(part, Text | ToolCall | ToolResult | Media):
                part.mark = part.mark or mark
                return


def _cites(content: msgspec.Raw) -> bool:
    """Whether a document here wants to be cited: all of them do, or none may."""
    if b'"citations"' not in bytes(content):
        return False
    found = _content_decoder.decode(content)
    for raw in found if isinstance(found, list) else ():
        if _kind_decoder.decode(raw).type == "document":
            wanted = _citations_decoder.decode(_block_decoder.decode(raw).citations)
            if wanted is not None and wanted.enabled:
                return True
    return False


def _said(message: _Message) -> list[Part]:
    parts = _attached(blocks(message.content))
    return markdown.drawn(parts) if message.role == "assistant" else parts


def _attached(parts: list[Part]) -> list[Part]:
    """State that another vendor keeps at a call or a text, taken from the block that carried it and put back there."""
    out: list[Part] = []
    waiting: Opaque | None = None
    for part in parts:
        state = part.state if isinstance(part, Reasoning) and part.redacted else None
        if state is not None and state.owner == "gemini":
            if state.id == OF_TEXT and out and isinstance(out[-1], Text):
                out[-1].state = Opaque("gemini", state.data)
            elif state.id != OF_TEXT:
                waiting = state
            continue
        if waiting is not None and isinstance(part, ToolCall):
            part.state, waiting = waiting, None
        out.append(part)
    return out


def _tool(raw: msgspec.Raw) -> Tool:
    found = _tool_decoder.decode(raw)
    if found.type not in (None, "custom"):
        value = _object_decoder.decode(raw)
        return Tool(name=found.name or found.type, raw=Raw(owner="anthropic", label=found.type, value=value))
    return Tool(
        name=found.name,
        description=found.description or "",
        schema=found.input_schema,
        strict=found.strict,
        mark=_mark(found.cache_control),
    )


def _beside(tool: msgspec.Raw) -> set[str]:
    """Fields of a function that the hub has no place for: examples, how it is loaded."""
    fields = _fields_decoder.decode(tool)
    known = bytes(fields.get("type", NULL)) in (b"null", b'"custom"')
    return set(fields) - _OF_TOOLS if known else set()


def _choice(wanted: _ToolChoice | None) -> ToolChoice | None:
    if wanted is None:
        return None
    mode: Any = _CHOICES.get(wanted.type)
    if mode is None or (mode == "tool" and not wanted.name):
        raise RelayError(
            Cause.INVALID_PARAMETER, "`tool_choice` is auto, any, none or a named tool.", param="tool_choice"
        )
    return ToolChoice(mode=mode, names=[wanted.name] if mode == "tool" and wanted.name else [])


def _sampling(wanted: _Wanted) -> Sampling:
    return Sampling(
        temperature=wanted.temperature,
        top_p=wanted.top_p,
        top_k=wanted.top_k,
        stop=wanted.stop_sequences or [],
    )


def _thinking(wanted: _Wanted) -> Thinking | None:
    effort = wanted.output_config.effort if wanted.output_config else None
    said = wanted.thinking
    if said is None:
        return Thinking(effort=effort) if effort else None
    visible = {"summarized": True, "omitted": False}.get(said.display or "")
    match said.type:
        case "disabled":
            return Thinking(effort=effort, budget=0)
        case "enabled":
            return Thinking(
                effort=effort, budget=said.budget_tokens, adaptive=said.budget_tokens is None, visible=visible
            )
    return Thinking(effort=effort, adaptive=True, visible=visible)


def _format(wanted: _Wanted) -> Format | None:
    """`output_format` is what `output_config.format` was called while it was a beta."""
    given = (wanted.output_config and wanted.output_config.format) or wanted.output_format
    if given is None or given.type != "json_schema":
        return None
    return Format(schema=given.schema, strict=True)


# ---- answers --------------------------------------------------------------------------------------------------------


class _StopDetails(msgspec.Struct):
    explanation: str | None = None


class _Answer(msgspec.Struct):
    id: str | None = None
    model: str | None = None
    content: msgspec.Raw = NULL
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: _StopDetails | None = None
    usage: msgspec.Raw = NULL
    error: msgspec.Raw = NULL


_answer_decoder = msgspec.json.Decoder(_Answer)
_FINISHES = {
    "end_turn": Finish.STOP,
    "stop_sequence": Finish.STOP_SEQUENCE,
    "max_tokens": Finish.LENGTH,
    "tool_use": Finish.TOOL_CALLS,
    "refusal": Finish.FILTER,
    "pause_turn": Finish.PAUSE,
    "compaction": Finish.PAUSE,
    "model_context_window_exceeded": Finish.CONTEXT,
}


def finish(reason: str | None) -> Finish:
    """What a `stop_reason` means; one that nobody here knows is an end like any other."""
    return _FINISHES.get(reason or "", Finish.STOP)


def _with_id(part: Part) -> Part:
    """Compatible upstreams may give a call none, by which a client could not answer it."""
    if isinstance(part, ToolCall) and not part.id:
        part.id = names.new_call_id()
    return part


def decode_response(body: bytes) -> Response:
    """Raises RelayError (upstream_error) for what is no answer, be it with status 200."""
    try:
        body.decode()  # what is passed on as raw bytes has not been looked at
        answer = _answer_decoder.decode(body)
        if bytes(answer.error) != b"null":
            raise errors.decode_in_band(answer.error)
        if bytes(answer.content) == b"null":
            raise RelayError(Cause.UPSTREAM_ERROR, "The provider's answer has no content.")
        parts = [_with_id(part) for part in blocks(answer.content)]
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RelayError(Cause.UPSTREAM_ERROR, "The provider's answer is not a message.") from error
    return Response(
        id=answer.id or "",
        model=answer.model or "",
        parts=parts,
        finish=finish_of(parts, finish(answer.stop_reason)),
        stop_sequence=answer.stop_sequence,
        note=answer.stop_details.explanation if answer.stop_details else None,
        usage=usage.decode(answer.usage),
    )
