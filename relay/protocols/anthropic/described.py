"""What a client may send to `/v1/messages` and its `count_tokens`, as JSON Schema. Source: Anthropic API reference."""

from relay.protocols import shapes
from relay.protocols.shapes import BOOLEAN, INTEGER, KEY, NUMBER, OBJECT, STRING, either, several, structure

_MARK = structure(("type",), type=shapes.only("ephemeral"), ttl=shapes.words("5m", "1h"))
_TEXT = structure(("type", "text"), type=shapes.only("text"), text=STRING, cache_control=shapes.or_null(_MARK))
_SOURCE = either(
    structure(("type", "media_type", "data"), type=shapes.only("base64"), media_type=STRING, data=STRING),
    structure(("type", "url"), type=shapes.only("url"), url=STRING),
)
_IMAGE = structure(("type", "source"), type=shapes.only("image"), source=_SOURCE)
_BLOCK = either(
    _TEXT,
    _IMAGE,
    structure(("type", "source"), type=shapes.only("document"), source=_SOURCE, title=shapes.or_null(STRING)),
    structure(("type", "id", "name", "input"), type=shapes.only("tool_use"), id=STRING, name=STRING, input=OBJECT),
    structure(
        ("type", "tool_use_id"),
        type=shapes.only("tool_result"),
        tool_use_id=STRING,
        content=either(STRING, several(either(_TEXT, _IMAGE))),
        is_error=BOOLEAN,
    ),
    structure(("type", "thinking", "signature"), type=shapes.only("thinking"), thinking=STRING, signature=STRING),
    structure(("type", "data"), type=shapes.only("redacted_thinking"), data=STRING),
)
_TOOL = structure(("name", "input_schema"), name=STRING, description=STRING, input_schema=OBJECT)
_CHOICE = either(
    structure(("type",), type=shapes.words("auto", "any", "none"), disable_parallel_tool_use=BOOLEAN),
    structure(("type", "name"), type=shapes.only("tool"), name=STRING),
)
_THINKING = either(
    structure(("type",), type=shapes.words("disabled", "adaptive")),
    structure(("type", "budget_tokens"), type=shapes.only("enabled"), budget_tokens={**INTEGER, "minimum": 1024}),
)
_PROMPT = {
    "model": STRING,
    "messages": several(
        structure(("role", "content"), role=shapes.words("user", "assistant"), content=either(STRING, several(_BLOCK))),
        least=1,
    ),
    "system": either(STRING, several(_TEXT)),
    "tools": several(_TOOL),
    "tool_choice": _CHOICE,
    "thinking": _THINKING,
    "api_key": KEY,
}

COUNT_TOKENS = structure(("model", "messages"), **_PROMPT)
MESSAGES = structure(
    ("messages",),
    **_PROMPT,
    max_tokens={**INTEGER, "minimum": 0, "maximum": shapes.MOST_TOKENS},
    stream=BOOLEAN,
    temperature=NUMBER,
    top_p=NUMBER,
    top_k=INTEGER,
    stop_sequences=several(STRING),
    metadata=OBJECT,
    service_tier=STRING,
)
