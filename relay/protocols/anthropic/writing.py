"""The hub's values as Anthropic messages: a request for an upstream, a whole answer for a client. Pure."""

import uuid
from collections.abc import Iterator
from typing import Any

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import customs, hosted, in_words, names, resolution, schemas, turns
from relay.protocols.anthropic import blocks, tuning, usage
from relay.protocols.canonical import (
    Finish,
    Format,
    Json,
    Media,
    Message,
    Part,
    Raw,
    Reasoning,
    Refusal,
    Request,
    Response,
    Text,
    Tool,
    ToolCall,
    ToolResult,
)
from relay.protocols.capabilities import Capabilities
from relay.protocols.codec import Asked, Encoded, Told

MOST_MARKS = 4
LONGEST_USER = 256
GO_ON = "Go on exactly where your last message ends, and repeat nothing of it."
MUST_CALL = "You have to call at least one of the tools in your answer."
MUST_CALL_IT = "You have to call the tool `{name}` in your answer."
_TIERS = {"auto": "auto", "priority": "auto", "default": "standard_only", "standard": "standard_only"}


# ---- requests -------------------------------------------------------------------------------------------------------


def encode_request(request: Request, *, model: str, limit: int | None, caps: Capabilities) -> Encoded:
    """Raises RelayError (400) for what the model or the vendor cannot be asked."""
    try:
        return _RequestWriter(request, caps).written(model=model, limit=limit)
    except RecursionError as error:
        raise RelayError(Cause.INVALID_PARAMETER, "The request is nested too deeply.") from error


class _RequestWriter:
    """One request on its way to the wire. `losses` are the hub's names, `told` what has to be said in words."""

    def __init__(self, request: Request, caps: Capabilities) -> None:
        self._request = request
        self._caps = caps
        self._losses: list[str] = []
        self._told: list[str] = []
        self._calls = _calls_of(request)
        self._customs = frozenset(tool.name for tool in request.tools if tool.custom)
        self._names = names.tools([*self._calls, *(tool.name for tool in request.tools)], blocks.LONGEST_NAME)
        self._cited = request.owner == "anthropic" and "citations" in request.extra

    def written(self, *, model: str, limit: int | None) -> Encoded:
        system, rest = turns.instructed(self._spoken())
        conversation = self._ordered(rest)
        tuned = tuning.of(
            self._request, limit=limit, caps=self._caps, may_begin_thinking=not _calls_without_thought(conversation)
        )
        self._losses += tuned.losses
        conversation = self._ending(conversation, thinks=tuned.thinks)
        fields = tuned.fields
        body: Json = {"model": model, "max_tokens": fields.pop("max_tokens")}
        tools = self._tools(thinks=tuned.thinks)
        output = {**fields.pop("output_config", {}), **self._format()}
        instructed = self._system(system)
        if instructed:
            body["system"] = instructed
        body |= tools
        body["messages"] = [self._turn(message) for message in conversation]
        body |= fields
        if output:
            body["output_config"] = output
        body |= self._beside()
        _limit_marks(body)
        losses = [tuning.called(self._request.owner, name) for name in dict.fromkeys(self._losses)]
        customs_there = frozenset(self._names[name] for name in self._customs)
        return Encoded(body, losses, names.reverse(self._names), customs_there)

    # -- turns

    def _spoken(self) -> list[Message]:
        """The turns in which there is something for this vendor."""
        messages, strangers = hosted.passed_over(
            self._request.messages, known=lambda part: part.owner == "anthropic", kinds=self._caps.input
        )
        self._losses += strangers + resolution.lost(messages, self._request.owner)
        if any(message.name for message in messages):
            self._losses.append("name")
        messages = [msgspec.structs.replace(one, parts=[*self._own(one)]) for one in messages]
        messages = turns.drawn_as_seen(messages, may_stay=lambda part: False)  # assistants' turns have no pictures here
        return [message for message in turns.without_empty_text(messages) if message.parts]

    def _own(self, message: Message) -> Iterator[Part]:
        """Without the thoughts, state and sources of other vendors' models, which Anthropic refuses. Refusals are text
        here."""
        for part in message.parts:
            match part:
                case Reasoning():
                    if blocks.own_thinking(part) is not None:
                        yield part
                case Text():
                    cited = [one for one in part.citations if blocks.is_own_citation(one)]
                    yield msgspec.structs.replace(part, state=None, citations=cited)
                case Refusal():
                    yield Text(text=part.text)
                case _:
                    yield part

    def _ordered(self, messages: list[Message]) -> list[Message]:
        messages = turns.merged(messages if self._caps.mid_system else turns.system_as_user(messages))
        turns.refuse_without_turns(messages)
        answered = turns.answered(turns.told_apart(messages))
        return turns.user_first(turns.merged(answered))  # again: results may have stood between turns of one role

    def _ending(self, messages: list[Message], *, thinks: bool) -> list[Message]:
        """The last turn may be the model's, to be gone on with, but not of every model and never while it thinks. Where
        it may not, the user asks for it in words."""
        last = messages[-1]
        end = last.parts[-1]
        if last.role != "assistant" or isinstance(end, Raw):  # a tool that the vendor runs goes on by itself
            return messages
        if isinstance(end, Text) and self._caps.prefill and not thinks:
            trimmed = [*last.parts[:-1], msgspec.structs.replace(end, text=end.text.rstrip())]  # else it is refused
            return [*messages[:-1], msgspec.structs.replace(last, parts=trimmed)]
        self._losses.append("prefill")
        return [*messages, Message(role="user", parts=[Text(text=GO_ON)])]

    def _turn(self, message: Message) -> Json:
        found = [block for part in message.parts for block in self._blocks(part, message.role)]
        return {"role": message.role, "content": found}

    def _blocks(self, part: Part, role: str) -> Iterator[Json]:
        match part:
            case Text():
                yield blocks.text(part, cited=role == "assistant" and self._request.owner == "anthropic")
            case ToolCall() if role == "assistant":
                arguments = customs.arguments_for(part.arguments) if part.custom else part.arguments
                yield blocks.tool_use(part, self._names[part.name], arguments)
            case ToolResult() if role == "user":
                yield from self._result(part)
            case Media():
                yield blocks.media(part, self._caps, cited=self._cited)
            case Reasoning():
                if (own := blocks.own_thinking(part)) is not None:
                    yield own
            case Raw(owner="anthropic"):
                yield part.value
            case Raw():
                message = f"A part of type {part.label!r} cannot be told to this model."
                raise RelayError(Cause.INVALID_MESSAGES, message, param="messages")

    def _result(self, part: ToolResult) -> Iterator[Json]:
        """Pictures stand beside the result where the model takes none inside it."""
        inside = [inner for inner in part.parts if not isinstance(inner, Text) or inner.text.strip()]
        beside: list[Media] = []
        if not self._caps.result_media:
            beside = [inner for inner in inside if isinstance(inner, Media)]
            inside = [inner for inner in inside if isinstance(inner, Text)]
        content: list[Json] = [
            blocks.text(one, cited=False) if isinstance(one, Text) else blocks.media(one, self._caps, cited=self._cited)
            for one in inside
        ]
        block: Json = {"type": "tool_result", "tool_use_id": names.call_id(part.call, blocks.LONGEST_ID)}
        if content:
            block["content"] = content[0]["text"] if content == [_plain(content[0])] else content
        if part.failed:
            block["is_error"] = True
        yield blocks.cached(block, part.mark)
        yield from (blocks.media(one, self._caps, cited=self._cited) for one in beside)

    # -- system, tools, format

    def _system(self, messages: list[Message]) -> str | list[Json]:
        parts = [part for message in messages for part in message.parts]
        found = [blocks.text(part, cited=False) for part in parts if isinstance(part, Text) and part.text.strip()]
        found += [{"type": "text", "text": text} for text in self._told]
        return str(found[0]["text"]) if found and found == [_plain(found[0])] else found

    def _tools(self, *, thinks: bool) -> Json:
        request, choice = self._request, self._request.choice
        if request.tools and not self._caps.tools:
            raise RelayError(Cause.INVALID_PARAMETER, "The model takes no tools.", param="tools")
        allowed = set(choice.names) if choice is not None and choice.mode != "tool" else set()
        found = [self._tool(tool) for tool in request.tools if not allowed or tool.name in allowed]
        if not found:
            return {}
        written: Json = {"tools": found}
        if chosen := self._choice(thinks=thinks):
            written["tool_choice"] = chosen
        return written

    def _tool(self, tool: Tool) -> Json:
        if tool.raw is not None:
            if tool.raw.owner != "anthropic":
                message = (
                    f"The tool {tool.raw.label!r} is run by another provider itself and is not there for this model."
                )
                raise RelayError(Cause.INVALID_PARAMETER, message, param="tools")
            return tool.raw.value
        if tool.custom:
            tool = customs.as_function(tool)
        block: Json = {"name": self._names[tool.name]}
        if tool.description:
            block["description"] = tool.description
        block["input_schema"] = schemas.for_anthropic(tool.schema)
        if tool.strict:
            bound = schemas.for_anthropic_output(block["input_schema"]) if self._caps.schema else None
            if bound is None:
                self._losses.append("strict")
            else:
                block |= {"input_schema": bound, "strict": True}
        return blocks.cached(block, tool.mark)

    def _choice(self, *, thinks: bool) -> Json:
        """What has to be called is said in words to models that cannot be forced."""
        choice = self._request.choice
        chosen: Json = {}
        if choice is not None:
            chosen = {"type": choice.mode}
            if choice.mode == "tool":
                chosen["name"] = self._names.get(choice.names[0], choice.names[0])
            if choice.mode in ("any", "tool") and (thinks or not self._caps.forced_tools):
                self._losses.append("choice")
                self._told.append(MUST_CALL_IT.format(name=chosen["name"]) if choice.mode == "tool" else MUST_CALL)
                chosen = {"type": "auto"}
        if self._request.parallel is False and chosen.get("type") != "none":
            if not self._caps.parallel_switch:
                self._losses.append("parallel")
            else:
                chosen = {"type": "auto", **chosen, "disable_parallel_tool_use": True}
        return chosen

    def _format(self) -> Json:
        wanted: Format | None = self._request.format
        if wanted is None:
            return {}
        bound = schemas.for_anthropic_output(wanted.schema) if wanted.schema and self._caps.schema else None
        if bound is not None:
            return {"format": {"type": "json_schema", "schema": bound}}
        self._losses.append("format")
        self._told.append(in_words.instruction(wanted))
        return {}

    # -- the rest

    def _beside(self) -> Json:
        request = self._request
        written: Json = {}
        if request.stream:
            written["stream"] = True
        if request.user:
            written["metadata"] = {"user_id": names.user(request.user, LONGEST_USER)}
        if request.service_tier:
            if (tier := _TIERS.get(request.service_tier)) is not None:
                written["service_tier"] = tier
            else:
                self._losses.append("service_tier")
        if request.metadata_elsewhere:
            self._losses.append("metadata")
        self._losses += [name for name in ("verbosity", "cache_key") if getattr(request, name)]
        if request.owner != "anthropic":
            self._losses += request.extra
            return written
        return {**{name: value for name, value in request.extra.items() if _is_field(name)}, **written}


def _is_field(name: str) -> bool:
    """Not one of the notes that `reading` leaves about fields further inside."""
    return name != "citations" and not name.startswith("tools.")


def _calls_of(request: Request) -> list[str]:
    return [part.name for message in request.messages for part in message.parts if isinstance(part, ToolCall)]


def _plain(block: Json) -> Json:
    return {"type": "text", "text": block.get("text")}


def _calls_without_thought(messages: list[Message]) -> bool:
    """Whether the model is in the middle of a turn, waiting for results, that it did not begin with a thought."""
    if len(messages) < 2 or not any(isinstance(part, ToolResult) for part in messages[-1].parts):
        return False
    before = messages[-2]
    return before.role == "assistant" and not isinstance(before.parts[0], Reasoning)


def _limit_marks(body: Json) -> None:
    """At most four caching marks a request: the last ones, because each stands for all that is before it."""
    places: list[Any] = [*body.get("tools", ()), *(body["system"] if isinstance(body.get("system"), list) else ())]
    for message in body["messages"]:
        for block in message["content"]:
            inner = block.get("content")
            places += [*inner, block] if isinstance(inner, list) else [block]
    marked = [block for block in places if isinstance(block, dict) and "cache_control" in block]
    for block in marked[:-MOST_MARKS]:
        del block["cache_control"]


# ---- answers --------------------------------------------------------------------------------------------------------

_REASONS = {
    Finish.STOP: "end_turn",
    Finish.STOP_SEQUENCE: "stop_sequence",
    Finish.LENGTH: "max_tokens",
    Finish.TOOL_CALLS: "tool_use",
    Finish.FILTER: "refusal",
    Finish.PAUSE: "pause_turn",
    Finish.CONTEXT: "model_context_window_exceeded",
}


def ending(finish: Finish, *, called: bool, stop_sequence: str | None, note: str | None) -> Json:
    """`stop_reason` and what belongs to it, by what was put out: a client runs tools only where the reason says so."""
    if finish in (Finish.STOP, Finish.TOOL_CALLS):
        finish = Finish.TOOL_CALLS if called else Finish.STOP
    found: Json = {"stop_reason": _REASONS[finish], "stop_sequence": stop_sequence}
    if finish is Finish.FILTER and note:
        found["stop_details"] = {"type": "refusal", "category": None, "explanation": note}
    return found


def new_id() -> str:
    return f"msg_{uuid.uuid4().hex[:24]}"


def answer_blocks(part: Part) -> list[Json]:
    """What a part of an answer is for a client; nothing for what this protocol has no word for."""
    match part:
        case Text() | Refusal():
            found = blocks.text(part) if part.text or (isinstance(part, Text) and part.citations) else None
            return _present(found, blocks.carrier(part) if isinstance(part, Text) else None)
        case ToolCall():
            return _present(blocks.carrier(part), blocks.tool_use(part, part.name, part.arguments))
        case Reasoning():
            return _present(blocks.thinking(part))
        case Media():
            return _present(blocks.picture_as_text(part))
        case Raw(owner="anthropic"):
            return [part.value]
    return []


def _present(*found: Json | None) -> list[Json]:
    return [block for block in found if block is not None]


def encode_response(response: Response, *, asked: Asked, model: str, pisces: Told) -> bytes:
    """The client's body, under the offered name."""
    called = any(isinstance(part, ToolCall) for part in response.parts)
    return msgspec.json.encode(
        {
            "id": response.id or new_id(),
            "type": "message",
            "role": "assistant",
            "model": model,
            "content": [block for part in response.parts for block in answer_blocks(part)],
            **ending(response.finish, called=called, stop_sequence=response.stop_sequence, note=response.note),
            "usage": usage.encode(response.usage),
            "pisces": pisces,
        }
    )
