"""Gemini's requests: read from clients, passed on, written for upstreams."""

import json
from typing import Any

import msgspec
import pytest

from relay.counting import families
from relay.errors import Cause, RelayError
from relay.protocols.canonical import (
    Media,
    Message,
    Opaque,
    Raw,
    Request,
    Sampling,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from relay.protocols.gemini import DIALECT, signatures
from tests.relay.protocols import laws
from tests.relay.protocols.gemini_asked import ask, contents, said
from tests.relay.protocols.gemini_wire import (
    CAPS_3,
    CAPS_25,
    PICTURE,
    SIGNATURE,
    encoded,
    wire,
    with_results_in_order,
)

REQUESTS = ("request_text", "request_chat", "request_tools", "request_json", "request_snake")


# ---- laws -----------------------------------------------------------------------------------------------------------


def same(request: Request) -> Request:
    """A picture's resolution and how likely tokens were are lost: not every model takes the one, and no answer of the
    hub has a place for the other."""
    request.sampling.logprobs = None
    return with_results_in_order(request)


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_that_is_written_anew_is_read_as_it_was(name: str) -> None:
    caps = CAPS_3 if b"thinking_level" in wire(f"{name}.json") else CAPS_25
    caps = msgspec.structs.replace(caps, result_media=True)
    laws.request_is_stable(DIALECT, wire(f"{name}.json"), caps, same)


# ---- what is read ---------------------------------------------------------------------------------------------------


def read(body: dict[str, Any]) -> Request:
    return DIALECT.read(json.dumps(body).encode(), model="m", stream=False).canonical()


def user(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "user", "parts": list(parts)}


def test_a_conversation_is_read_with_all_its_parts() -> None:
    request = DIALECT.read(wire("request_chat.json"), model="m", stream=True).canonical()
    system, first, answer, last = request.messages
    assert system == Message(role="system", parts=[Text(text="Be brief."), Text(text="Be kind.")])
    assert first == Message(role="user", parts=[Text(text="I am Ada.")])
    assert answer.parts == [Text(text="Hello Ada!", state=Opaque("gemini", SIGNATURE))]
    assert last.parts[1:] == [
        Media(kind="image", mime="image/png", data=PICTURE),
        Media(
            kind="document",
            mime="application/pdf",
            file="https://generativelanguage.googleapis.com/v1beta/files/abc123",
            owner="gemini",
        ),
        Media(kind="video", mime="video/mp4", url="https://www.youtube.com/watch?v=x"),
    ]
    assert request.sampling == Sampling(
        temperature=0.7, top_p=0.9, top_k=40, frequency_penalty=-0.5, presence_penalty=0.5, seed=7, stop=["END", "STOP"]
    )
    assert request.thinking == Thinking(budget=2048, visible=True)
    assert (request.limit, request.stream, request.service_tier) == (800, True, "flex")
    assert request.extra == {
        "safetySettings": [{"category": "HARM_CATEGORY_HARASSMENT", "threshold": "BLOCK_NONE"}],
        "generationConfig.mediaResolution": "MEDIA_RESOLUTION_LOW",
        "generationConfig.responseModalities": ["TEXT"],
    }


def test_snake_case_and_one_thing_for_a_list_are_read_like_google_s_parser_reads_them() -> None:
    asked = DIALECT.read(wire("request_snake.json"), model="models/m", stream=False)
    request = asked.canonical()
    assert (asked.model, asked.limit) == ("m", 64)
    system, turn = request.messages
    assert system.parts == [Text(text="Be brief.")]
    assert turn == Message(
        role="user",
        parts=[
            Text(text="What is it?"),
            Media(kind="image", mime="image/png", data=PICTURE),
            Media(kind="image", mime="image/jpeg", url="https://pictures.example/1.jpg"),
        ],
    )
    look, search = request.tools
    assert look.schema == {"type": "object", "properties": {"at": {"type": "string"}}}
    assert search.raw == Raw(owner="gemini", label="googleSearch", value={"google_search": {}})
    assert request.choice == ToolChoice(mode="tool", names=["look"])
    assert request.thinking == Thinking(effort="low", visible=False)
    assert (request.sampling.top_k, request.sampling.stop) == (3, ["x"])


def test_a_system_instruction_may_be_a_plain_text_and_a_role_may_be_missing() -> None:
    request = read({"systemInstruction": "Be brief.", "contents": [{"parts": [{"text": "x"}]}]})
    assert [(message.role, message.parts) for message in request.messages] == [
        ("system", [Text(text="Be brief.")]), ("user", [Text(text="x")]),
    ]  # fmt: skip


@pytest.mark.parametrize("data", ["-_-_Pw==", "-_-_Pw", "+/+/Pw=="])
def test_data_in_the_alphabet_for_urls_is_read_as_other_vendors_write_it(data: str) -> None:
    """Google's Python SDK writes it so."""
    inline = {"inline_data": {"mime_type": "application/pdf", "data": data}}
    assert read({"contents": [user(inline)]}).messages[0].parts == [
        Media(kind="document", mime="application/pdf", data="+/+/Pw==")
    ]


def test_results_without_ids_belong_to_the_calls_of_their_function_in_order() -> None:
    body = {
        "contents": [
            {"role": "model", "parts": [{"functionCall": {"name": name}} for name in ("f", "g", "f")]},
            user(*({"functionResponse": {"name": name, "response": {"result": said}}} for name, said in (
                ("f", "1"), ("f", "3"), ("g", "2"))))
        ]
    }  # fmt: skip
    calls, results = read(body).messages
    ids = [part.id for part in calls.parts if isinstance(part, ToolCall)]
    found = {part.call: part.parts for part in results.parts if isinstance(part, ToolResult)}
    assert [found[one] for one in ids] == [[Text(text="1")], [Text(text="2")], [Text(text="3")]]
    assert read(body) == read(body)  # pitfall 44: the ids that are made are the same again


def test_ids_that_are_there_decide() -> None:
    call = {"functionCall": {"name": "f", "id": "a"}}, {"functionCall": {"name": "f", "id": "b"}}
    answer = (
        {"functionResponse": {"name": "f", "id": "b", "response": {}}},
        {"functionResponse": {"name": "f", "id": "a", "response": {"error": "no"}}},
    )
    results = read({"contents": [{"role": "model", "parts": [*call]}, user(*answer)]}).messages[1].parts
    assert results == [
        ToolResult(call="b", name="f", parts=[]),
        ToolResult(call="a", name="f", parts=[Text(text="no")], failed=True),
    ]


@pytest.mark.parametrize(
    ("response", "text", "failed"),
    [
        ({"result": "x"}, "x", False),
        ({"output": "x"}, "x", False),
        ({"error": "x"}, "x", True),
        ({"error": {"code": 5}}, '{"code":5}', True),
        ({"result": 5}, '{"result":5}', False),
        ({"a": 1, "b": [2]}, '{"a":1,"b":[2]}', False),
    ],
)
def test_a_function_s_response_is_the_text_that_it_wraps_or_the_json_that_it_is(
    response: dict[str, Any], text: str, failed: bool
) -> None:
    body = {"contents": [user({"functionResponse": {"name": "f", "response": response}})]}
    (result,) = read(body).messages[0].parts
    assert isinstance(result, ToolResult)
    assert (result.parts, result.failed) == ([Text(text=text)], failed)


def test_parts_that_only_gemini_knows_are_kept_whole() -> None:
    code = {"executableCode": {"language": "PYTHON", "code": "1"}, "thoughtSignature": SIGNATURE}
    (part,) = read({"contents": [{"role": "model", "parts": [code]}]}).messages[0].parts
    assert part == Raw(owner="gemini", label="executableCode", value=code)
    assert contents(ask(said("x"), said(part, role="assistant"), said("y")))[1] == ("model", [code])


@pytest.mark.parametrize(
    ("config", "choice"),
    [
        ({"mode": "AUTO"}, ToolChoice(mode="auto")),
        ({"mode": "NONE"}, ToolChoice(mode="none")),
        ({"mode": "ANY"}, ToolChoice(mode="any")),
        ({"mode": "ANY", "allowedFunctionNames": ["f"]}, ToolChoice(mode="tool", names=["f"])),
        ({"mode": "ANY", "allowedFunctionNames": ["f", "g"]}, ToolChoice(mode="any", names=["f", "g"])),
        ({"mode": "VALIDATED", "allowedFunctionNames": ["f"]}, ToolChoice(mode="auto", names=["f"])),
        ({"mode": "MODE_UNSPECIFIED"}, None),
    ],
)
def test_every_mode_is_a_choice_and_is_written_back(config: dict[str, Any], choice: ToolChoice | None) -> None:
    tools = [{"functionDeclarations": [{"name": "f"}, {"name": "g"}]}]
    request = read({"contents": [user({"text": "x"})], "tools": tools, "toolConfig": {"functionCallingConfig": config}})
    assert request.choice == choice
    assert [tool.strict for tool in request.tools] == [True if config["mode"] == "VALIDATED" else None] * 2
    written = encoded(request).get("toolConfig")
    assert written == ({"functionCallingConfig": config} if choice else None)


def test_fields_of_functions_that_have_no_place_elsewhere_are_named() -> None:
    usual = {"name": "f", "behavior": "BLOCKING", "parameters_json_schema": {"type": "object"}, "response": None}
    other = {"name": "g", "behavior": "NON_BLOCKING", "response": {"type": "OBJECT"}}
    config = {"functionCallingConfig": {"mode": "ANY", "streamFunctionCallArguments": True}}
    tools = [{"functionDeclarations": [usual, other]}]
    request = read({"contents": [user({"text": "x"})], "tools": tools, "toolConfig": config})
    functions = ["tools.functionDeclarations.behavior", "tools.functionDeclarations.response"]
    assert [*request.extra] == [*functions, "toolConfig.functionCallingConfig.streamFunctionCallArguments"]
    again = DIALECT.encode_request(request, model="m", limit=None, caps=CAPS_25)
    assert (again.body["toolConfig"], again.losses) == (config, functions)


@pytest.mark.parametrize("name", ["contents.x", "generationConfig.temperature.x", "toolConfig.x.y", "tools.x"])
def test_a_field_whose_name_has_a_dot_changes_no_other(name: str) -> None:
    body = {"contents": [user({"text": "x"})], "generationConfig": {"temperature": 1.0, "temperature.x": 1}, name: 1}
    found = encoded(read(body))
    assert (found[name], found["contents"]) == (1, body["contents"])
    assert found["generationConfig"]["temperature"] == 1.0


def test_how_closely_a_picture_is_looked_at_is_read() -> None:
    inline = {"inlineData": {"mimeType": "image/png", "data": PICTURE}}
    levels = ["LOW", "MEDIUM", "HIGH", "ULTRA_HIGH", "UNSPECIFIED"]
    given = [user({**inline, "mediaResolution": {"level": f"MEDIA_RESOLUTION_{level}"}}) for level in levels]
    [turn] = read({"contents": given}).messages
    details = [part.detail for part in turn.parts if isinstance(part, Media)]
    assert details == ["low", "medium", "high", "ultra_high", None]


# ---- what is refused ------------------------------------------------------------------------------------------------


HELLO = '"contents":[{"parts":[{"text":"x"}]}]'


@pytest.mark.parametrize(
    ("body", "cause", "param"),
    [
        ("", Cause.INVALID_JSON, None),
        ("[]", Cause.INVALID_JSON, None),
        ("{", Cause.INVALID_JSON, None),
        ("{}", Cause.INVALID_MESSAGES, "contents"),
        ('{"contents":[]}', Cause.INVALID_MESSAGES, "contents"),
        ('{"contents":null}', Cause.INVALID_MESSAGES, "contents"),
        ('{"contents":"hello"}', Cause.INVALID_MESSAGES, "contents"),
        ('{"contents":[1]}', Cause.INVALID_MESSAGES, "contents"),
        (f'{{{HELLO},"Contents":[]}}', Cause.INVALID_PARAMETER, "Contents"),
        (f'{{{HELLO},"generationconfig":{{}}}}', Cause.INVALID_PARAMETER, "generationconfig"),
        (f'{{{HELLO},"generationConfig":{{}},"generation_config":{{}}}}', Cause.INVALID_PARAMETER, "generation_config"),
        (
            f'{{{HELLO},"generationConfig":{{"maxoutputtokens":1}}}}',
            Cause.INVALID_PARAMETER,
            "generationConfig.maxoutputtokens",
        ),
        (
            f'{{{HELLO},"generationConfig":{{"maxOutputTokens":1,"max_output_tokens":9}}}}',
            Cause.INVALID_PARAMETER,
            "generationConfig.max_output_tokens",
        ),
        (
            f'{{{HELLO},"generationConfig":{{"maxOutputTokens":"many"}}}}',
            Cause.INVALID_PARAMETER,
            "generationConfig.maxOutputTokens",
        ),
        (
            f'{{{HELLO},"generationConfig":{{"maxOutputTokens":-1}}}}',
            Cause.INVALID_PARAMETER,
            "generationConfig.maxOutputTokens",
        ),
        *(
            (
                f'{{{HELLO},"generationConfig":{{"maxOutputTokens":{odd}}}}}',
                Cause.INVALID_PARAMETER,
                "generationConfig.maxOutputTokens",
            )
            for odd in ("1.5", "1e99", "0.0", "true", '""', '"1e2"', '" 5"', '"-5"', '"5.5"', '"\u0665"', "2147483649")
        ),
        (
            f'{{{HELLO},"generationConfig":{{"candidateCount":9}}}}',
            Cause.INVALID_PARAMETER,
            "generationConfig.candidateCount",
        ),
        (f'{{{HELLO},"generationConfig":[]}}', Cause.INVALID_PARAMETER, "generationConfig"),
        (f'{{{HELLO},"cachedContent":"cachedContents/x"}}', Cause.INVALID_PARAMETER, "cachedContent"),
        (f'{{{HELLO},"cached_content":"cachedContents/x"}}', Cause.INVALID_PARAMETER, "cached_content"),
        (f'{{{HELLO},"CachedContent":"cachedContents/x"}}', Cause.INVALID_PARAMETER, "CachedContent"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_name_of_the_field(body: str, cause: Cause, param: str | None) -> None:
    with pytest.raises(RelayError) as refused:
        DIALECT.read(body.encode(), model="m", stream=False)
    assert (refused.value.cause, refused.value.param, refused.value.status) == (cause, param, 400)


@pytest.mark.parametrize("body", [b'{"contents":[{"parts":[{"text":"\xff"}]}]}', b"\xff", b"[" * 100_000])
def test_bytes_that_are_no_text_or_too_deep_are_refused(body: bytes) -> None:
    with pytest.raises(RelayError) as refused:
        DIALECT.read(body, model="m", stream=False)
    assert refused.value.cause is Cause.INVALID_JSON


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"contents": [{"role": "system", "parts": []}]}, "contents"),
        ({"contents": [{"role": 7}]}, "contents"),
        ({"contents": [{"parts": "x"}]}, "contents"),
        ({"contents": [{"parts": [{"text": 7}]}]}, "contents"),
        ({"contents": [{"parts": [{"functionCall": {}}]}]}, "contents"),
        ({"contents": [{"parts": [{"functionResponse": {"name": "f", "response": "x"}}]}]}, "contents"),
        ({"systemInstruction": {"parts": [{"inlineData": {"data": "eA=="}}]}}, "systemInstruction"),
        ({"tools": 7}, "tools"),
        ({"tools": [{"functionDeclarations": [{}]}]}, "tools"),
        ({"toolConfig": {"functionCallingConfig": {"mode": "MAYBE"}}}, "toolConfig"),
        ({"generationConfig": {"temperature": "warm"}}, "generationConfig.temperature"),
        ({"generationConfig": {"topK": 1.5}}, "generationConfig.topK"),
        ({"generationConfig": {"stopSequences": [1]}}, "generationConfig.stopSequences"),
        ({"generationConfig": {"thinkingConfig": {"includeThoughts": 1}}}, "generationConfig.thinkingConfig"),
        ({"generationConfig": {"responseJsonSchema": [], "responseMimeType": "application/json"}},
         "generationConfig.responseJsonSchema"),
    ],
)  # fmt: skip
def test_a_wrong_type_deep_inside_is_refused_when_it_has_to_be_translated(more: dict[str, Any], param: str) -> None:
    with pytest.raises(RelayError) as refused:
        read({"contents": [user({"text": "x"})], **more})
    assert (refused.value.status, refused.value.param) == (400, param)


def test_several_answers_are_for_upstreams_of_the_same_protocol_only() -> None:
    body = {
        "contents": [user({"inlineData": {"mimeType": "image/png", "data": PICTURE}})],
        "generationConfig": {"candidateCount": 3},
    }
    asked = DIALECT.read(json.dumps(body).encode(), model="m", stream=False)
    assert asked.n == 3
    assert asked.prompt().media
    with pytest.raises(RelayError) as refused:
        asked.canonical()
    assert refused.value.cause is Cause.INVALID_PARAMETER


# ---- what passes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", REQUESTS)
def test_a_request_of_the_same_protocol_keeps_its_own_bytes(name: str) -> None:
    body = wire(f"{name}.json")
    assert DIALECT.read(body, model="offered", stream=False).encode(model="upstream", limit=None) == body


@pytest.mark.parametrize(
    ("given", "group", "field"),
    [
        ({}, "generationConfig", "maxOutputTokens"),
        ({"generationConfig": {"topK": 1}}, "generationConfig", "maxOutputTokens"),
        ({"generation_config": {"max_output_tokens": 9000}}, "generation_config", "max_output_tokens"),
        ({"generationConfig": None}, "generationConfig", "maxOutputTokens"),
    ],
)
def test_a_limit_that_the_ledger_set_is_written_as_the_client_writes(
    given: dict[str, Any], group: str, field: str
) -> None:
    body = {"contents": [user({"text": "x"})], "unknown": {"a": [1]}, **given}
    sent = json.loads(DIALECT.read(json.dumps(body).encode(), model="m").encode(model="m", limit=50))
    assert sent == {**body, group: {**(given.get(group) or {}), field: 50}}


@pytest.mark.parametrize("written", ["100", "100.0", "1e2", '"100"'])
@pytest.mark.parametrize(
    ("group", "field"), [("generationConfig", "maxOutputTokens"), ("generation_config", "max_output_tokens")]
)
def test_a_limit_is_read_as_protobuf_s_json_has_it_and_passed_on_as_it_was_read(
    written: str, group: str, field: str
) -> None:
    body = f'{{{HELLO},"{group}":{{"topK":1,"{field}":{written}}},"x":[1.50]}}'.encode()
    asked = DIALECT.read(body, model="m", stream=False)
    assert (asked.limit, asked.canonical().limit) == (100, 100)
    sent = asked.encode(model="up", limit=None)
    assert sent == body.replace(written.encode(), b"100")
    assert json.loads(asked.encode(model="up", limit=40))[group] == {"topK": 1, field: 40}


def test_a_count_of_answers_is_read_so_too() -> None:
    asked = DIALECT.read(f'{{{HELLO},"generationConfig":{{"candidateCount":"2"}}}}'.encode(), model="m")
    assert (asked.n, json.loads(asked.encode(model="up", limit=None))["generationConfig"]) == (2, {"candidateCount": 2})


def test_what_belongs_to_us_or_to_the_path_does_not_go_on() -> None:
    body = b'{"model":"models/dear","api_key":"k",%b}' % HELLO.encode()
    asked = DIALECT.read(body, model="models/cheap", stream=False)
    assert asked.model == "cheap"
    assert json.loads(asked.encode(model="up", limit=None)) == {"contents": [{"parts": [{"text": "x"}]}]}
    assert DIALECT.read(body).model == "dear"
    assert DIALECT.read(body, model="tunedModels/mine-1").model == "tunedModels/mine-1"


@pytest.mark.parametrize(
    "body",
    [
        '{"generationConfig":{"maxOutputTokens":90000,"maxOutputTokens":5},%s}',
        '{"generationConfig":{"max\\u004futputTokens":90000,"maxOutputTokens":5},%s}',
        '{"generationConfig":{"maxOutputTokens":90000},"generationConfig":{"maxOutputTokens":5},%s}',
    ],
)
def test_of_a_field_written_twice_the_upstream_sees_the_one_that_was_priced(body: str) -> None:
    asked = DIALECT.read((body % HELLO).encode(), model="m", stream=False)
    assert asked.limit == 5
    sent = asked.encode(model="m", limit=None)
    assert b"90000" not in sent
    assert json.loads(sent)["generationConfig"] == {"maxOutputTokens": 5}


MARKED = signatures.for_client(Opaque("anthropic", "EqQB"))
CALL: dict[str, Any] = {"functionCall": {"id": "a", "name": "f", "args": {"n": 1.50}}}
RESULT = {"functionResponse": {"id": "a", "name": "f", "response": {"result": "r"}}}


def model(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"role": "model", "parts": list(parts)}


def sent(history: list[dict[str, Any]], upstream: str) -> list[dict[str, Any]]:
    body = json.dumps({"contents": history, "unknown": 7}).encode()
    found = json.loads(DIALECT.read(body, model="m", stream=False).encode(model=upstream, limit=None))
    assert found["unknown"] == 7
    contents: list[dict[str, Any]] = found["contents"]
    return contents


@pytest.mark.parametrize("field", ["thoughtSignature", "thought_signature"])
def test_state_of_another_vendor_s_model_does_not_reach_google(field: str) -> None:
    """Pitfalls 15 and 18, of a history that passes: words and calls stay, and what was there for the state does not."""
    own = {"text": "Own.", "thought": True, field: SIGNATURE}
    history = [
        user({"text": "x"}),
        model({"text": "Hm.", "thought": True, field: MARKED}, {"text": "", "thought": True, field: MARKED}, CALL),
        user(RESULT),
        model({"thought": True, field: MARKED}),
        model({**CALL, field: MARKED}, own, {"text": "42", field: MARKED}),
        user(RESULT, {"text": MARKED}),
    ]
    assert sent(history, "gemini-2.5-flash") == [
        history[0],
        model({"text": "Hm.", "thought": True}, CALL),
        user(RESULT),
        model(CALL, own, {"text": "42"}),
        history[5],
    ]


def test_where_state_was_left_out_the_first_call_of_each_step_bears_google_s_word_for_a_signature() -> None:
    """Pitfall 14: from Gemini 3 on a step that begins without one is a 400."""
    skipping, signed = {**CALL, "thoughtSignature": signatures.SKIP}, {**CALL, "thoughtSignature": SIGNATURE}
    history = [
        user({"text": "x"}),
        model({"text": "Hm.", "thought": True}),
        model({"text": "", "thought": True, "thoughtSignature": MARKED}),
        model(CALL, CALL),
        model(CALL),
        user(RESULT, RESULT, RESULT),
        model(signed, CALL),
        user(RESULT, RESULT),
        model(CALL),
        user(RESULT),
    ]
    expected = [
        history[0],
        model({"text": "Hm.", "thought": True}),
        model(skipping, CALL),
        *history[4:8],
        model(skipping),
        history[9],
    ]
    assert sent(history, "gemini-3-flash") == expected


@pytest.mark.parametrize("call", [CALL, {"function_call": CALL["functionCall"]}])
def test_a_call_that_another_vendor_s_model_made_without_any_state_bears_google_s_word_in_the_current_turn(
    call: dict[str, Any],
) -> None:
    """Pitfall 14 again: OpenAI's chat has no state that a mark could tell it by."""
    before = [user({"text": "x"}), model(call), user(RESULT), model({"text": "42"})]
    history = [*before, user({"text": "y"}), model({"text": "Hm."}, call, call), user(RESULT, RESULT), model(call)]
    history.append(user(RESULT, {"text": "Go on."}))
    skipping = {**call, "thoughtSignature": signatures.SKIP}
    assert sent(history, "gemini-3-flash") == [
        *before,
        history[4],
        model({"text": "Hm."}, skipping, call),
        history[6],
        model(skipping),
        history[8],
    ]
    assert sent(history, "gemini-2.5-flash") == history


@pytest.mark.parametrize(
    "history",
    [
        [user({"text": "x"}), model({**CALL, "thoughtSignature": SIGNATURE}, CALL), user(RESULT)],
        [user({"text": "x"}), model({**CALL, "thought_signature": signatures.SKIP}), user(RESULT)],
        [user({"text": "x"}), model(CALL), user(RESULT), model({"text": "42"}), user({"text": "y"})],
        [user({"text": "x"}), {"role": "model", "parts": ["functionCall", CALL]}, user(RESULT)],
        [user({"text": f"What is {MARKED}?"}), model(CALL), user({"text": MARKED})],
        [model({"text": "x", "thoughtSignature": SIGNATURE}), user({"text": '"pisces.'})],
        [{"role": "model", "parts": ["x", {"thoughtSignature": MARKED}]}],
        [{"role": "model", "parts": {"thoughtSignature": 7, "text": "pisces."}}, {"thoughtSignature": MARKED}],
    ],
)  # fmt: skip
def test_a_history_without_another_vendor_s_state_or_of_another_shape_keeps_its_bytes(
    history: list[dict[str, Any]],
) -> None:
    body = json.dumps({"contents": history}).encode()
    assert DIALECT.read(body, model="m").encode(model="gemini-3-flash", limit=None) == body


def test_a_picture_is_held_for_by_its_rule_and_text_by_its_bytes() -> None:
    part = {"inlineData": {"mimeType": "image/png", "data": PICTURE}}
    body = json.dumps({"contents": [user(part, {"text": "What is it?"})]}).encode()
    asked = DIALECT.read(body, model="gemini-2.5-flash", stream=False)
    assert asked.text_bytes == len(body) - len(PICTURE)
    most = len(body) + families.of("gemini-2.5-flash").picture.tokens(None, "high")
    assert asked.input_bound("gemini-2.5-flash") <= most
    assert len(asked.prompt().media) == 1
    dressed = body.replace(b'"inlineData": {"mimeType": "image/png", "data"', b'"text"').replace(b'"}}, ', b'"}, ')
    assert DIALECT.read(dressed, model="gemini-2.5-flash").text_bytes == len(dressed)
