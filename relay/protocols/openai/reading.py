"""OpenAI's chat into the hub's values: a client's request, an upstream's whole answer. Pure.

Old and foreign spellings that clients use are read as what they mean: `functions` and `function_call`, pictures as a
bare string, `file_url`, thoughts under either name. Sources: OpenAI API reference, "Create chat completion"; the
vendors' pages on compatibility.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import bodies, documents, fold, markdown
from relay.protocols.canonical import (
    Format,
    Json,
    Mark,
    Media,
    Message,
    Part,
    Raw,
    Refusal,
    Request,
    Response,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from relay.protocols.openai import details, wire
from relay.protocols.openai.decoder import ChatDecoder


class _Link(msgspec.Struct):
    url: str
    detail: str | None = None


class _Sound(msgspec.Struct):
    data: str
    format: str = "wav"


class _File(msgspec.Struct):
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None


class _Mark(msgspec.Struct):
    ttl: str | None = None


class _Part(msgspec.Struct):
    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: _Link | str | None = None
    detail: str | None = None
    input_audio: _Sound | None = None
    audio_url: _Link | str | None = None
    video_url: _Link | str | None = None
    file_url: _Link | str | None = None
    file: _File | None = None
    file_data: str | None = None
    file_id: str | None = None
    filename: str | None = None
    prompt_cache_breakpoint: _Mark | None = None
    cache_control: _Mark | None = None


class _Audio(msgspec.Struct):
    id: str


class _Message(msgspec.Struct):
    role: str
    content: str | list[msgspec.Raw] | None = None
    name: str | None = None
    tool_calls: list[wire.Call] | None = None
    function_call: wire.Function | None = None
    tool_call_id: str | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    reasoning_details: Any = None
    audio: _Audio | None = None


class _Definition(msgspec.Struct):
    name: str
    description: str | None = None
    parameters: Json | None = None
    strict: bool | None = None
    format: Json | None = None


class _Tool(msgspec.Struct):
    type: str = "function"
    function: _Definition | None = None
    custom: _Definition | None = None
    cache_control: _Mark | None = None


class _Named(msgspec.Struct):
    name: str


class _Allowed(msgspec.Struct):
    tools: list["_Choice"]
    mode: str = "auto"


class _Choice(msgspec.Struct):
    type: str = "function"
    function: _Named | None = None
    custom: _Named | None = None
    allowed_tools: _Allowed | None = None


class _Schema(msgspec.Struct):
    name: str = ""
    description: str | None = None
    schema: Json | None = None
    strict: bool | None = None


class _Format(msgspec.Struct):
    type: str
    json_schema: _Schema | None = None


class _Reasoning(msgspec.Struct):
    """OpenRouter's spelling of how much to think."""

    effort: str | None = None
    max_tokens: int | None = None
    enabled: bool | None = None
    exclude: bool | None = None


class _Thinking(msgspec.Struct):
    """Anthropic's spelling of it, which some vendors and many clients use in chat requests."""

    type: str
    budget_tokens: int | None = None


class _Wire(msgspec.Struct):
    messages: list[_Message]
    model: str | None = None
    tools: list[_Tool] | None = None
    functions: list[_Definition] | None = None
    tool_choice: _Choice | str | None = None
    function_call: _Named | str | None = None
    parallel_tool_calls: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    logit_bias: dict[str, float] | None = None
    response_format: _Format | None = None
    reasoning_effort: str | None = None
    reasoning: _Reasoning | None = None
    thinking: _Thinking | None = None
    web_search_options: Json | None = None
    modalities: list[str] | None = None
    stream: bool | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    verbosity: str | None = None
    service_tier: str | None = None
    metadata: Json | None = None


_decoder = msgspec.json.Decoder(_Wire)
_part_decoder = msgspec.json.Decoder(_Part)
_READ = frozenset((*_Wire.__struct_fields__, "max_tokens", "max_completion_tokens", "n", "api_key", "stream_options"))


# ---- the request ----------------------------------------------------------------------------------------------------


def decode_request(body: bytes, fields: Mapping[str, msgspec.Raw], *, limit: int | None) -> Request:
    """`fields` are the body's, `limit` its bound on output tokens. Raises RelayError for what has no meaning here."""
    try:
        found = _decoder.decode(body)
        messages = _messages(found.messages)
        extra = {name: msgspec.json.decode(raw) for name, raw in fields.items() if name not in _READ}
    except msgspec.ValidationError as error:
        raise bodies.wrong_type(error) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise RelayError(Cause.INVALID_JSON, "The body is not valid JSON, or nested too deeply.") from error
    if found.modalities and set(found.modalities) != {"text"}:  # which every answer is
        extra["modalities"] = found.modalities
    if "audio" in (found.modalities or ()):
        raise RelayError(
            Cause.INVALID_PARAMETER, "Answers in sound are not available for this model.", param="modalities"
        )
    return Request(
        model=found.model or "",
        messages=messages,
        owner="openai",
        tools=_tools(found),
        choice=_choice(found),
        parallel=False if found.functions and not found.tools else found.parallel_tool_calls,
        sampling=_sampling(found),
        limit=limit,
        thinking=_thinking(found),
        format=_format(found.response_format),
        stream=bool(found.stream),
        user=found.safety_identifier or found.user,
        cache_key=found.prompt_cache_key,
        verbosity=found.verbosity,
        service_tier=found.service_tier,
        metadata=found.metadata,
        extra={name: value for name, value in extra.items() if value is not None},
    )


def _sampling(found: _Wire) -> Sampling:
    return Sampling(
        temperature=found.temperature,
        top_p=found.top_p,
        top_k=found.top_k,
        frequency_penalty=found.frequency_penalty,
        presence_penalty=found.presence_penalty,
        seed=found.seed,
        stop=[found.stop] if isinstance(found.stop, str) else list(found.stop or ()),
        logprobs=(found.top_logprobs or 0) if found.logprobs else None,
        logit_bias=found.logit_bias,
    )


def _thinking(found: _Wire) -> Thinking | None:
    if found.reasoning_effort is not None:
        return Thinking(effort=found.reasoning_effort)
    if (asked := found.reasoning) is not None:
        effort = asked.effort if asked.effort or asked.enabled is not False else "none"
        visible = None if asked.exclude is None else not asked.exclude
        return Thinking(effort=effort, budget=asked.max_tokens, adaptive=bool(asked.enabled), visible=visible)
    if (told := found.thinking) is not None:
        off = told.type == "disabled"
        return Thinking(budget=0 if off else told.budget_tokens, adaptive=not off and told.budget_tokens is None)
    return None


def _format(found: _Format | None) -> Format | None:
    if found is None or found.type == "text":
        return None
    if found.type == "json_object":
        return Format()
    if found.type != "json_schema" or found.json_schema is None:
        raise RelayError(
            Cause.INVALID_PARAMETER,
            "`response_format` must be of type text, json_object, or json_schema with its `json_schema`.",
            param="response_format",
        )
    inner = found.json_schema
    return Format(schema=inner.schema or {}, name=inner.name, description=inner.description or "", strict=inner.strict)


# ---- tools ----------------------------------------------------------------------------------------------------------

_NO_ARGUMENTS: Json = {"type": "object", "properties": {}}


def _tools(found: _Wire) -> list[Tool]:
    tools = [_tool(tool) for tool in found.tools or ()]
    if not found.tools:
        tools += [_function(function, None) for function in found.functions or ()]
    if found.web_search_options is not None:
        search = Raw(owner="openai", label="web_search_options", value=found.web_search_options)
        tools.append(Tool(name=search.label, raw=search))
    return tools


def _tool(found: _Tool) -> Tool:
    mark = _mark(found.cache_control)
    if found.type == "function" and found.function is not None:
        return _function(found.function, mark)
    if found.type == "custom" and found.custom is not None:
        custom = found.custom
        plain = custom.format is None or custom.format.get("type") == "text"
        return Tool(
            name=custom.name,
            description=custom.description or "",
            custom=True,
            format=None if plain else custom.format,
            mark=mark,
        )
    raise RelayError(
        Cause.INVALID_PARAMETER, f"A tool of type `{found.type}` is not available for this model.", param="tools"
    )


def _function(found: _Definition, mark: Mark | None) -> Tool:
    schema = None if found.parameters == _NO_ARGUMENTS else found.parameters
    return Tool(
        name=found.name, description=found.description or "", schema=schema or None, strict=found.strict, mark=mark
    )


def _choice(found: _Wire) -> ToolChoice | None:
    said = found.tool_choice if found.tool_choice is not None else found.function_call
    match said:
        case None:
            return None
        case "auto" | "none":
            return ToolChoice(mode=said)
        case "required" | "any":
            return ToolChoice(mode="any")
        case _Named(name=name):
            return ToolChoice(mode="tool", names=[name])
        case _Choice(allowed_tools=_Allowed(tools=tools, mode=mode)):
            return ToolChoice(mode="any" if mode == "required" else "auto", names=[_name(tool) for tool in tools])
        case _Choice():
            return ToolChoice(mode="tool", names=[_name(said)])
    raise RelayError(Cause.INVALID_PARAMETER, "`tool_choice` has a value that there is not.", param="tool_choice")


def _name(choice: _Choice) -> str:
    named = choice.function or choice.custom
    if named is None:
        raise RelayError(Cause.INVALID_PARAMETER, "`tool_choice` must name a function.", param="tool_choice")
    return named.name


# ---- messages -------------------------------------------------------------------------------------------------------


class _Calls:
    """The calls of a conversation so far: what a result answers, and ids for old calls, which have none. Those are made
    from their place, so that the same conversation always reads the same."""

    def __init__(self) -> None:
        self._customs: set[str] = set()
        self._open: list[tuple[str, str]] = []  # name and id of old calls that wait for their result
        self._made = 0

    def note(self, call: ToolCall) -> ToolCall:
        if call.custom:
            self._customs.add(call.id)
        return call

    def old(self, function: wire.Function) -> ToolCall:
        self._made += 1
        name = function.name or ""
        self._open.append((name, f"call_{self._made}"))
        return ToolCall(id=f"call_{self._made}", name=name, arguments=wire.arguments_of(function))

    def result(self, message: _Message, parts: list[Part]) -> ToolResult:
        inner = [part for part in parts if isinstance(part, Text | Media)]
        if message.role == "function":
            return ToolResult(call=self._answered(message.name or ""), name=message.name or "", parts=inner)
        if not message.tool_call_id:
            raise _refused("A message with the role `tool` must have a `tool_call_id`.")
        call = message.tool_call_id
        return ToolResult(call=call, name=message.name or "", parts=inner, custom=call in self._customs)

    def _answered(self, name: str) -> str:
        for place, (called, made) in enumerate(self._open):
            if called == name:
                del self._open[place]
                return made
        self._made += 1
        return f"call_{self._made}"


def _messages(found: list[_Message]) -> list[Message]:
    """Results of tools that follow one another are one turn."""
    out: list[Message] = []
    calls = _Calls()
    answering = False
    for message in found:
        parts = _content(message.content)
        match message.role:
            case "system" | "developer":
                out.append(Message(role="system", parts=parts, name=message.name))
            case "user":
                out.append(Message(role="user", parts=parts, name=message.name))
            case "assistant":
                out.append(Message(role="assistant", parts=_spoken(message, parts, calls), name=message.name))
            case "tool" | "function":
                result = calls.result(message, parts)
                if answering:
                    out[-1].parts.append(result)
                else:
                    out.append(Message(role="user", parts=[result]))
            case role:
                raise _refused(f"There is no role `{role[:40]}`.")
        answering = message.role in ("tool", "function")
    return out


def _spoken(message: _Message, parts: list[Part], calls: _Calls) -> list[Part]:
    said = message.reasoning_content or (message.reasoning if isinstance(message.reasoning, str) else "")
    out: list[Part] = [*details.read(message.reasoning_details, said), *markdown.drawn(parts)]
    if message.refusal:
        out.append(Refusal(text=message.refusal))
    if message.audio is not None:
        out.append(Raw(owner="openai", label="audio", value={"id": message.audio.id}))
    if message.function_call is not None:
        out.append(calls.old(message.function_call))
    for call in message.tool_calls or ():
        if not call.id:
            raise _refused("Each of `tool_calls` must have an `id`.")
        made = ToolCall(
            id=call.id, name=call.name, arguments=call.text, custom=call.custom is not None, state=call.state
        )
        out.append(calls.note(made))
    return out


def _content(content: str | list[msgspec.Raw] | None) -> list[Part]:
    if not content:
        return []
    if isinstance(content, str):
        return [Text(text=content)]
    return [_part(raw) for raw in content]


def _part(raw: msgspec.Raw) -> Part:
    try:
        found = _part_decoder.decode(raw)
    except msgspec.ValidationError as error:
        raise _refused(f"A part of a message's content is malformed: {str(error)[:200]}") from error
    mark = _mark(found.prompt_cache_breakpoint or found.cache_control)
    match found.type:
        case "text" | "input_text" | "output_text" if found.text is not None:
            return Text(text=found.text, mark=mark)
        case "refusal" if found.refusal is not None:
            return Refusal(text=found.refusal)
    part = _media(found)
    if part is None:
        return Raw(owner="openai", label=found.type, value=msgspec.json.decode(raw))
    part.mark = mark
    return part


def _media(found: _Part) -> Media | None:
    match found.type:
        case "image_url" | "input_image" if found.image_url is not None:
            part = _linked(found.image_url, "image")
            part.detail = found.detail or (None if isinstance(found.image_url, str) else found.image_url.detail)
            return part
        case "input_audio" if (sound := found.input_audio) is not None:
            if sound.data.startswith(("http:", "https:")):
                return Media(kind="audio", url=sound.data)
            return Media(kind="audio", mime=_SOUNDS.get(sound.format, f"audio/{sound.format}"), data=_bare(sound.data))
        case "audio_url" if found.audio_url is not None:
            return _linked(found.audio_url, "audio")
        case "video_url" if found.video_url is not None:
            return _linked(found.video_url, "video")
        case "file_url" if found.file_url is not None:
            part = _linked(found.file_url, "document")
            part.name = found.filename
            return part
        case "file" | "input_file":
            return _file(found.file or _File(found.file_data, found.file_id, found.filename), found)
    return None


_SOUNDS = {"wav": "audio/wav", "mp3": "audio/mpeg"}


def _file(file: _File, found: _Part) -> Media:
    if file.file_id:
        return Media(kind="document", file=file.file_id, owner="openai", name=file.filename)
    if file.file_data:
        part = _document(file.file_data, file.filename)
    elif found.file_url is not None:
        part = _linked(found.file_url, "document")
    else:
        raise _refused("A file must have `file_data`, `file_id` or `file_url`.")
    part.name = file.filename
    return part


def _document(data: str, name: str | None) -> Media:
    """`file_data` is a data URI, or base64 alone as OpenAI's reference describes it."""
    if data.startswith("data:"):
        return _linked(data, "document")
    mime = documents.kind_of(name) or documents.PDF
    return wire.medium(f"data:{mime};base64,{data}", "document")


def _linked(link: _Link | str, kind: wire.Kind) -> Media:
    url = link if isinstance(link, str) else link.url
    if url.startswith("data:") and not url.partition(",")[0].endswith(";base64"):
        raise _refused("The data of a data URI must be base64.")
    if not url:
        raise _refused("An address in a message's content is empty.")
    return wire.medium(url, kind)


def _bare(data: str) -> str:
    return data.partition(",")[2] if data.startswith("data:") else data


def _mark(found: _Mark | None) -> Mark | None:
    return None if found is None else Mark(ttl=found.ttl)


def _refused(text: str) -> RelayError:
    return RelayError(Cause.INVALID_MESSAGES, text, param="messages")


# ---- the answer -----------------------------------------------------------------------------------------------------


def decode_response(body: bytes) -> Response:
    """Raises RelayError (upstream_error) for what is no answer, be it with status 200."""
    return fold.fold(ChatDecoder().whole(body))
