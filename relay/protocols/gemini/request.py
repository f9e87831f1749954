"""Gemini requests: the few fields that the gateway must know, everything else kept as the bytes it came in. The path
says which model, and whether to stream.

Source: Gemini API reference, `models.generateContent`. Google's parser takes camelCase and snake_case.
"""

import copy
import re
from typing import Any, Self

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import bodies, capabilities, extent, raws, sse
from relay.protocols.asked import BaseAsked
from relay.protocols.canonical import Request
from relay.protocols.capabilities import Capabilities
from relay.protocols.gemini import foreign, reading, signatures

MOST_CANDIDATES = 8


# Protobuf's mapping of JSON takes `100`, `100.0` and `"100"` for the same integer.
_Number = int | float | str


class _Config(msgspec.Struct):
    maxOutputTokens: _Number | None = None
    max_output_tokens: _Number | None = None
    candidateCount: _Number | None = None
    candidate_count: _Number | None = None


class _Wanted(msgspec.Struct):
    """What is read of a request. Raw: known to exist, not looked into."""

    contents: msgspec.Raw = raws.ABSENT
    model: str | None = None
    generationConfig: _Config | None = None
    generation_config: _Config | None = None
    api_key: str | None = None


_CONFIG = ("generationConfig", "generation_config")
# A part of the prompt that is kept where we cannot look: its size is nobody's but Google's, and whoever may use the
# gateway's credential there could name anybody's.
_KEPT_ELSEWHERE = ("cachedContent", "cached_content")
_LIMIT = ("maxOutputTokens", "max_output_tokens")
_COUNT = ("candidateCount", "candidate_count")
_QUOTED = bodies.quoted(("contents", *_CONFIG, *_LIMIT, *_COUNT))
_decoder = msgspec.json.Decoder(_Wanted)
_fields_decoder = msgspec.json.Decoder(dict[str, msgspec.Raw])
_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_SIGNATURE = (b'"thoughtSignature"', b'"thought_signature"')
_DIGITS = re.compile(r"[0-9]{1,10}")
_FIELD = re.compile(r"\$\.([A-Za-z_.]+)")


class GeminiRequest(BaseAsked):
    """`array`: the stream is asked for as one JSON array and not as server-sent events."""

    __slots__ = ("_config", "_fields", "_strange", "array", "stream_type")

    protocol = "gemini"
    MEDIA = (b"inlineData", b"inline_data", b"fileData", b"file_data", b"\\u")
    PROMPT = frozenset(("systemInstruction", "system_instruction", "contents", "tools"))

    def __init__(
        self,
        body: bytes,
        fields: dict[str, msgspec.Raw],
        config: dict[str, msgspec.Raw],
        *,
        model: str,
        stream: bool,
        limit: int | None,
        n: int,
        array: bool,
    ) -> None:
        self._fields = fields
        self._config = config
        self._strange = foreign.is_foreign
        self.array = array
        self.stream_type = b"application/json" if array else sse.CONTENT_TYPE
        super().__init__(body, model=model, stream=stream, limit=limit, n=n)

    def stateless(self) -> Self | None:
        if not any(name in self.body for name in _SIGNATURE):
            return None
        found = copy.copy(self)
        found._strange = foreign.is_any
        return found

    def encode(self, *, model: str, limit: int | None, caps: Capabilities | None = None) -> bytes:
        """The body for the upstream, whose path names the model: its own bytes, but for a `limit` that the gateway set
        or lowered, state of other vendors' models and what their calls lack, what belongs to us or to the path, and a
        field written twice."""
        own = self._native(caps or capabilities.of(model, self.protocol))
        if limit is None and own is None and self._is_plain():
            return self.body
        merged: dict[str, Any] = {name: raw for name, raw in self._fields.items() if name not in ("api_key", "model")}
        if limit is not None or self._config:
            config: dict[str, Any] = dict(self._config)
            if limit is not None:
                config[_named(_LIMIT, self._config)] = limit
            merged[_named(_CONFIG, self._fields)] = config
        if own is not None:
            merged["contents"] = own
        return msgspec.json.encode(merged)

    def _native(self, caps: Capabilities) -> list[msgspec.Raw] | None:
        """The contents written anew, where there is something in them that Google must not see, or misses."""
        strange = self._strange is foreign.is_any or signatures.may_be_foreign(self.body)
        signed = caps.signatures and foreign.may_call(self.body)
        if not strange and not signed:
            return None
        try:
            return foreign.without(self._fields["contents"], self._strange if strange else None, signed=signed)
        except (msgspec.DecodeError, RecursionError):
            return None  # the upstream says what is wrong with them

    def _is_plain(self) -> bool:
        """Whether no field that the gateway reads is there twice, and none of its own; False where looking is dear."""
        if len(self.body) > bodies.DEAR or b"\\u" in self.body or "api_key" in self._fields or "model" in self._fields:
            return False
        return all(self.body.count(name) < 2 for name in _QUOTED)

    def _decode(self, body: bytes) -> Request:
        return reading.decode_request(body, model=self.model, stream=self.stream)


def read(body: bytes, *, model: str = "", stream: bool | None = None, array: bool = False) -> GeminiRequest:
    """`model` and `stream` are what the path says; without it, the body's `model` counts. Raises RelayError:
    invalid_json, invalid_messages or invalid_parameter, with the field's name."""
    extent.bounded(body)
    try:
        body.decode()
        wanted = _decoder.decode(body)
        fields = _fields_decoder.decode(body)
        _refuse_spellings(fields, ("contents", *_CONFIG, *_KEPT_ELSEWHERE, "model", "api_key"), "")
        config = _config(fields)
    except msgspec.ValidationError as error:
        raise _wrong_type(error) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise bodies.no_json(error) from error
    _refuse_kept(fields)
    _check_contents(wanted.contents)
    chosen = wanted.generationConfig or wanted.generation_config or _Config()
    numbers = (
        _chosen(chosen.maxOutputTokens, chosen.max_output_tokens),
        _chosen(chosen.candidateCount, chosen.candidate_count),
    )
    limit = _whole("generationConfig.maxOutputTokens", numbers[0], 2**31)
    count = _whole("generationConfig.candidateCount", numbers[1], MOST_CANDIDATES)
    if any(isinstance(number, float | str) for number in numbers):
        body = _with_integers(fields, config, {_LIMIT: limit, _COUNT: count})
    return GeminiRequest(
        body,
        fields,
        config,
        model=name_of(model or wanted.model or ""),
        stream=bool(stream),
        limit=limit,
        n=count or 1,
        array=array,
    )


def name_of(name: str) -> str:
    """`models/x` and `x` are the same; a name of another collection (`tunedModels/x`) stays whole."""
    return name.removeprefix("models/")


def path(model: str, verb: str) -> str:
    """Where an upstream is asked, below its base URL."""
    collection = model.partition("/")[0] in ("models", "tunedModels", "publishers", "projects")
    return f"/{model}:{verb}" if collection else f"/models/{model}:{verb}"


def _named(spellings: tuple[str, str], fields: dict[str, msgspec.Raw]) -> str:
    return spellings[1] if spellings[1] in fields else spellings[0]


def _config(fields: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    raw = fields.get(_named(_CONFIG, fields), raws.ABSENT)
    if bytes(memoryview(raw)[:1]) != b"{":
        return {}
    found = _fields_decoder.decode(raw)
    _refuse_spellings(found, (*_LIMIT, *_COUNT), "generationConfig.")
    return found


def _refuse_spellings(fields: dict[str, msgspec.Raw], known: tuple[str, ...], group: str) -> None:
    """A provider that ignores case, or reads the other one of two spellings, would take what was not priced."""
    seen: dict[str, str] = {}
    plain = {_folded(name): name for name in reversed(known)}
    for name in fields:
        folded = _folded(name)
        if folded not in plain:
            continue
        if name not in known:
            raise RelayError(
                Cause.INVALID_PARAMETER, f"Write `{group}{plain[folded]}`, not `{group}{name}`.", param=f"{group}{name}"
            )
        if folded in seen:
            text = f"`{group}{name}` and `{group}{seen[folded]}` are the same field: write one of them."
            raise RelayError(Cause.INVALID_PARAMETER, text, param=f"{group}{name}")
        seen[folded] = name


def _folded(name: str) -> str:
    return name.replace("_", "").lower()


def _check_contents(raw: msgspec.Raw) -> None:
    """A list of objects, or one of them; Google's parser takes one thing for a list of one."""
    first = bytes(memoryview(raw)[:1])
    turns = _list_decoder.decode(raw) if first == b"[" else [raw]
    extent.few_turns(len(turns), "contents")
    if not turns or any(bytes(memoryview(turn)[:1]) != b"{" for turn in turns):
        raise RelayError(
            Cause.INVALID_MESSAGES, "`contents` must be a list with at least one object.", param="contents"
        )


def _refuse_kept(fields: dict[str, msgspec.Raw]) -> None:
    for name in _KEPT_ELSEWHERE:
        if name in fields and bytes(fields[name]) != b"null":
            text = f"`{name}` names what a provider keeps; send the whole contents instead."
            raise RelayError(Cause.INVALID_PARAMETER, text, param=name)


def _chosen(one: _Number | None, other: _Number | None) -> _Number | None:
    return other if one is None else one


def _whole(name: str, given: _Number | None, most: int) -> int | None:
    if given is None:
        return None
    readable = _DIGITS.fullmatch(given) if isinstance(given, str) else given == given // 1
    if not readable or not 1 <= int(given) <= most:
        text = f"`{name}` must be a whole number between 1 and {most}."
        raise RelayError(Cause.INVALID_PARAMETER, text, param=name)
    return int(given)


def _with_integers(
    fields: dict[str, msgspec.Raw], config: dict[str, msgspec.Raw], numbers: dict[tuple[str, str], int | None]
) -> bytes:
    """The body with these as the integers that they were taken for: the upstream reads what was priced. Changes
    `fields` and `config` too."""
    config |= {_named(names, config): msgspec.Raw(b"%d" % number) for names, number in numbers.items() if number}
    fields[_named(_CONFIG, fields)] = msgspec.Raw(msgspec.json.encode(config))
    return msgspec.json.encode(fields)


def _wrong_type(error: msgspec.ValidationError) -> RelayError:
    match = _FIELD.search(str(error))
    if match is None:
        return RelayError(Cause.INVALID_JSON, "The body must be a JSON object.")
    param = match[1]
    cause = Cause.INVALID_MESSAGES if param.startswith("contents") else Cause.INVALID_PARAMETER
    what = str(error).split(" - at ")[0].replace("`", "").lower()
    return RelayError(cause, f"`{param}` has a wrong type: {what}.", param=param)
