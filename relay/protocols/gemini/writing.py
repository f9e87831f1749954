"""From the hub to Gemini's wire: a request for an upstream, a whole answer for a client.

Source: Gemini API reference, `GenerateContentRequest`, `GenerationConfig`, `FunctionCallingConfig`; "Thinking".
"""

from typing import Any

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import customs, hosted, in_words, names, resolution
from relay.protocols.canonical import (
    EFFORTS,
    Finish,
    Format,
    Json,
    Message,
    Request,
    Response,
    Text,
    Thinking,
    Tool,
    ToolCall,
    Wire,
)
from relay.protocols.capabilities import Capabilities
from relay.protocols.codec import Chat, Encoded, Told
from relay.protocols.gemini import contents, finish, media, parts, schemas, usage

_LONGEST_NAME = 64
_USUAL_TIERS = (None, "auto", "default", "standard", "standard_only")
# The client's own names of parameters, where they differ from the hub's.
_NAMES: dict[Wire, dict[str, str]] = {
    "openai": {
        "parallel": "parallel_tool_calls", "thinking": "reasoning_effort", "format": "response_format",
        "cache_key": "prompt_cache_key",
    },
    "responses": {
        "parallel": "parallel_tool_calls", "thinking": "reasoning.effort", "format": "text.format",
        "logprobs": "top_logprobs", "verbosity": "text.verbosity", "cache_key": "prompt_cache_key",
    },
    "anthropic": {
        "parallel": "tool_choice.disable_parallel_tool_use", "stop": "stop_sequences", "format": "output_config.format",
        "user": "metadata.user_id",
    },
    "gemini": {
        "temperature": "temperature", "top_p": "topP", "top_k": "topK", "frequency_penalty": "frequencyPenalty",
        "presence_penalty": "presencePenalty", "stop": "stopSequences", "logprobs": "responseLogprobs",
        "thinking": "thinkingConfig", "format": "responseMimeType",
    },
}  # fmt: skip


def encode_request(request: Request, *, model: str, limit: int | None, caps: Capabilities) -> Encoded:
    """Raises RelayError (400) for what Gemini cannot be asked."""
    return _Writer(request, limit, caps).write()


class _Writer:
    """One request on its way; `_losses` are named as the client named them."""

    def __init__(self, request: Request, limit: int | None, caps: Capabilities) -> None:
        messages, self._losses = hosted.passed_over(
            request.messages, known=lambda part: part.owner == "gemini", kinds=caps.input
        )
        levels = media.LEVELS if caps.part_resolution else ()
        beside = () if caps.result_media else levels  # where a result's pictures stand beside it, they are any others
        self._losses += resolution.lost(messages, request.owner, told=levels, in_results=beside)
        self._request = msgspec.structs.replace(request, messages=messages)
        self._limit = limit if limit is not None else request.limit
        self._caps = caps
        called = [part.name for turn in messages for part in turn.parts if isinstance(part, ToolCall)]
        declared = [tool.name for tool in request.tools if tool.raw is None]
        self._renamed = names.tools([*declared, *called], _LONGEST_NAME, letter_first=True)

    def write(self) -> Encoded:
        request = self._request
        messages, bound = self._bound_format()
        system, turns = contents.encode(messages, self._renamed, self._caps)
        body: dict[str, Any] = {"contents": turns}
        if system:
            body["systemInstruction"] = {"parts": system}
        if tools := self._tools(bound):
            body["tools"] = tools
        if (config := self._tool_config(body)) is not None:
            body["toolConfig"] = config
        if generation := self._generation(bound):
            body["generationConfig"] = generation
        self._add_extra(body)
        self._lose_what_has_no_field()
        customs_of = {self._renamed[tool.name] for tool in request.tools if tool.custom}
        return Encoded(body, self._losses, names.reverse(self._renamed), frozenset(customs_of))

    def _lose(self, name: str) -> None:
        self._losses.append(self._called(name))

    def _called(self, name: str) -> str:
        return _NAMES[self._request.owner].get(name, name)

    # ---- tools

    def _tools(self, bound: Format | None) -> list[Json]:
        request, found = self._request, []
        if not request.tools or self._unused(bound):
            return []
        if not self._caps.tools:
            raise RelayError(Cause.INVALID_PARAMETER, "This model takes no tools.", param="tools")
        declared = [self._declaration(tool) for tool in request.tools if tool.raw is None]
        if declared:
            found.append({"functionDeclarations": declared})
        return [*found, *(_hosted(tool) for tool in request.tools if tool.raw is not None)]

    def _unused(self, bound: Format | None) -> bool:
        """Tools that must not be called only stand in the way of an answer in JSON."""
        choice = self._request.choice
        return bound is not None and choice is not None and choice.mode == "none" and not self._caps.schema_with_tools

    def _declaration(self, tool: Tool) -> Json:
        tool = customs.as_function(tool) if tool.custom else tool
        found: Json = {"name": self._renamed[tool.name]}
        if tool.description:
            found["description"] = tool.description
        if tool.schema and self._caps.json_schema:
            if not _is_empty(tool.schema):
                found["parametersJsonSchema"] = tool.schema
        elif (schema := schemas.parameters_for_gemini(tool.schema)) is not None:
            found["parameters"] = schema
        return found

    def _tool_config(self, body: Json) -> Json | None:
        request, choice = self._request, self._request.choice
        functions = [tool for tool in request.tools if tool.raw is None]
        if not functions or "tools" not in body:
            return None
        if request.parallel is False and (choice is None or choice.mode != "none"):
            self._lose("parallel")
        config: Json = {}
        match choice.mode if choice is not None else "auto":
            case "none":
                config["mode"] = "NONE"
            case "any" | "tool" if self._caps.forced_tools:
                config["mode"] = "ANY"
            case mode:
                if mode in ("any", "tool"):
                    self._lose("tool_choice")
                checked = (choice is not None and choice.names) or all(tool.strict is True for tool in functions)
                config["mode"] = "VALIDATED" if checked else "AUTO"
        if choice is not None and choice.names and config["mode"] in ("ANY", "VALIDATED"):
            config["allowedFunctionNames"] = [self._renamed.get(name, name) for name in choice.names]
        return {"functionCallingConfig": config} if choice is not None or config["mode"] != "AUTO" else None

    # ---- JSON

    def _bound_format(self) -> tuple[list[Message], Format | None]:
        """The messages, and the format that the answer is bound to. A tool that must be called excludes one, some
        models take none beside any tools: they are told in words."""
        request, caps = self._request, self._caps
        wanted, choice = request.format, request.choice
        if wanted is None:
            return request.messages, None
        if request.tools and choice is not None and choice.mode in ("any", "tool"):
            self._lose("format")
            return request.messages, None
        may_call = bool(request.tools) and (choice is None or choice.mode != "none")
        able = caps.schema or (caps.json_mode and wanted.schema is None)
        if able and (caps.schema_with_tools or not may_call):
            return request.messages, wanted
        self._lose("format")
        return [in_words.turn(wanted), *request.messages], None

    # ---- generationConfig

    def _generation(self, bound: Format | None) -> Json:
        found = self._sampling()
        if self._limit is not None:
            found["maxOutputTokens"] = self._limit
        if bound is not None:
            found["responseMimeType"] = "application/json"
            if bound.schema is not None and self._caps.json_schema:
                found["responseJsonSchema"] = bound.schema
            elif bound.schema is not None:
                found["responseSchema"] = schemas.for_gemini(bound.schema, param=self._called("format"))
        if self._request.thinking is not None and (thinking := self._thinking(self._request.thinking)):
            found["thinkingConfig"] = thinking
        return found

    def _sampling(self) -> Json:
        given, caps = self._request.sampling, self._caps
        temperature = given.temperature
        if temperature is not None:
            temperature = min(temperature, caps.most_temperature)
        wanted: list[tuple[str, str, float | None, bool]] = [
            ("temperature", "temperature", temperature, caps.sampling),
            ("top_p", "topP", given.top_p, caps.sampling),
            ("top_k", "topK", given.top_k, caps.sampling),
            ("frequency_penalty", "frequencyPenalty", given.frequency_penalty, caps.penalties),
            ("presence_penalty", "presencePenalty", given.presence_penalty, caps.penalties),
            # 32 bits are all that a seed has here; what is cut off does not matter, as long as it is always the same.
            ("seed", "seed", given.seed if given.seed is None else _int32(given.seed), caps.seed),
        ]
        found: Json = {}
        for name, field, value, able in wanted:
            if value is not None and able:
                found[field] = value
            elif value is not None:
                self._lose(name)
        self._add_stops(found)
        # The hub's answers have no place for them, so nobody would ever see what was asked for.
        if given.logprobs is not None:
            self._lose("logprobs")
        if given.logit_bias:
            self._lose("logit_bias")
        return found

    def _add_stops(self, found: Json) -> None:
        stops, most = [stop for stop in self._request.sampling.stop if stop], self._caps.most_stops
        if most is not None and len(stops) > most:
            self._lose("stop")
            stops = stops[:most]
        if stops:
            found["stopSequences"] = stops

    def _thinking(self, wanted: Thinking) -> Json:
        caps = self._caps
        config: Json = {}
        off = wanted.effort == "none" or (wanted.effort is None and wanted.budget == 0)
        if caps.thinking == "none" or wanted.effort not in (None, *EFFORTS):
            if not off:
                self._lose("thinking")
            return {}
        if caps.thinking == "budget":
            if (budget := _budget(wanted, caps)) is not None:
                config["thinkingBudget"] = budget
        elif (level := _level(wanted, caps)) is not None:
            config["thinkingLevel"] = level.upper()
        visible = wanted.visible
        if visible is None and self._request.owner != "gemini":
            visible = True  # elsewhere thoughts come along wherever they are asked for
        if visible is not None:
            config["includeThoughts"] = visible and not off
        return config

    # ---- the rest

    def _add_extra(self, body: Json) -> None:
        request = self._request
        if request.owner != "gemini":
            modalities = _modalities(request.extra.get("modalities"))
            if modalities:
                body.setdefault("generationConfig", {})["responseModalities"] = modalities
            self._losses += [name for name in request.extra if name != "modalities" or not modalities]
            if request.service_tier not in _USUAL_TIERS:
                self._lose("service_tier")
            return
        if request.service_tier is not None:
            body["serviceTier"] = request.service_tier
        for name, value in request.extra.items():
            group, _, field = name.rpartition(".")
            match group:
                case "generationConfig" | "toolConfig":
                    body.setdefault(group, {})[field] = value
                case "toolConfig.functionCallingConfig":
                    body.setdefault("toolConfig", {}).setdefault("functionCallingConfig", {})[field] = value
                case "tools.functionDeclarations":  # of which function, nobody knows any more
                    self._lose(name)
                case _:
                    body[name] = value

    def _lose_what_has_no_field(self) -> None:
        request = self._request
        beside = {
            "user": request.user,
            "verbosity": request.verbosity,
            "cache_key": request.cache_key,
            "metadata": request.metadata_elsewhere,
            "name": any(message.name for message in request.messages),
        }
        for name, value in beside.items():
            if value:
                self._lose(name)


def _hosted(tool: Tool) -> Json:
    assert tool.raw is not None
    if tool.raw.owner == "gemini":
        return tool.raw.value
    message = f"The tool {tool.raw.label!r} is run by another provider, and this model does not have it."
    raise RelayError(Cause.INVALID_PARAMETER, message, param="tools")


def _is_empty(schema: Json) -> bool:
    """An object without properties: a function without parameters, which Gemini wants without a schema."""
    return not any(schema.get(key) for key in ("properties", "$ref", "anyOf", "oneOf", "allOf", "patternProperties"))


def _int32(seed: int) -> int:
    return seed if -(2**31) <= seed < 2**31 else seed % 2**31


def _modalities(wanted: Any) -> list[str]:
    """Chat's words for what an answer shall be, in Gemini's; none for an answer without pictures."""
    given = wanted if isinstance(wanted, list) and "image" in wanted else []
    return [name for name in ("TEXT", "IMAGE") if name.lower() in given]


_BUDGETS = {"none": 0, "low": 1024, "medium": 2048, "high": 4096, "xhigh": 8192, "max": 16_384}


def _budget(wanted: Thinking, caps: Capabilities) -> int | None:
    """Tokens; 0 is off, -1 as the model likes. Between, each model has its least."""
    budget = wanted.budget
    if wanted.effort is not None:
        budget = _BUDGETS.get(wanted.effort, caps.least_budget)
    if budget is None or budget < 0:
        return budget
    return max(budget, caps.least_budget) if budget or caps.thinking_always else 0


def _level(wanted: Thinking, caps: Capabilities) -> str | None:
    """The model's level nearest to what is wanted, of two the higher; None to leave it to the model."""
    effort = wanted.effort
    if effort is None and wanted.budget is not None and wanted.budget >= 0:
        steps = ((4096, "high"), (2048, "medium"), (1024, "low"), (1, "minimal"))
        effort = next((name for least, name in steps if wanted.budget >= least), "none")
    if effort not in EFFORTS or not caps.efforts:
        return None
    at = EFFORTS.index(effort)
    return min(caps.efforts, key=lambda level: (abs(EFFORTS.index(level) - at), -EFFORTS.index(level)))


# ---- a whole answer -------------------------------------------------------------------------------------------------


def encode_response(response: Response, *, asked: Chat, model: str, pisces: Told) -> bytes:
    thoughts = shows_thoughts(asked)
    found = [wire for part in response.parts if (wire := parts.for_client(part, thoughts=thoughts)) is not None]
    citations = [one for part in response.parts if isinstance(part, Text) for one in part.citations]
    body = closing(found, response.finish, response.note, citations)
    if response.usage is not None:
        body["usageMetadata"] = usage.encode(response.usage)
    return msgspec.json.encode({**body, "modelVersion": model, "responseId": response.id, "pisces": pisces})


def shows_thoughts(asked: Chat) -> bool:
    """Whether the client wants to see thoughts: Google shows them only to those who ask."""
    thinking = asked.canonical().thinking
    return thinking is not None and thinking.visible is True


def closing(found: list[Json], reason: Finish, note: str | None, citations: list[Json]) -> Json:
    """The candidate with its end. SDKs keep no turn in their history that has no part."""
    said, message = finish.encode(reason, note)
    content = {"parts": found or [{"text": ""}], "role": "model"}
    candidate: Json = {"content": content, "finishReason": said, "index": 0}
    if message:
        candidate["finishMessage"] = message
    sources = {one["url"]: one.get("title") or "" for one in citations if isinstance(one.get("url"), str)}
    if sources:
        chunks = [{"web": {"uri": url, "title": title}} for url, title in sources.items()]
        candidate["groundingMetadata"] = {"groundingChunks": chunks}
    return {"candidates": [candidate]}
