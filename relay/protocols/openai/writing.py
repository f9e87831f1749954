"""The hub's values as OpenAI's chat: a request for an upstream, a whole answer for a client. Pure.

Many vendors speak this wire, and few all of it: what depends on the model is asked of its capabilities. Sources: OpenAI
API reference, "Create chat completion"; the vendors' pages on compatibility.
"""

import time
from typing import Any

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import customs, hosted, in_words, markdown, names, resolution, strict, turns
from relay.protocols.canonical import (
    EFFORTS,
    OPENAI,
    Finish,
    Format,
    Json,
    Media,
    Raw,
    Reasoning,
    Refusal,
    Request,
    Response,
    Text,
    Thinking,
    Tool,
    ToolCall,
    Wire,
)
from relay.protocols.capabilities import Capabilities
from relay.protocols.codec import Encoded, Told
from relay.protocols.openai import content, details, encoder, wire

_USUAL_EFFORTS = ("low", "medium", "high")  # of models that are told a budget by their own vendor's protocol
# From a budget of tokens on, the effort that it stands for.
_BUDGETS = ((16_384, "xhigh"), (4096, "high"), (2048, "medium"), (1024, "low"), (1, "minimal"))
# What clients of other vendors call the parameters that a model may not take.
_CALLED: dict[Wire, dict[str, str]] = {
    "openai": {},
    "responses": {
        "logprobs": "top_logprobs",
        "reasoning_effort": "reasoning.effort",
        "response_format": "text.format",
        "verbosity": "text.verbosity",
    },
    "anthropic": {
        "stop": "stop_sequences",
        "reasoning_effort": "thinking",
        "response_format": "output_config.format",
        "strict": "tools.strict",
        "user": "metadata.user_id",
        "parallel_tool_calls": "tool_choice.disable_parallel_tool_use",
    },
    "gemini": {
        "temperature": "generationConfig.temperature",
        "top_p": "generationConfig.topP",
        "top_k": "generationConfig.topK",
        "frequency_penalty": "generationConfig.frequencyPenalty",
        "presence_penalty": "generationConfig.presencePenalty",
        "seed": "generationConfig.seed",
        "stop": "generationConfig.stopSequences",
        "logprobs": "generationConfig.responseLogprobs",
        "reasoning_effort": "generationConfig.thinkingConfig",
        "response_format": "generationConfig.responseSchema",
        "tool_choice": "toolConfig.functionCallingConfig",
        "strict": "toolConfig.functionCallingConfig",
        "service_tier": "serviceTier",
    },
}


def encode_request(request: Request, *, model: str, limit: int | None, caps: Capabilities) -> Encoded:
    """Raises RelayError (400) for what has no meaning to this model. `limit` replaces the request's own."""
    messages, strangers = hosted.passed_over(request.messages, known=content.is_known, kinds=caps.input)
    turns.refuse_without_turns(messages)
    writer = _Writer(msgspec.structs.replace(request, messages=messages), caps)
    writer.losses += strangers
    writer.losses += resolution.lost(messages, request.owner, told=resolution.OPENAI, in_results=resolution.OPENAI)
    body: Json = {"model": model, "messages": writer.conversation.written()}
    body.update(writer.tools())
    body.update(writer.format(body["messages"]))
    body.update(writer.sampling())
    body.update(writer.rest())
    limit = limit if limit is not None else request.limit
    if limit is not None:
        body["max_completion_tokens" if caps.new_limit else "max_tokens"] = limit
    if request.stream:
        body.update(stream=True, stream_options={"include_usage": True})
    return Encoded(
        body=body,
        losses=list(dict.fromkeys(writer.losses)),
        names=names.reverse(writer.renamed),
        customs=frozenset(writer.customs),
    )


class _Writer:
    """One request on its way, with what was lost of it."""

    def __init__(self, request: Request, caps: Capabilities) -> None:
        self.request = request
        self.caps = caps
        self.losses: list[str] = []
        self.customs: set[str] = set()
        used = [tool.name for tool in request.tools if tool.raw is None]
        used += [part.name for message in request.messages for part in message.parts if isinstance(part, ToolCall)]
        self.renamed = names.tools(used, content.LONGEST_NAME)
        self.conversation = content.Conversation(request.messages, caps, self.renamed)
        if not caps.custom_tools:
            self.customs = {self.renamed[tool.name] for tool in request.tools if tool.custom and tool.raw is None}

    def _lose(self, name: str) -> None:
        self.losses.append(_CALLED[self.request.owner].get(name, name))

    # ---- tools ------------------------------------------------------------------------------------------------------

    def tools(self) -> Json:
        request, caps = self.request, self.caps
        out: Json = {}
        written: list[Json] = []
        for tool in self._allowed():
            if tool.raw is None:
                written.append(self._tool(tool))
            else:
                out.update(_own_tool(tool.raw))
        if not written:
            return out
        if not caps.tools:
            raise RelayError(Cause.INVALID_PARAMETER, "This model takes no tools.", param="tools")
        out["tools"] = written
        out.update(self._choice())
        if request.parallel is not None and (request.choice is None or request.choice.mode != "none"):
            if caps.parallel_switch:
                out["parallel_tool_calls"] = request.parallel
            elif not request.parallel:
                self._lose("parallel_tool_calls")
        return out

    def _allowed(self) -> list[Tool]:
        """All tools, or those that may be called where the model cannot be told so."""
        choice = self.request.choice
        if choice is None or choice.mode == "tool" or not choice.names or self.caps.custom_tools:
            return self.request.tools
        return [tool for tool in self.request.tools if tool.raw is not None or tool.name in choice.names]

    def _tool(self, tool: Tool) -> Json:
        name = self.renamed[tool.name]
        if tool.custom and self.caps.custom_tools:
            custom: Json = {"name": name, "description": tool.description, "format": _custom_format(tool.format)}
            return {"type": "custom", "custom": {key: value for key, value in custom.items() if value}}
        if tool.custom:
            tool = customs.as_function(tool)
        function: Json = {"name": name, "description": tool.description, "parameters": strict.parameters(tool.schema)}
        if not tool.description:
            del function["description"]
        if tool.strict and strict.fits(function["parameters"]):
            function["strict"] = True
        elif tool.strict:
            self._lose("strict")
        elif tool.strict is False:
            function["strict"] = False
        marked = self.conversation.marked(tool.mark) if self.caps.marks == "cache_control" else {}
        return {"type": "function", "function": function, **marked}

    def _choice(self) -> Json:
        choice = self.request.choice
        if choice is None:
            return {}
        if choice.mode in ("any", "tool") and not self.caps.forced_tools:
            self._lose("tool_choice")
            return {"tool_choice": "auto"}
        if choice.mode == "tool":
            return {"tool_choice": self._one(choice.names[0])}
        word = "required" if choice.mode == "any" else choice.mode
        if not choice.names or not self.caps.custom_tools:
            return {"tool_choice": word}
        allowed = {"mode": word, "tools": [self._one(name) for name in choice.names]}
        return {"tool_choice": {"type": "allowed_tools", "allowed_tools": allowed}}

    def _one(self, name: str) -> Json:
        tool = next((tool for tool in self.request.tools if tool.name == name), None)
        if tool is None or tool.raw is not None:
            raise RelayError(Cause.INVALID_PARAMETER, f"There is no tool `{name}` to choose.", param="tool_choice")
        kind = "custom" if tool.custom and self.caps.custom_tools else "function"
        return {"type": kind, kind: {"name": self.renamed[name]}}

    # ---- parameters -------------------------------------------------------------------------------------------------

    def format(self, messages: list[Json]) -> Json:
        """`messages` are told in words what the model cannot be bound to."""
        wanted, caps = self.request.format, self.caps
        if wanted is None:
            return {}
        with_tools = bool(self.request.tools) and not caps.schema_with_tools
        if wanted.schema is not None and caps.schema and not with_tools:
            return {"response_format": {"type": "json_schema", "json_schema": self._schema(wanted)}}
        json_mode = caps.json_mode and not with_tools
        if in_words.missing(wanted, self.request.messages, self.request.owner, json_mode=json_mode):
            messages.insert(0, {"role": "system", "content": in_words.instruction(wanted)})
        if wanted.schema is not None or not json_mode:
            self._lose("response_format")
        return {"response_format": {"type": "json_object"}} if json_mode else {}

    def _schema(self, wanted: Format) -> Json:
        schema, bound = strict.of_format(wanted, self.request.owner)
        if wanted.strict and not bound:
            self._lose("response_format")
        out: Json = {"name": names.shortened(wanted.name or "answer", content.LONGEST_NAME), "schema": schema}
        if wanted.description:
            out["description"] = wanted.description
        if bound is not None:
            out["strict"] = bound
        return out

    def sampling(self) -> Json:
        given, caps = self.request.sampling, self.caps
        out: Json = {}
        for name in ("temperature", "top_p"):
            value = getattr(given, name)
            if value is not None and caps.sampling:
                out[name] = value
            elif value not in (None, 1):  # 1 is what there is anyway
                self._lose(name)
        if out.get("temperature", 0) > caps.most_temperature:
            out["temperature"] = caps.most_temperature
            self._lose("temperature")
        if given.top_k is not None:
            self._lose("top_k")
        for name, able in (
            ("frequency_penalty", caps.penalties),
            ("presence_penalty", caps.penalties),
            ("logit_bias", caps.penalties),
            ("seed", caps.seed),
        ):
            value = getattr(given, name)
            if value is not None and able:
                out[name] = value
            elif value:
                self._lose(name)
        if given.logprobs is not None:
            self._lose("logprobs")  # the way back has no place for them
        out.update(self._stop())
        return out

    def _stop(self) -> Json:
        given, most = self.request.sampling.stop, self.caps.most_stops
        kept = given if most is None else given[:most]
        if len(kept) < len(given):
            self._lose("stop")
        return {"stop": kept} if kept else {}

    def rest(self) -> Json:
        request, caps = self.request, self.caps
        out: Json = {}
        if request.thinking is not None and (effort := self._effort(request.thinking)):
            out["reasoning_effort"] = effort
        if request.verbosity is not None:
            self._put(out, "verbosity", request.verbosity, able=caps.verbosity)
        if request.user:
            out["user"] = names.user(request.user)
        if request.cache_key:
            out["prompt_cache_key"] = request.cache_key
        tier = "default" if request.service_tier == "standard_only" else request.service_tier
        if tier not in (None, "auto"):
            self._put(out, "service_tier", tier, able=tier == "default" or request.owner in OPENAI)
        if request.metadata_elsewhere:  # stored answers alone may have it
            self._put(out, "metadata", request.metadata_elsewhere, able=request.extra.get("store") is True)
        for name, value in request.extra.items():
            able = request.owner in OPENAI and (name in _OWN or (name in _CACHING and bool(caps.marks)))
            self._put(out, name, value, able=able)
        return out

    def _put(self, out: Json, name: str, value: Any, *, able: bool) -> None:
        if able:
            out[name] = value
        elif value not in (None, False):
            self._lose(name)

    def _effort(self, wanted: Thinking) -> str | None:
        """The model's own level that is nearest to what was asked for; of two as near, the one that thinks more."""
        effort = wanted.effort
        if effort is None and wanted.budget is not None:
            effort = (
                "none"
                if wanted.budget == 0
                else next((word for least, word in _BUDGETS if wanted.budget >= least), None)
            )
        if effort is None:
            return None
        levels = self.caps.efforts or (_USUAL_EFFORTS if self.caps.thinking in ("budget", "adaptive") else ())
        if not levels or effort not in EFFORTS:
            if effort != "none":
                self._lose("reasoning_effort")
            return None
        if effort in levels:
            return effort
        if wanted.effort is not None:
            self._lose("reasoning_effort")
        at = EFFORTS.index(effort)
        thinking = [level for level in levels if level != "none"] if effort != "none" else list(levels)
        return min(thinking, key=lambda level: (abs(EFFORTS.index(level) - at), -EFFORTS.index(level)))


# Fields of OpenAI's own that are passed on to its wire, and those of the models that can be told what to cache.
_OWN = frozenset(("store", "prediction", "moderation", "modalities"))
_CACHING = frozenset(("prompt_cache_options", "prompt_cache_retention"))


# ---- small pieces ---------------------------------------------------------------------------------------------------


def _own_tool(raw: Raw) -> Json:
    if raw.owner == "openai" and raw.label == "web_search_options":
        return {"web_search_options": raw.value}
    text = f"The tool `{raw.label}` is run by its vendor and not available for this model."
    raise RelayError(Cause.INVALID_PARAMETER, text, param="tools")


def _custom_format(found: Json | None) -> Json | None:
    """Responses has a grammar flat, chat inside `grammar`."""
    if found is None or found.get("type") != "grammar" or "grammar" in found:
        return found
    return {"type": "grammar", "grammar": {key: value for key, value in found.items() if key != "type"}}


# ---- the answer -----------------------------------------------------------------------------------------------------


def encode_response(response: Response, *, asked: encoder.Asking, model: str, pisces: Told) -> bytes:
    calls = [part for part in response.parts if isinstance(part, ToolCall)]
    choice: Json = {
        "index": 0,
        "message": _message(response, calls, legacy=asked.legacy),
        "logprobs": None,
        "finish_reason": wire.finish_word(response.finish, calls=bool(calls), legacy=asked.legacy),
    }
    body: Json = {
        "id": response.id or encoder.new_id(),
        "object": "chat.completion",
        "created": int(time.time()),
        "model": model,
        "choices": [choice],
        **encoder.counted(response.usage),
        "pisces": pisces,
    }
    return msgspec.json.encode(body)


def _message(response: Response, calls: list[ToolCall], *, legacy: bool) -> Json:
    texts = [_shown(part) for part in response.parts if isinstance(part, Text | Media)]
    refusals = [part.text for part in response.parts if isinstance(part, Refusal)]
    if not refusals and response.finish is Finish.FILTER and response.note:
        refusals = [response.note]
    thoughts = [part for part in response.parts if isinstance(part, Reasoning)]
    out: Json = {
        "role": "assistant",
        "content": "".join(texts) if texts else None,
        "refusal": "\n".join(refusals) if refusals else None,
    }
    if said := "".join(part.text for part in thoughts):
        out["reasoning_content"] = said
    if entries := details.write(thoughts):
        out["reasoning_details"] = entries
    if found := _annotations(response):
        out["annotations"] = found
    if calls and legacy:
        out["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments or "{}"}
    elif calls:
        out["tool_calls"] = [
            {**wire.written_call(call, arguments=_arguments(call)), **wire.extra_content(call.state)} for call in calls
        ]
    return out


def _arguments(call: ToolCall) -> str:
    return call.arguments if call.arguments or call.custom else "{}"


def _shown(part: Text | Media) -> str:
    return part.text if isinstance(part, Text) else markdown.shown(part)


def _annotations(response: Response) -> list[Json]:
    found: list[Json] = []
    end = 0
    for part in response.parts:
        if isinstance(part, Text | Media):
            end += len(_shown(part))
        if isinstance(part, Text):
            found += encoder.annotations(part.citations, end)
    return found
