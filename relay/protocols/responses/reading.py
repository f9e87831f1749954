"""From the wire of Responses into the hub: requests, and the items that they and answers are made of.

Source: OpenAI API reference, "Create a model response". An item that the hub has no word for
stays as it is (`Raw`): it passes to an upstream of the same protocol and is refused by name before any other.
"""

import re
from collections.abc import Collection
from typing import Any, NoReturn

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import bodies, documents, names, states
from relay.protocols.canonical import (
    EFFORTS,
    Format,
    Json,
    Mark,
    Media,
    Message,
    Opaque,
    Part,
    Raw,
    Reasoning,
    Refusal,
    Request,
    Role,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)

# The ids under which foreign state is wrapped that has no text beside it, or belongs to a call.
REDACTED, OF_A_CALL = "redacted", "call:"
# Between the parts of a summary, which are one text in the hub.
BETWEEN = "\n\n"
_DATA_URL = re.compile(r"data:([^;,]*)(?:;[^;,]*)*?;base64,", re.IGNORECASE)
_FIELD = re.compile(r"\$\.([a-z_]+)")
_ROLES: dict[str, Role] = {"user": "user", "system": "system", "developer": "system", "assistant": "assistant"}


# ---- what is not well-formed ----------------------------------------------------------------------------------------


def wrong_type(error: msgspec.ValidationError, within: str = "") -> RelayError:
    """msgspec says `Expected `str`, got `int` - at `$.model``; the caller gets the field's name."""
    match = _FIELD.search(str(error))
    param = within or (match.group(1) if match else None)
    if param is None:
        return RelayError(Cause.INVALID_JSON, "The body must be a JSON object.")
    cause = Cause.INVALID_MESSAGES if param.startswith("input") else Cause.INVALID_PARAMETER
    what, _, where = str(error).replace("`", "").partition(" - at $")
    inner = where if within else where.removeprefix(f".{param}")
    return RelayError(cause, f"`{param}{inner}` has a wrong type: {what.lower()}.", param=param)


def _bad_item(message: str, param: str = "input") -> NoReturn:
    raise RelayError(Cause.INVALID_MESSAGES, message, param=param)


# ---- items ----------------------------------------------------------------------------------------------------------


class _Sound(msgspec.Struct):
    data: str
    format: str = ""


class _Breakpoint(msgspec.Struct):
    ttl: str | None = None


class _Annotation(msgspec.Struct):
    type: str | None = None
    url: str | None = None
    title: str | None = None
    start_index: int | None = None
    end_index: int | None = None


class _Content(msgspec.Struct):
    """A part of a message, of a tool's output or of a thought."""

    type: str
    text: str | None = None
    refusal: str | None = None
    image_url: str | None = None
    detail: str | None = None
    file_id: str | None = None
    file_data: str | None = None
    file_url: str | None = None
    filename: str | None = None
    input_audio: _Sound | None = None
    annotations: list[_Annotation] | None = None
    prompt_cache_breakpoint: _Breakpoint | None = None


class Head(msgspec.Struct):
    type: str | None = None
    id: str | None = None
    role: str | None = None


class _Message(msgspec.Struct):
    content: str | list[msgspec.Raw]
    role: str


class _Call(msgspec.Struct):
    name: str
    call_id: str | None = None
    id: str | None = None
    arguments: str | None = None
    input: str | None = None


class _Output(msgspec.Struct):
    call_id: str
    output: str | list[msgspec.Raw]
    name: str | None = None


class _Thought(msgspec.Struct):
    id: str | None = None
    summary: list[_Content] | None = None
    content: list[_Content] | None = None
    encrypted_content: str | None = None


class _Drawing(msgspec.Struct):
    result: str | None = None
    output_format: str | None = None


head_decoder = msgspec.json.Decoder(Head)
_content_decoder = msgspec.json.Decoder(_Content)
_message_decoder = msgspec.json.Decoder(_Message)
_call_decoder = msgspec.json.Decoder(_Call)
_output_decoder = msgspec.json.Decoder(_Output)
_thought_decoder = msgspec.json.Decoder(_Thought)
_drawing_decoder = msgspec.json.Decoder(_Drawing)
_json_decoder = msgspec.json.Decoder(Json)


def parts_of(item: msgspec.Raw | bytes, head: Head) -> list[Part]:
    """An item that the model put out, as parts. Raises msgspec.ValidationError for one that has another shape than its
    type says."""
    match head.type:
        case "message" | None:
            return _spoken(_message_decoder.decode(item).content)
        case "function_call" | "custom_tool_call":
            return [_call(_call_decoder.decode(item), custom=head.type == "custom_tool_call")]
        case "reasoning":
            thought = thought_of(item)
            return [thought] if thought is not None else []
        case "image_generation_call" if (drawing := drawing_of(item)) is not None:
            return [drawing]
    return [Raw(owner="responses", label=head.type or "", value=_json_decoder.decode(item))]


def _call(found: _Call, *, custom: bool) -> ToolCall:
    call = found.call_id or found.id or names.new_call_id()
    text = found.input if custom else found.arguments
    return ToolCall(id=call, name=found.name, arguments=text or "", custom=custom)


def drawing_of(item: msgspec.Raw | bytes) -> Media | None:
    """The picture of an `image_generation_call`; None for one that has none, which is only a name for it."""
    drawing = _drawing_decoder.decode(item)
    mime = f"image/{drawing.output_format or 'png'}"
    return Media(kind="image", mime=mime, data=drawing.result) if drawing.result else None


def thought_of(item: msgspec.Raw | bytes) -> Reasoning | None:
    """None for one that shows nothing and that nobody could use."""
    found = _thought_decoder.decode(item)
    said = [part.text for part in found.content or () if part.text]
    summary = [part.text for part in found.summary or () if part.text]
    state = states.unwrapped(found.encrypted_content, native="openai", item=found.id or "")
    if state is None and not said and not summary:
        return None
    redacted = state is not None and state.owner != "openai" and state.id == REDACTED
    if redacted and state is not None:
        state = msgspec.structs.replace(state, id="")
    text = "".join(said) or BETWEEN.join(summary)
    return Reasoning(text=text, state=state, redacted=redacted, summary=not said and not redacted)


def adopted(parts: list[Part]) -> list[Part]:
    """The parts with the state of calls where it belongs: this protocol has no field for it, so it comes as a thought.
    One whose call is not there is nobody's."""
    found: dict[str, Opaque] = {}
    rest: list[Part] = []
    for part in parts:
        if (state := state_of_a_call(part)) is not None:
            found[state.id.removeprefix(OF_A_CALL)] = msgspec.structs.replace(state, id="")
        else:
            rest.append(part)
    for part in rest if found else ():
        if isinstance(part, ToolCall) and part.id in found:
            part.state = found[part.id]
    return rest


def state_of_a_call(part: Part) -> Opaque | None:
    state = part.state if isinstance(part, Reasoning) else None
    return state if state is not None and state.owner != "openai" and state.id.startswith(OF_A_CALL) else None


def _spoken(content: str | list[msgspec.Raw]) -> list[Part]:
    if isinstance(content, str):
        return [Text(text=content)]
    return [part_of(raw) for raw in content]


def part_of(raw: msgspec.Raw | bytes) -> Part:
    """A part of a message. Raises msgspec.ValidationError."""
    found = _content_decoder.decode(raw)
    mark = Mark(found.prompt_cache_breakpoint.ttl) if found.prompt_cache_breakpoint else None
    match found.type:
        case "input_text" | "output_text" | "text" | "summary_text":
            text = found.text or ""
            return Text(text=text, mark=mark, citations=citations_of(text, found.annotations))
        case "refusal":
            return Refusal(text=found.refusal or "")
        case "input_image":
            return _picture(found, mark)
        case "input_file":
            return _document(found, mark)
        case "input_audio" if found.input_audio is not None:
            sound = found.input_audio
            return Media(kind="audio", mime=f"audio/{sound.format or 'wav'}", data=sound.data, mark=mark)
    return Raw(owner="responses", label=found.type, value=_json_decoder.decode(raw))


def citations_of(text: str, annotations: list[_Annotation] | None) -> list[Json]:
    """Those of pages, as Anthropic has them; where in the text they stand is kept. Files are the provider's own."""
    return [_citation(text, found) for found in annotations or () if found.type == "url_citation"]


def _citation(text: str, found: _Annotation) -> Json:
    start, end = found.start_index or 0, found.end_index or 0
    return {
        "type": "web_search_result_location",
        "url": found.url or "",
        "title": found.title or "",
        "cited_text": text[start:end],
        "encrypted_index": "",
        "start_index": start,
        "end_index": end,
    }


def _picture(found: _Content, mark: Mark | None) -> Media:
    picture = Media(kind="image", detail=None if found.detail == "auto" else found.detail, mark=mark)
    if found.file_id:
        picture.file, picture.owner = found.file_id, "openai"
    elif found.image_url:
        _address(picture, found.image_url)
    else:
        _bad_item("An `input_image` needs `image_url` or `file_id`.")
    return picture


def _document(found: _Content, mark: Mark | None) -> Media:
    document = Media(kind="document", name=found.filename, mark=mark)
    if found.file_id:
        document.file, document.owner = found.file_id, "openai"
    elif found.file_data:
        _address(document, found.file_data)
        if document.url:  # bare base64
            document.data, document.url = document.url, ""
        document.mime = document.mime or documents.kind_of(found.filename) or documents.PDF
    elif found.file_url:
        _address(document, found.file_url)
    else:
        _bad_item("An `input_file` needs `file_data`, `file_url` or `file_id`.")
    return document


def _address(media: Media, address: str) -> None:
    """A `data:` URL's data with its type, else the address itself."""
    match = _DATA_URL.match(address)
    if match is None:
        media.url = address
    else:
        media.mime, media.data = match.group(1), address[match.end() :]


# ---- requests -------------------------------------------------------------------------------------------------------


class _Thinking(msgspec.Struct):
    effort: str | None = None
    summary: str | None = None
    generate_summary: str | None = None


class _Format(msgspec.Struct):
    type: str
    name: str = ""
    schema: Json | None = None
    description: str | None = None
    strict: bool | None = None


class _TextSettings(msgspec.Struct):
    format: _Format | None = None
    verbosity: str | None = None


class _Body(msgspec.Struct):
    model: str | None = None
    input: str | list[msgspec.Raw] | None = None
    instructions: str | list[msgspec.Raw] | None = None
    stream: bool | None = None
    max_output_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_logprobs: int | None = None
    tools: list[Json] | None = None
    tool_choice: str | Json | None = None
    parallel_tool_calls: bool | None = None
    reasoning: _Thinking | None = None
    text: _TextSettings | None = None
    include: list[str] | None = None
    metadata: Json | None = None
    truncation: str | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    service_tier: str | None = None
    store: bool | None = None


_decoder = msgspec.json.Decoder(_Body)
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
# What says nothing to a model, or is answered for by the gateway itself.
_OURS = frozenset(("api_key", "previous_response_id", "background", "stream_options", "conversation", "prompt"))
_KNOWN = frozenset(_Body.__struct_fields__) | _OURS
_NOTHING = (None, False, "auto")
# Every upstream is asked for this by the gateway where it has it: a thought without its state cannot go back.
STATE_OF_THOUGHTS = "reasoning.encrypted_content"


def decode_request(body: bytes) -> Request:
    """Raises RelayError."""
    try:
        found = _decoder.decode(body)
        fields = _fields_decoder.decode(body)
        messages = _messages(found)
        return Request(
            model=found.model or "",
            messages=messages,
            owner="responses",
            tools=[_tool(tool) for tool in found.tools or ()],
            choice=_choice(found.tool_choice),
            parallel=found.parallel_tool_calls,
            sampling=Sampling(temperature=found.temperature, top_p=found.top_p, logprobs=found.top_logprobs or None),
            limit=found.max_output_tokens,
            thinking=_thinking(found.reasoning),
            format=_format(found.text.format if found.text else None),
            stream=bool(found.stream),
            user=found.safety_identifier or found.user,
            cache_key=found.prompt_cache_key,
            verbosity=found.text.verbosity if found.text else None,
            service_tier=found.service_tier,
            metadata=found.metadata,
            extra=_extra(found, fields),
        )
    except msgspec.ValidationError as error:
        raise wrong_type(error) from error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise bodies.no_json(error) from error


def _extra(found: _Body, fields: dict[str, msgspec.Raw]) -> Json:
    extra = {
        name: msgspec.json.decode(raw)
        for name, raw in fields.items()
        if name not in _KNOWN and bytes(memoryview(raw)[:4]) != b"null"
    }
    extra |= _beside("reasoning", fields, _Thinking.__struct_fields__)
    extra |= _beside("text", fields, _TextSettings.__struct_fields__)
    if included := [name for name in found.include or () if name != STATE_OF_THOUGHTS]:
        extra["include"] = included
    if found.truncation not in (None, "disabled"):
        extra["truncation"] = found.truncation
    return extra


def _beside(group: str, fields: dict[str, msgspec.Raw], known: Collection[str]) -> Json:
    """What else is in a field that the hub has only a part of."""
    found: Json = msgspec.json.decode(fields.get(group, b"{}")) or {}
    return {f"{group}.{name}": value for name, value in found.items() if name not in known and value not in _NOTHING}


def _messages(found: _Body) -> list[Message]:
    messages: list[Message] = []
    if isinstance(found.instructions, str):
        if found.instructions:
            messages.append(Message(role="system", parts=[Text(text=found.instructions)]))
    else:
        _gather(found.instructions or [], messages, "instructions")
    if isinstance(found.input, str):
        messages.append(Message(role="user", parts=[Text(text=found.input)]))
    else:
        _gather(found.input or [], messages, "input")
    for message in messages:
        if message.role == "assistant":
            message.parts = adopted(message.parts)
    return [message for message in messages if message.parts]


def _gather(items: list[msgspec.Raw], messages: list[Message], field: str) -> None:
    """One turn of the model's for all that it said and did in a row, one of the user's for all results in a row."""
    for at, item in enumerate(items):
        try:
            role, parts, joins = _turn(item)
        except msgspec.ValidationError as error:
            raise wrong_type(error, within=f"{field}[{at}]") from error
        last = messages[-1] if messages else None
        if joins and last is not None and last.role == role and (role == "assistant" or _has_results(last)):
            last.parts += parts
        elif parts:
            messages.append(Message(role=role, parts=parts))


def _has_results(message: Message) -> bool:
    return all(isinstance(part, ToolResult) for part in message.parts)


def _turn(item: msgspec.Raw) -> tuple[Role, list[Part], bool]:
    """Whose turn it is, what is in it, and whether it goes on with the turn before."""
    head = head_decoder.decode(item)
    match head.type:
        case "message" | None if head.role is not None or head.type:
            message = _message_decoder.decode(item)
            role = _ROLES.get(message.role)
            if role is None:
                _bad_item(f"A message of `input` has the unknown role {message.role[:64]!r}.")
            return role, _spoken(message.content), role == "assistant"
        case "function_call_output" | "custom_tool_call_output":
            return "user", [_result(_output_decoder.decode(item), custom=head.type.startswith("custom"))], True
        case "item_reference" | None:
            return "user", [Raw(owner="responses", label="item_reference", value=_json_decoder.decode(item))], False
    # Calls, thoughts and what the provider's own tools did. What a client writes for those is the user's.
    users = head.type.endswith(("_output", "_response")) or head.role in ("developer", "system")
    return ("user" if users else "assistant"), parts_of(item, head), not users


def _result(found: _Output, *, custom: bool) -> ToolResult:
    result = ToolResult(call=found.call_id, name=found.name or "", custom=custom)
    for part in _spoken(found.output):
        if not isinstance(part, Text | Media):
            _bad_item("The output of a tool is text, pictures and files.")
        result.parts.append(part)
    return result


def label_of(tool: Json) -> str:
    """What a tool is called that its vendor runs: its server's name, its own, or its type."""
    found = tool.get("server_label") or tool.get("name") or tool.get("type")
    return found if isinstance(found, str) else ""


def _tool(tool: Json) -> Tool:
    kind = tool.get("type")
    if kind not in ("function", "custom"):
        if not isinstance(kind, str):
            raise RelayError(Cause.INVALID_PARAMETER, "Each of `tools` needs a `type`.", param="tools")
        return Tool(name=label_of(tool), raw=Raw(owner="responses", label=kind, value=tool))
    name, description = tool.get("name"), tool.get("description")
    if not isinstance(name, str) or not name:
        raise RelayError(Cause.INVALID_PARAMETER, "Each of `tools` needs a `name`.", param="tools")
    text = description if isinstance(description, str) else ""
    if kind == "custom":
        return Tool(name=name, description=text, custom=True, format=_object(tool.get("format"), "format"))
    strict = tool.get("strict")
    return Tool(
        name=name,
        description=text,
        schema=_object(tool.get("parameters"), "parameters"),
        strict=strict if isinstance(strict, bool) else None,
    )


def _object(value: Any, name: str) -> Json | None:
    if value is not None and not isinstance(value, dict):
        raise RelayError(Cause.INVALID_PARAMETER, f"`{name}` of a tool must be an object.", param="tools")
    return value


def _choice(choice: str | Json | None) -> ToolChoice | None:
    match choice:
        case None:
            return None
        case "auto" | "none":
            return ToolChoice(mode=choice)
        case "required":
            return ToolChoice(mode="any")
        case {"type": "allowed_tools", "tools": list(tools), **rest}:
            allowed = [label_of(tool) for tool in tools if isinstance(tool, dict)]
            return ToolChoice(mode="any" if rest.get("mode") == "required" else "auto", names=allowed)
        case dict() if isinstance(choice.get("type"), str):
            return ToolChoice(mode="tool", names=[label_of(choice)])
    raise RelayError(Cause.INVALID_PARAMETER, "`tool_choice` is none that there is.", param="tool_choice")


def _thinking(found: _Thinking | None) -> Thinking | None:
    if found is None:
        return None
    if found.effort is not None and found.effort not in EFFORTS:
        message = f"`reasoning.effort` must be one of {', '.join(EFFORTS)}."
        raise RelayError(Cause.INVALID_PARAMETER, message, param="reasoning.effort")
    visible = True if found.summary or found.generate_summary else None
    if found.effort is None and visible is None:
        return None
    return Thinking(effort=found.effort, visible=visible)


def _format(found: _Format | None) -> Format | None:
    match found:
        case None | _Format(type="text"):
            return None
        case _Format(type="json_object"):
            return Format()
        case _Format(type="json_schema", schema=dict(schema)):
            return Format(schema=schema, name=found.name, description=found.description or "", strict=found.strict)
    message = "`text.format` must be `text`, `json_object`, or `json_schema` with its `schema`."
    raise RelayError(Cause.INVALID_PARAMETER, message, param="text.format")
