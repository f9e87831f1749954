"""What a client may send to `/v1/responses`, as JSON Schema. Source: OpenAI API reference."""

from relay.protocols import shapes
from relay.protocols.shapes import BOOLEAN, COUNT, INTEGER, KEY, NUMBER, OBJECT, STRING, either, several, structure

_PART = either(
    structure(("type", "text"), type=shapes.only("input_text"), text=STRING),
    structure(("type", "text"), type=shapes.only("output_text"), text=STRING),
    structure(("type", "image_url"), type=shapes.only("input_image"), image_url=STRING, detail=STRING),
    structure(
        ("type",), type=shapes.only("input_file"), file_data=STRING, file_url=STRING, file_id=STRING, filename=STRING
    ),
)
_TEXTS = several(structure(("type", "text"), type=shapes.words("summary_text", "reasoning_text"), text=STRING))
_ITEM = either(
    structure(
        ("role", "content"),
        type=shapes.only("message"),
        role=shapes.words("system", "developer", "user", "assistant"),
        content=either(STRING, several(_PART)),
    ),
    structure(
        ("type", "call_id", "name", "arguments"),
        type=shapes.only("function_call"),
        id=STRING,
        call_id=STRING,
        name=STRING,
        arguments=STRING,
    ),
    structure(
        ("type", "call_id", "output"),
        type=shapes.only("function_call_output"),
        call_id=STRING,
        output=either(STRING, several(_PART)),
    ),
    structure(
        ("type", "summary"),
        type=shapes.only("reasoning"),
        id=STRING,
        summary=_TEXTS,
        content=_TEXTS,
        encrypted_content=shapes.or_null(STRING),
    ),
    structure(("type", "id"), type=shapes.only("item_reference"), id=STRING),
)
_TOOL = either(
    structure(
        ("type", "name"),
        type=shapes.only("function"),
        name=STRING,
        description=STRING,
        parameters=OBJECT,
        strict=BOOLEAN,
    ),
    structure(("type", "name"), type=shapes.only("custom"), name=STRING, description=STRING),
)
_CHOICE = either(
    shapes.words("none", "auto", "required"),
    structure(("type", "name"), type=shapes.words("function", "custom"), name=STRING),
)
_FORMAT = either(
    structure(("type",), type=shapes.words("text", "json_object")),
    structure(("type", "name", "schema"), type=shapes.only("json_schema"), name=STRING, schema=OBJECT, strict=BOOLEAN),
)

RESPONSE = structure(
    ("input",),
    model=STRING,
    input=either({**STRING, "minLength": 1}, several(_ITEM, least=1)),
    instructions=shapes.or_null(STRING),
    stream=BOOLEAN,
    store=BOOLEAN,
    background=shapes.only(False),
    previous_response_id=shapes.or_null(STRING),
    max_output_tokens=COUNT,
    temperature=NUMBER,
    top_p=NUMBER,
    top_logprobs=INTEGER,
    tools=several(_TOOL),
    tool_choice=_CHOICE,
    parallel_tool_calls=BOOLEAN,
    reasoning=structure((), effort=shapes.or_null(STRING), summary=shapes.or_null(STRING)),
    text=structure((), format=_FORMAT, verbosity=STRING),
    include=several(STRING),
    metadata=OBJECT,
    truncation=shapes.words("auto", "disabled"),
    user=STRING,
    api_key=KEY,
)
