"""What a client may send to `/v1/chat/completions`, as JSON Schema. Source: OpenAI API reference."""

from relay.protocols import shapes
from relay.protocols.openai.request import MOST_ANSWERS
from relay.protocols.shapes import BOOLEAN, COUNT, INTEGER, KEY, NUMBER, OBJECT, STRING, either, several, structure

_LINK = structure(("url",), url=STRING, detail=STRING)
_PART = either(
    structure(("type", "text"), type=shapes.only("text"), text=STRING),
    structure(("type", "image_url"), type=shapes.only("image_url"), image_url=either(_LINK, STRING)),
    structure(
        ("type", "input_audio"),
        type=shapes.only("input_audio"),
        input_audio=structure(("data",), data=STRING, format=shapes.words("wav", "mp3")),
    ),
    structure(
        ("type", "file"),
        type=shapes.only("file"),
        file=structure((), file_data=STRING, file_id=STRING, filename=STRING),
    ),
    structure(("type", "file_url"), type=shapes.only("file_url"), file_url=either(_LINK, STRING)),
)
_CONTENT = either(STRING, several(_PART))
_CALL = structure(
    ("id", "type", "function"),
    id=STRING,
    type=shapes.only("function"),
    function=structure(("name", "arguments"), name=STRING, arguments=STRING),
)
_MESSAGE = either(
    structure(("role", "content"), role=shapes.words("system", "developer", "user"), content=_CONTENT, name=STRING),
    structure(
        ("role",),
        role=shapes.only("assistant"),
        content=shapes.or_null(_CONTENT),
        tool_calls=several(_CALL),
        refusal=shapes.or_null(STRING),
        reasoning_content=STRING,
    ),
    structure(("role", "content", "tool_call_id"), role=shapes.only("tool"), content=_CONTENT, tool_call_id=STRING),
)
_FUNCTION = structure(("name",), name=STRING, description=STRING, parameters=OBJECT, strict=shapes.or_null(BOOLEAN))
_TOOL = structure(("type", "function"), type=shapes.only("function"), function=_FUNCTION)
_CHOICE = either(
    shapes.words("none", "auto", "required"),
    structure(("type", "function"), type=shapes.only("function"), function=structure(("name",), name=STRING)),
)
_FORMAT = either(
    structure(("type",), type=shapes.words("text", "json_object")),
    structure(
        ("type", "json_schema"),
        type=shapes.only("json_schema"),
        json_schema=structure(("name",), name=STRING, schema=OBJECT, strict=BOOLEAN),
    ),
)

CHAT = structure(
    ("messages",),
    model={**STRING, "description": "The operator may have named one for calls without it."},
    messages=several(_MESSAGE, least=1),
    stream=BOOLEAN,
    stream_options=structure((), include_usage=BOOLEAN),
    max_tokens=COUNT,
    max_completion_tokens=COUNT,
    n={**INTEGER, "minimum": 1, "maximum": MOST_ANSWERS},
    temperature=NUMBER,
    top_p=NUMBER,
    frequency_penalty=NUMBER,
    presence_penalty=NUMBER,
    seed=INTEGER,
    stop=either(STRING, several(STRING)),
    logprobs=BOOLEAN,
    top_logprobs=INTEGER,
    logit_bias={"type": "object", "additionalProperties": NUMBER},
    tools=several(_TOOL),
    tool_choice=_CHOICE,
    parallel_tool_calls=BOOLEAN,
    response_format=_FORMAT,
    reasoning_effort=STRING,
    verbosity=STRING,
    user=STRING,
    metadata=OBJECT,
    api_key=KEY,
)
