"""What comes from Gemini's wire into the hub: a client's request, an upstream's whole answer.

Source: Gemini API reference, `GenerateContentRequest`. Google's parser takes every field in camelCase and in
snake_case, and one thing where a list of them is meant; so does this.
"""

import hashlib
import re
from functools import lru_cache
from typing import Any

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import turns
from relay.protocols.canonical import (
    Format,
    Json,
    Media,
    Message,
    Opaque,
    Part,
    Raw,
    Reasoning,
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
from relay.protocols.fold import Folder
from relay.protocols.gemini import media, schemas, signatures
from relay.protocols.gemini.decoder import Decoder

_SNAKE = re.compile(r"_([a-z0-9])")
_CAMEL = re.compile(r"(?<!^)([A-Z])")
_ROLES = {"": "user", "user": "user", "function": "user", "tool": "user", "model": "assistant"}
_KNOWN = frozenset(
    ("contents", "systemInstruction", "tools", "toolConfig", "generationConfig", "serviceTier", "model", "api_key")
)


def decode_response(body: bytes) -> Response:
    """Raises RelayError (upstream_error)."""
    decoder, folder = Decoder(whole=True), Folder()
    for event in (*decoder.feed(body), *decoder.close()):
        folder.see(event)
    return folder.whole()


def decode_request(body: bytes, *, model: str, stream: bool) -> Request:
    """Raises RelayError (400)."""
    try:
        fields = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise RelayError(Cause.INVALID_JSON, "The body is not valid JSON.") from error
    given = _object(fields, "")
    request = Request(
        model=model,
        messages=[*_system(_get(given, "systemInstruction")), *_turns(_get(given, "contents"))],
        owner="gemini",
        tools=_tools(_get(given, "tools")),
        stream=stream,
        service_tier=_text(_get(given, "serviceTier"), "serviceTier"),
        extra=_beside(_get(given, "tools")),
    )
    _read_tool_config(_get(given, "toolConfig"), request)
    _read_generation(_get(given, "generationConfig"), request)
    for name, value in given.items():
        if _camel(name) not in _KNOWN and name not in _KNOWN and value is not None:
            request.extra[_camel(name)] = value
    return request


# ---- turns ----------------------------------------------------------------------------------------------------------


def _system(value: Any) -> list[Message]:
    if value is None:
        return []
    if isinstance(value, str):
        return [Message(role="system", parts=[Text(text=value)])] if value else []
    found = _content(_object(value, "systemInstruction"), _Calls(), "systemInstruction", 0)
    if any(not isinstance(part, Text) for part in found):
        raise _wrong("systemInstruction", "may contain text only")
    return [Message(role="system", parts=found)] if found else []


def _turns(value: Any) -> list[Message]:
    calls = _Calls()
    found = []
    for number, one in enumerate(_several(value, "contents")):
        content = _object(one, "contents")
        said = _text(_get(content, "role"), "contents") or ""
        role = _ROLES.get(said)
        if role is None:
            raise _wrong("contents", f"has a turn of {said[:40]!r}: a role is `user` or `model`")
        parts = _content(content, calls, "contents", number)
        found.append(Message(role="user" if role == "user" else "assistant", parts=parts))
    merged = turns.merged(found)
    for message in merged:
        message.parts.sort(key=lambda part: not isinstance(part, ToolResult))
        message.parts = _whole_thoughts(message.parts)
    return merged


def _whole_thoughts(parts: list[Part]) -> list[Part]:
    """Thoughts that follow one another are one until a signature ends it: Google's SDKs give a streamed turn back in
    the pieces that it came in, of which only the last is signed."""
    runs: list[list[Part]] = []
    for part in parts:
        if runs and _goes_on(runs[-1][-1], part):
            runs[-1].append(part)
        else:
            runs.append([part])
    return [_joined(run) if len(run) > 1 else run[0] for run in runs]


def _goes_on(before: Part, part: Part) -> bool:
    shown = all(isinstance(one, Reasoning) and not one.redacted for one in (before, part))
    return shown and isinstance(before, Reasoning) and before.state is None


def _joined(pieces: list[Part]) -> Reasoning:
    found = [piece for piece in pieces if isinstance(piece, Reasoning)]
    return msgspec.structs.replace(found[-1], text="".join(piece.text for piece in found))


def _content(content: Json, calls: "_Calls", param: str, number: int) -> list[Part]:
    parts = [
        _part(_object(part, param), calls, param, f"{number}.{place}")
        for place, part in enumerate(_several(_get(content, "parts"), param))
    ]
    return [part for part in parts if part is not None]


class _Calls:
    """Pairs results with calls where the wire has no ids: by the function's name, in their order. An id that is made
    here is the same whenever the same history comes again, so that what an upstream has cached stays good."""

    def __init__(self) -> None:
        self._waiting: list[tuple[str, str]] = []
        self._known: set[str] = set()

    def id_of(self, given: str, name: str, place: str) -> str:
        made = given or f"call_{hashlib.sha256(f'{place}.{name}'.encode('utf-8', 'replace')).hexdigest()[:24]}"
        self._waiting.append((made, name))
        self._known.add(made)
        return made

    def answered(self, given: str, name: str, place: str) -> str:
        """The id of the call that this result is for."""
        for at, (call, called) in enumerate(self._waiting):
            if (call == given) if given in self._known else (called == name):
                del self._waiting[at]
                return call
        return given or f"none_{place}"


def _part(part: Json, calls: _Calls, param: str, place: str) -> Part | None:
    state = signatures.read(_get(part, "thoughtSignature"))
    if (call := _get(part, "functionCall")) is not None:
        return _call(_object(call, param), calls, state, param, place)
    if (result := _get(part, "functionResponse")) is not None:
        return _result(_object(result, param), calls, param, place)
    if (found := _media(part, state, param)) is not None:
        return found
    text = _text(_get(part, "text"), param)
    if text is None and (label := _label(part)) is not None:
        return Raw(owner="gemini", label=label, value=part)
    if part.get("thought") is True:
        if text is None:
            return Reasoning(state=state, redacted=True) if state else None
        return Reasoning(text=text, state=state, summary=True)
    return Text(text=text or "", state=state) if text is not None or state is not None else None


_BESIDE = frozenset(("text", "thought", "thoughtSignature", "partMetadata", "mediaResolution", "videoMetadata"))


def _label(part: Json) -> str | None:
    return next(
        (_camel(name) for name, value in part.items() if value is not None and _camel(name) not in _BESIDE), None
    )


def _call(call: Json, calls: _Calls, state: Opaque | None, param: str, place: str) -> ToolCall:
    name, args = _name(call, param), _get(call, "args")
    arguments = msgspec.json.encode(_object(args, param)).decode() if args is not None else ""
    given = _text(_get(call, "id"), param) or ""
    return ToolCall(id=calls.id_of(given, name, place), name=name, arguments=arguments, state=state)


def _result(result: Json, calls: _Calls, param: str, place: str) -> ToolResult:
    name = _name(result, param)
    text, failed = _said(_get(result, "response"), param)
    parts: list[Text | Media] = [Text(text=text)] if text else []
    for inner in _several(_get(result, "parts"), param):
        found = _media(_object(inner, param), None, param)
        if found is None:
            raise _wrong(param, "has a function's response with a part that is no media")
        parts.append(found)
    call = calls.answered(_text(_get(result, "id"), param) or "", name, place)
    return ToolResult(call=call, name=name, parts=parts, failed=failed)


def _said(response: Any, param: str) -> tuple[str, bool]:
    """A function's response as text, and whether it failed. Google asks for the keys `output` and `error`; any other
    object is told as the JSON that it is."""
    if response is None:
        return "", False
    found = _object(response, param)
    if len(found) == 1:
        (key, value), *_ = found.items()
        if isinstance(value, str) and key in ("result", "output", "error"):
            return value, key == "error"
        if key == "error":
            return msgspec.json.encode(value).decode(), True
    return msgspec.json.encode(found).decode() if found else "", False


def _media(part: Json, state: Opaque | None, param: str) -> Media | None:
    found = None
    if (blob := _get(part, "inlineData")) is not None:
        inner = _object(blob, param)
        mime, data = _text(_get(inner, "mimeType"), param), _text(_get(inner, "data"), param)
        found = media.from_inline(mime or "", data or "", state)
    elif (file := _get(part, "fileData")) is not None:
        inner = _object(file, param)
        mime, uri = _text(_get(inner, "mimeType"), param), _text(_get(inner, "fileUri"), param)
        found = media.from_file(mime or "", uri or "", state)
    if found is not None and isinstance(resolution := _get(part, "mediaResolution"), dict):
        found.detail = media.detail_of(str(resolution.get("level")))
    return found


def _name(value: Json, param: str) -> str:
    name = _text(_get(value, "name"), param)
    if not name:
        raise _wrong(param, "has a function's call or response without its name")
    return name


# ---- tools ----------------------------------------------------------------------------------------------------------


def _tools(value: Any) -> list[Tool]:
    found = []
    for one in _several(value, "tools"):
        for key, inner in _object(one, "tools").items():
            name = _camel(key)
            if name == "functionDeclarations":
                found += [_function(_object(declared, "tools")) for declared in _several(inner, "tools")]
            elif inner is not None:
                found.append(Tool(name=name, raw=Raw(owner="gemini", label=name, value={key: inner})))
    return found


_OF_FUNCTIONS = frozenset(("name", "description", "parameters", "parametersJsonSchema"))
_USUAL = {"behavior": "BLOCKING"}


def _beside(tools: Any) -> Json:
    """Fields of functions that the hub has no place for: what they return, whether the model waits for it."""
    declared = [
        one for tool in _several(tools, "tools") for one in _several(_get(tool, "functionDeclarations"), "tools")
    ]
    return {
        f"tools.functionDeclarations.{_camel(name)}": value
        for function in declared
        for name, value in function.items()
        if _camel(name) not in _OF_FUNCTIONS and value not in (None, _USUAL.get(_camel(name)))
    }


def _function(declared: Json) -> Tool:
    schema, dialect = _get(declared, "parametersJsonSchema"), _get(declared, "parameters")
    found = _object(schema, "tools") if schema is not None else None
    if found is None and dialect is not None:
        found = schemas.from_gemini(_object(dialect, "tools"))
    name = _text(_get(declared, "name"), "tools")
    if not name:
        raise _wrong("tools", "has a function without a name")
    return Tool(name=name, description=_text(_get(declared, "description"), "tools") or "", schema=found or None)


def _read_tool_config(value: Any, request: Request) -> None:
    if value is None:
        return
    for key, inner in _object(value, "toolConfig").items():
        if _camel(key) != "functionCallingConfig":
            request.extra[f"toolConfig.{_camel(key)}"] = inner
        elif inner is not None:
            _read_choice(_object(inner, "toolConfig"), request)


def _read_choice(config: Json, request: Request) -> None:
    for key, inner in config.items():
        if _camel(key) not in ("mode", "allowedFunctionNames") and inner not in (None, False):
            request.extra[f"toolConfig.functionCallingConfig.{_camel(key)}"] = inner
    mode = (_text(_get(config, "mode"), "toolConfig") or "MODE_UNSPECIFIED").upper()
    names = [_demand_text(name, "toolConfig") for name in _several(_get(config, "allowedFunctionNames"), "toolConfig")]
    match mode:
        case "MODE_UNSPECIFIED":
            return
        case "AUTO":
            request.choice = ToolChoice(mode="auto")
        case "NONE":
            request.choice = ToolChoice(mode="none")
        case "ANY":
            request.choice = ToolChoice(mode="tool" if len(names) == 1 else "any", names=names)
        case "VALIDATED":
            request.choice = ToolChoice(mode="auto", names=names)
            for tool in request.tools:
                tool.strict = True if tool.raw is None else None
        case _:
            raise _wrong("toolConfig", f"has the unknown mode {mode[:40]!r}")


# ---- generationConfig -----------------------------------------------------------------------------------------------

_FLOATS = {
    "temperature": "temperature", "topP": "top_p", "frequencyPenalty": "frequency_penalty",
    "presencePenalty": "presence_penalty",
}  # fmt: skip
_INTEGERS = {"topK": "top_k", "seed": "seed"}


def _read_generation(value: Any, request: Request) -> None:
    if value is None:
        return
    given = {_camel(name): inner for name, inner in _object(value, "generationConfig").items() if inner is not None}
    request.sampling = _sampling(given)
    request.limit = _integer(given.pop("maxOutputTokens", None), "maxOutputTokens")
    given.pop("candidateCount", None)
    request.format = _format(given)
    if (thinking := given.pop("thinkingConfig", None)) is not None:
        request.thinking = _thinking(_object(thinking, "generationConfig.thinkingConfig"))
    request.extra.update({f"generationConfig.{name}": inner for name, inner in given.items()})


def _sampling(given: Json) -> Sampling:
    found = Sampling()
    for name, field in _FLOATS.items():
        if (number := given.pop(name, None)) is not None:
            setattr(found, field, _number(number, name))
    for name, field in _INTEGERS.items():
        setattr(found, field, _integer(given.pop(name, None), name))
    stops = _several(given.pop("stopSequences", None), "generationConfig.stopSequences")
    found.stop = [_demand_text(stop, "generationConfig.stopSequences") for stop in stops]
    alternatives = _integer(given.pop("logprobs", None), "logprobs")
    if given.pop("responseLogprobs", None) is True:
        found.logprobs = alternatives or 0
    return found


def _format(given: Json) -> Format | None:
    mime = _text(given.get("responseMimeType"), "generationConfig.responseMimeType")
    if mime not in (None, "", "text/plain", "application/json"):
        return None  # another type stays among what only Gemini knows
    given.pop("responseMimeType", None)
    schema, dialect = given.pop("responseJsonSchema", None), given.pop("responseSchema", None)
    if schema is not None:
        return Format(schema=_object(schema, "generationConfig.responseJsonSchema"))
    if dialect is not None:
        return Format(schema=schemas.from_gemini(_object(dialect, "generationConfig.responseSchema")))
    return Format() if mime == "application/json" else None


def _thinking(config: Json) -> Thinking:
    level = (_text(_get(config, "thinkingLevel"), "generationConfig.thinkingConfig") or "").lower()
    visible = _get(config, "includeThoughts")
    if visible is not None and not isinstance(visible, bool):
        raise _wrong("generationConfig.thinkingConfig", "`includeThoughts` must be true or false")
    return Thinking(
        effort=level if level in ("minimal", "low", "medium", "high", "xhigh") else None,
        budget=_integer(_get(config, "thinkingBudget"), "thinkingConfig.thinkingBudget", least=-1),
        visible=visible,
    )


# ---- JSON of any shape ----------------------------------------------------------------------------------------------


@lru_cache(maxsize=256)
def _snake(name: str) -> str:
    return _CAMEL.sub(lambda match: f"_{match[1].lower()}", name)


def _camel(name: str) -> str:
    return _SNAKE.sub(lambda match: match[1].upper(), name) if "_" in name else name


def _get(value: Json, name: str) -> Any:
    found = value.get(name)
    return value.get(_snake(name)) if found is None else found


def _several(value: Any, param: str) -> list[Any]:
    """One thing for a list of one."""
    if value is None:
        return []
    if isinstance(value, list):
        return value
    if isinstance(value, dict):
        return [value]
    raise _wrong(param, "must be a list")


def _object(value: Any, param: str) -> Json:
    if not isinstance(value, dict):
        raise _wrong(param, "has something that must be an object")
    return value


def _text(value: Any, param: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise _wrong(param, "has something that must be text")
    return value


def _demand_text(value: Any, param: str) -> str:
    if not isinstance(value, str):
        raise _wrong(param, "must be a list of texts")
    return value


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong(f"generationConfig.{name}", "must be a number")
    return value


def _integer(value: Any, name: str, *, least: int = -(2**63)) -> int | None:
    """Whole numbers; Google's parser takes `40.0` for one."""
    if value is None:
        return None
    number = _number(value, name)
    if number != number // 1 or not least <= number < 2**63:
        raise _wrong(f"generationConfig.{name}", "must be a whole number")
    return int(number)


def _wrong(param: str, text: str) -> RelayError:
    if not param:
        return RelayError(Cause.INVALID_JSON, "The body must be a JSON object.")
    cause = Cause.INVALID_MESSAGES if param in ("contents", "systemInstruction") else Cause.INVALID_PARAMETER
    return RelayError(cause, f"`{param}` {text}.", param=param)
