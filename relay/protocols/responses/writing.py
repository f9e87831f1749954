"""From the hub into the wire of Responses: requests for an upstream, and the items that both sides are made of.

Source: OpenAI API reference, "Create a model response".
"""

import base64
from collections.abc import Iterable
from typing import Any

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import customs as freely
from relay.protocols import documents, hosted, in_words, names, resolution, strict, turns
from relay.protocols.canonical import (
    EFFORTS,
    OPENAI,
    Format,
    Json,
    Mark,
    Media,
    Message,
    Part,
    Raw,
    Reasoning,
    Refusal,
    Request,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
    Wire,
)
from relay.protocols.capabilities import Capabilities
from relay.protocols.codec import Encoded
from relay.protocols.responses import reading

LONGEST_NAME = 64  # of a tool, and of a call's id
LEAST_LIMIT = 16  # output tokens; the API takes no fewer
# Fields of Responses that another client's request may have under the same name and in the same meaning.
_SHARED = frozenset(
    (
        "include", "truncation", "max_tool_calls", "context_management", "moderation", "image", "access_programs",
        "prompt_cache_options", "prompt_cache_retention", "client_metadata",
    )
)  # fmt: skip
# What parameters are called that there is no field for here, by whose client wrote them.
_NAMES: dict[Wire, dict[str, str]] = {
    "anthropic": {
        "stop": "stop_sequences", "thinking": "thinking", "format": "output_config.format", "strict": "tools.strict",
        "parallel": "tool_choice.disable_parallel_tool_use",
    },
    "gemini": {
        "stop": "stopSequences", "top_p": "topP", "top_k": "topK", "frequency_penalty": "frequencyPenalty",
        "presence_penalty": "presencePenalty", "logprobs": "responseLogprobs", "thinking": "thinkingConfig",
        "tool_choice": "toolConfig", "format": "responseSchema", "strict": "toolConfig",
        "service_tier": "serviceTier",
    },
    "openai": {"format": "response_format", "thinking": "reasoning_effort", "parallel": "parallel_tool_calls"},
    "responses": {
        "format": "text.format", "thinking": "reasoning.effort", "parallel": "parallel_tool_calls",
        "logprobs": "top_logprobs", "verbosity": "text.verbosity",
    },
}  # fmt: skip
# Thinking budgets in tokens as efforts: PROTOCOLS.md has no vendor's own table; this is the usual one.
_EFFORT_OF_BUDGET = ((4096, "high"), (2048, "medium"), (1024, "low"), (1, "minimal"))


# ---- items of an answer ---------------------------------------------------------------------------------------------


def content(part: Text | Refusal, text: Any, annotations: list[Json]) -> Json:
    """A part of a message that the model said; `text` as it is to stand there."""
    if isinstance(part, Refusal):
        return {"type": "refusal", "refusal": text}
    return {"type": "output_text", "text": text, "annotations": annotations, "logprobs": []}


def annotation(citation: Json) -> Json | None:
    """A citation of a page; None for what no annotation can say."""
    url = citation.get("url")
    if not isinstance(url, str):
        return None
    return {
        "type": "url_citation",
        "url": url,
        "title": citation.get("title") or "",
        "start_index": citation.get("start_index") or 0,
        "end_index": citation.get("end_index") or 0,
    }


def call(part: ToolCall, item: str | None) -> Json:
    """A call as an item; without `item` as its id where it is told to an upstream, which did not give it one."""
    own = {"id": item, "status": "completed"} if item else {}
    call_id = names.call_id(part.id, LONGEST_NAME)
    if part.custom:
        return {"type": "custom_tool_call", **own, "call_id": call_id, "name": part.name, "input": part.arguments}
    arguments = part.arguments or "{}"
    return {"type": "function_call", **own, "call_id": call_id, "name": part.name, "arguments": arguments}


def drawing(part: Media, item: str) -> Json:
    """A picture that the model drew."""
    fields = {"type": "image_generation_call", "id": item, "status": "completed", "result": part.data}
    kind = part.mime.removeprefix("image/")
    return fields | ({"output_format": kind} if kind in ("webp", "jpeg", "gif") else {})


# ---- requests -------------------------------------------------------------------------------------------------------


class _Losses:
    """What the upstream cannot have, under the names that the client knows."""

    def __init__(self, owner: Wire) -> None:
        self._names = _NAMES[owner]
        self.found: list[str] = []

    def add(self, name: str) -> None:
        self.found.append(self._names.get(name, name))


def encode_request(request: Request, *, model: str, limit: int | None, caps: Capabilities) -> Encoded:
    """Raises RelayError (400) for what the model cannot be asked."""
    losses = _Losses(request.owner)
    renamed = names.tools((tool.name for tool in request.tools if tool.raw is None), LONGEST_NAME)
    body: Json = {"model": model, "stream": request.stream, "store": False}
    messages, strangers = hosted.passed_over(
        request.messages, known=lambda part: part.owner == "responses", kinds=caps.input
    )
    losses.found += strangers
    losses.found += resolution.lost(messages, request.owner, told=resolution.OPENAI, in_results=resolution.OPENAI)
    if any(message.name for message in messages):
        losses.add("name")
    instructions, messages = _told(messages, request, caps)
    if instructions:
        body["instructions"] = instructions
    body["input"] = _input(turns.answered_anywhere(messages), request, caps, renamed)
    body |= _tools(request, caps, renamed, losses)
    body |= _sampling(request, caps, losses)
    body |= _thought(request, caps, losses)
    body |= _text(request, caps, losses)
    body |= _rest(request, caps, losses)
    wanted = request.limit if limit is None else limit
    if wanted is not None:
        body["max_output_tokens"] = max(wanted, LEAST_LIMIT)
    customs = frozenset(renamed[tool.name] for tool in request.tools if _is_function_here(tool, caps))
    return Encoded(body, losses.found, names.reverse(renamed), customs)


def _told(messages: list[Message], request: Request, caps: Capabilities) -> tuple[str, list[Message]]:
    """The instructions and what is input. JSON mode wants its word there ("Response input messages must contain the
    word 'json' in some form"), so instructions that alone have it are input too."""
    turns.refuse_without_turns(messages)
    instructions, rest = _instructions(messages)
    wanted = request.format
    if wanted is None or _binds(wanted, caps):
        return instructions, rest
    if in_words.missing(wanted, messages, request.owner, json_mode=caps.json_mode):
        return instructions, [in_words.turn(wanted), *rest]
    alone = in_words.mentioned(messages[:1]) and not in_words.mentioned(rest)
    return ("", messages) if alone else (instructions, rest)


def _binds(wanted: Format, caps: Capabilities) -> bool:
    return wanted.schema is not None and caps.schema


def _instructions(messages: list[Message]) -> tuple[str, list[Message]]:
    """The first message, where it is a system's and no more than a text, and not all that there is to answer."""
    match messages:
        case [Message(role="system", name=None, parts=[Text(text=text, mark=None)]), *rest] if text and rest:
            return text, rest
    return "", messages


def _input(messages: list[Message], request: Request, caps: Capabilities, renamed: dict[str, str]) -> list[Json]:
    customs = {part.id for message in messages for part in message.parts if isinstance(part, ToolCall) and part.custom}
    writer = _Items(request, caps, renamed, customs)
    for message in messages:
        writer.turn(message)
    return writer.items


class _Items:
    """Turns as items. What a turn says between calls, thoughts and results is a message each."""

    def __init__(self, request: Request, caps: Capabilities, renamed: dict[str, str], customs: set[str]) -> None:
        self.items: list[Json] = []
        self._request = request
        self._caps = caps
        self._renamed = renamed
        self._customs = customs

    def turn(self, message: Message) -> None:
        said: list[Json] = []
        for part in message.parts:
            item = self._item(part, message.role)
            if item is None:
                said.append(self._content(part, message.role))
            else:
                self._say(message.role, said)
                said = []
                self.items += item
        self._say(message.role, said)

    def _say(self, role: str, said: list[Json]) -> None:
        if said:
            self.items.append({"type": "message", "role": role, "content": said})

    def _item(self, part: Part, role: str) -> list[Json] | None:
        """The items that a part is; None for what is said in a message."""
        match part:
            case ToolCall():
                return [call(self._known_here(part), None)]
            case ToolResult():
                return [self._result(part)]
            case Reasoning():
                return _own_thought(part)
            case Raw(owner="responses") if not _is_content(part):
                return [part.value]
            case Media(kind="image", data=str(data)) if data and role == "assistant":
                return [drawing(part, names.shortened(f"ig_{data[:64]}", LONGEST_NAME))]
        return None

    def _known_here(self, part: ToolCall) -> ToolCall:
        renamed = self._renamed.get(part.name) or names.shortened(part.name, LONGEST_NAME)
        part = msgspec.structs.replace(part, name=renamed)
        if part.custom and not self._caps.custom_tools:
            part.custom, part.arguments = False, freely.arguments_for(part.arguments)
        return part

    def _content(self, part: Part, role: str) -> Json:
        match part:
            case Text():
                if role == "assistant":
                    found = [note for citation in part.citations if (note := annotation(citation)) is not None]
                    return {"type": "output_text", "text": part.text, "annotations": found}
                return {"type": "input_text", "text": part.text, **self._mark(part.mark)}
            case Refusal():
                return {"type": "refusal", "refusal": part.text}
            case Media():
                return self._media(part)
            case Raw(owner="responses"):
                return part.value
        label = part.label if isinstance(part, Raw) else type(part).__name__
        raise _refused(f"A part of type `{label}` has no meaning to this model.")

    def _mark(self, mark: Mark | None) -> Json:
        """Most models cache by themselves and take no mark. How long is each vendor's own word."""
        if mark is None or self._caps.marks != "prompt_cache_breakpoint":
            return {}
        lasting = {"ttl": mark.ttl} if mark.ttl and self._request.owner in OPENAI else {}
        return {"prompt_cache_breakpoint": {"mode": "explicit", **lasting}}

    def _media(self, part: Media) -> Json:
        if part.kind not in self._caps.input:
            raise _refused(f"This model takes no {_PLURALS[part.kind]}.")
        if part.file and part.owner != "openai":
            raise _refused("The id of a file that another vendor keeps means nothing to this model.")
        match part.kind:
            case "image":
                where = {"file_id": part.file} if part.file else {"image_url": part.url or _data_url(part, "image/png")}
                detail = part.detail if part.detail in resolution.OPENAI else "auto"
                return {"type": "input_image", "detail": detail, **where, **self._mark(part.mark)}
            case "document":
                return {"type": "input_file", **_document(part), **self._mark(part.mark)}
            case "audio" if part.data:
                kind = {"audio/mpeg": "mp3", "audio/mp3": "mp3"}.get(part.mime, part.mime.removeprefix("audio/"))
                return {"type": "input_audio", "input_audio": {"data": part.data, "format": kind or "wav"}}
        raise _refused(f"This model takes no {_PLURALS[part.kind]} in this form.")

    def _result(self, part: ToolResult) -> Json:
        custom = self._caps.custom_tools and (part.custom or part.call in self._customs)
        said = [self._content(inner, "user") for inner in part.parts]
        if part.failed:
            said = [{"type": "input_text", "text": "Error: "}, *said]
        plain = all(inner["type"] == "input_text" and len(inner) == 2 for inner in said)
        output: Any = "".join(inner["text"] for inner in said) if plain and (part.failed or len(said) < 2) else said
        kind = "custom_tool_call_output" if custom else "function_call_output"
        return {"type": kind, "call_id": names.call_id(part.call, LONGEST_NAME), "output": output}


_PLURALS = {"image": "pictures", "document": "documents", "audio": "sound", "video": "films"}


def _is_content(part: Raw) -> bool:
    """Parts of messages have no id of their own, and are named for the way they go."""
    return part.label.startswith(("input_", "output_", "computer_screenshot"))


def _own_thought(part: Reasoning) -> list[Json]:
    """Only with the state that OpenAI gave: another's thoughts would be forged ones (pitfall 18), and those without any
    cannot be found again, for nothing is kept there."""
    state = part.state
    if state is None or state.owner != "openai":
        return []
    summary = [{"type": "summary_text", "text": part.text}] if part.text else []
    own = {"id": state.id} if state.id else {}
    return [{"type": "reasoning", **own, "summary": summary, "encrypted_content": state.data}]


def _document(part: Media) -> Json:
    if part.file:
        return {"file_id": part.file}
    if part.url:
        return {"file_url": part.url}
    if part.text is not None:
        data = base64.b64encode(part.text.encode("utf-8", "replace")).decode()
        return {"filename": part.name or "document.txt", "file_data": f"data:text/plain;base64,{data}"}
    name = part.name or documents.file_name(part.mime or "application/pdf")
    return {"filename": name, "file_data": _data_url(part, "application/pdf")}


def _data_url(part: Media, usual: str) -> str:
    return f"data:{part.mime or usual};base64,{part.data}"


def _refused(message: str) -> RelayError:
    return RelayError(Cause.INVALID_MESSAGES, message, param="messages")


# ---- settings -------------------------------------------------------------------------------------------------------


def _tools(request: Request, caps: Capabilities, renamed: dict[str, str], losses: _Losses) -> Json:
    if not request.tools:
        return {}
    if not caps.tools:
        raise RelayError(Cause.INVALID_PARAMETER, "This model takes no tools.", param="tools")
    found: Json = {"tools": [_tool(tool, renamed, caps) for tool in _offered(request, caps)]}
    if any(tool.strict and not _is_strict(tool) for tool in request.tools):
        losses.add("strict")
    if request.choice is not None and (choice := _choice(request.choice, request.tools, caps, renamed, losses)):
        found["tool_choice"] = choice
    if request.parallel is not None:
        if caps.parallel_switch:
            found["parallel_tool_calls"] = request.parallel
        else:
            losses.add("parallel")
    return found


def _offered(request: Request, caps: Capabilities) -> list[Tool]:
    """The tools; only those that may be called where the model cannot be told which."""
    choice = request.choice
    if choice is None or choice.mode == "tool" or not choice.names or caps.custom_tools:
        return request.tools
    return [tool for tool in request.tools if tool.name in choice.names]


def _is_function_here(tool: Tool, caps: Capabilities) -> bool:
    return tool.custom and tool.raw is None and not caps.custom_tools


def _tool(tool: Tool, renamed: dict[str, str], caps: Capabilities) -> Json:
    if tool.raw is not None:
        return _hosted(tool.raw)
    if _is_function_here(tool, caps):
        tool = freely.as_function(tool)
    named = {"name": renamed[tool.name], **({"description": tool.description} if tool.description else {})}
    if tool.custom:
        return {"type": "custom", **named, **({"format": _grammar(tool.format)} if tool.format else {})}
    # Here a tool is strict unless it is told otherwise; in every other protocol it is not.
    return {"type": "function", **named, "parameters": strict.parameters(tool.schema), "strict": _is_strict(tool)}


def _is_strict(tool: Tool) -> bool:
    return bool(tool.strict) and strict.fits(strict.parameters(tool.schema))


def _hosted(tool: Raw) -> Json:
    """A tool that the vendor runs. Chat's web search is this protocol's (OpenAI API reference, "Web search")."""
    if tool.owner == "responses":
        return tool.value
    if tool.owner == "openai" and tool.label == "web_search_options":
        return {**_located(tool.value), "type": "web_search"}
    message = f"The tool `{tool.label}` is run by another vendor and not by this model's."
    raise RelayError(Cause.INVALID_PARAMETER, message, param="tools")


def _located(options: Json) -> Json:
    """Chat completions have the place one level deeper."""
    match options:
        case {"user_location": {"approximate": dict(place)}}:
            return {**options, "user_location": {**place, "type": "approximate"}}
    return options


def _grammar(found: Json) -> Json:
    """Chat completions have the grammar one level deeper."""
    inner = found.get("grammar")
    return {"type": "grammar", **inner} if isinstance(inner, dict) else found


def _choice(
    choice: ToolChoice, tools: Iterable[Tool], caps: Capabilities, renamed: dict[str, str], losses: _Losses
) -> str | Json | None:
    if choice.mode in ("any", "tool") and not caps.forced_tools:
        losses.add("tool_choice")
        return "auto"
    by_name = {tool.name: tool for tool in tools}
    if choice.mode == "tool":
        return _chosen(choice.names[0], by_name, renamed, caps) if choice.names else "required"
    mode = {"any": "required"}.get(choice.mode, choice.mode)
    if not choice.names or mode == "none" or not caps.custom_tools:
        return mode
    allowed = [_chosen(name, by_name, renamed, caps) for name in choice.names]
    return {"type": "allowed_tools", "mode": mode, "tools": allowed}


def _chosen(name: str, by_name: dict[str, Tool], renamed: dict[str, str], caps: Capabilities) -> Json:
    tool = by_name.get(name)
    if tool is None:
        raise RelayError(Cause.INVALID_PARAMETER, f"`tool_choice` names no tool: {name[:64]!r}.", param="tool_choice")
    if tool.raw is None:
        custom = tool.custom and caps.custom_tools
        return {"type": "custom" if custom else "function", "name": renamed[name]}
    found = {"type": tool.raw.label}
    return found | {key: tool.raw.value[key] for key in ("server_label", "name") if key in tool.raw.value}


def _sampling(request: Request, caps: Capabilities, losses: _Losses) -> Json:
    """`temperature` and `top_p` where the model takes them. There is no field for the rest."""
    sampling, found = request.sampling, {}
    for name in ("temperature", "top_p"):
        value = getattr(sampling, name)
        if value is not None and caps.sampling:
            found[name] = min(value, caps.most_temperature) if name == "temperature" else value
        elif value is not None:
            losses.add(name)
    for name in ("top_k", "frequency_penalty", "presence_penalty", "seed", "stop", "logit_bias", "logprobs"):
        if getattr(sampling, name) not in (None, []):
            losses.add(name)
    return found


def _thought(request: Request, caps: Capabilities, losses: _Losses) -> Json:
    """How much to think, and that the state comes back with the answer, because nothing is kept there."""
    included = list(request.extra.get("include") or []) if request.owner in OPENAI else []
    found: Json = {}
    if caps.thinking == "none":
        if request.thinking is not None and _effort(request.thinking, EFFORTS) != "none":
            losses.add("thinking")
    else:
        included.insert(0, reading.STATE_OF_THOUGHTS)
        if request.thinking is not None and request.thinking.effort not in (None, *EFFORTS):
            losses.add("thinking")
        reasoning = _reasoning(request, caps)
        if reasoning:
            found["reasoning"] = reasoning
    return found | ({"include": included} if included else {})


def _reasoning(request: Request, caps: Capabilities) -> Json:
    thinking = request.thinking
    if thinking is None:
        return {}
    effort = _effort(thinking, caps.efforts or EFFORTS)
    # A client of Anthropic's that has thinking on is shown it, unless it says otherwise.
    visible = request.owner == "anthropic" and effort != "none" if thinking.visible is None else thinking.visible
    return ({"effort": effort} if effort else {}) | ({"summary": "auto"} if visible else {})


def _effort(thinking: Thinking, known: Iterable[str]) -> str | None:
    """The level of the model's that is next to what is asked for; None where that is left to it."""
    asked = thinking.effort
    if asked is None:
        if thinking.budget is None or thinking.budget < 0:
            return None
        asked = next((name for least, name in _EFFORT_OF_BUDGET if thinking.budget >= least), "none")
    if asked not in EFFORTS:
        return None
    levels = [name for name in EFFORTS if name in set(known)]
    wanted = EFFORTS.index(asked)
    return min(levels, key=lambda name: (abs(EFFORTS.index(name) - wanted), -EFFORTS.index(name)))


def _text(request: Request, caps: Capabilities, losses: _Losses) -> Json:
    found: Json = {}
    if request.format is not None and (form := _format(request.format, request.owner, caps, losses)):
        found["format"] = form
    if request.verbosity is not None and caps.verbosity:
        found["verbosity"] = request.verbosity
    elif request.verbosity is not None:
        losses.add("verbosity")
    return {"text": found} if found else {}


def _format(form: Format, owner: Wire, caps: Capabilities, losses: _Losses) -> Json:
    """What the answer is bound to, {} for nothing."""
    if not _binds(form, caps):
        if form.schema is not None or not caps.json_mode:
            losses.add("format")
        return {"type": "json_object"} if caps.json_mode else {}
    schema, bound = strict.of_format(form, owner)
    if form.strict and not bound:
        losses.add("format")
    named = {"type": "json_schema", "name": form.name or "answer", "schema": schema}
    told = {"description": form.description} if form.description else {}
    said = bound is not None or owner not in OPENAI  # a client of OpenAI's means its default by saying nothing
    return named | told | ({"strict": bool(bound)} if said else {})


def _rest(request: Request, caps: Capabilities, losses: _Losses) -> Json:
    """What only says who asks, and how. By what else it says of that, another vendor's client means another vendor."""
    found: Json = {}
    own = request.owner in OPENAI
    if request.user:
        found["user"] = names.user(request.user)
    for name, field in (("cache_key", "prompt_cache_key"), ("metadata", "metadata"), ("service_tier", "service_tier")):
        value = getattr(request, name)
        if value is not None and own:
            found[field] = value
        elif value is not None and name == "service_tier":
            losses.add(name)
    for name, value in request.extra.items():
        if own and name in _SHARED:
            found |= {} if name == "include" else {name: value}
        else:
            losses.add(name)
    return found
