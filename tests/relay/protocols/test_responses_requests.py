"""What a Responses client asks for, with custom tools and histories."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay import dialects
from relay.errors import Cause, RelayError
from relay.protocols import capabilities, customs, fold
from relay.protocols.canonical import (
    Finish,
    Media,
    Response,
    Text,
    ToolCall,
    ToolResult,
)
from relay.protocols.codec import Encoded
from relay.protocols.responses import DIALECT, errors, kept, usage
from relay.protocols.responses.decoder import Decoder
from relay.protocols.translating import TranslatedStream, restored
from tests.relay.protocols.responses_made import TOLD, ask, encoded, events_in, refused, rich, whole

# ---- requests -------------------------------------------------------------------------------------------------------


def test_the_client_s_bytes_are_untouched_where_nothing_has_to_change() -> None:
    body = b'{"model":"m", "input" : "hi","unknown":[1.50,{"z":null}] }'
    asked = DIALECT.read(body)
    assert asked.encode(model="m", limit=None) is asked.body
    changed = json.loads(asked.encode(model="up", limit=77))
    assert changed == {"model": "up", "input": "hi", "unknown": [1.5, {"z": None}], "max_output_tokens": 77}


@pytest.mark.parametrize(
    "settings_of_tomorrow",
    [
        {"tool_choice": "newer"},
        {"reasoning": {"effort": "ultra"}},
        {"text": {"format": {"type": "grammar"}}},
        {"truncation": {"type": "newer"}},
    ],
)
def test_a_setting_that_is_not_known_here_passes_with_pictures_too_and_the_prompt_is_counted(
    settings_of_tomorrow: dict[str, Any],
) -> None:
    picture = {"type": "input_image", "image_url": "https://pictures.example/1.png"}
    words = {"type": "input_text", "text": "What is it?"}
    fields = {"model": "m", "instructions": "Be brief.", "input": [{"role": "user", "content": [words, picture]}]}
    known = DIALECT.read(json.dumps(fields).encode())
    asked = DIALECT.read(json.dumps({**fields, **settings_of_tomorrow}).encode())
    assert asked.encode(model="m", limit=None) is asked.body
    assert asked.input_bound("m") - asked.text_bytes == known.input_bound("m") - known.text_bytes > 0
    assert asked.prompt() == known.prompt()
    with pytest.raises(RelayError):
        asked.canonical()


STATE = "reasoning.encrypted_content"


@pytest.mark.parametrize(
    ("included", "sent"),
    [
        ({}, [STATE]),
        ({"include": None}, [STATE]),
        ({"include": ["file_search_call.results"]}, ["file_search_call.results", STATE]),
        ({"include": "no list"}, "no list"),
    ],
    ids=str,
)
def test_the_state_of_thoughts_that_are_kept_is_asked_for(included: dict[str, Any], sent: object) -> None:
    assert json.loads(ask(**included).encode(model="gpt-5", limit=None))["include"] == sent
    deployed = ask(**included).encode(model="ours-in-sweden", limit=None, caps=capabilities.of("gpt-5", "responses"))
    assert json.loads(deployed)["include"] == sent


@pytest.mark.parametrize(
    ("model", "fields"),
    [("gpt-5", {"store": False}), ("gpt-5", {"include": [STATE]}), ("gpt-4o", {})],
    ids=["nothing is kept", "the client has asked", "a model that does not think"],
)
def test_no_state_is_asked_for_that_nobody_needs_or_that_the_client_asks_for(
    model: str, fields: dict[str, Any]
) -> None:
    asked = ask(model=model, **fields)
    assert asked.encode(model=model, limit=None) is asked.body


def test_our_key_and_a_second_spelling_of_a_field_do_not_reach_the_upstream() -> None:
    body = b'{"model":"cheap","model":"m","input":"hi","api_key":"pisces-x"}'
    sent = DIALECT.read(body).encode(model="m", limit=None)
    assert json.loads(sent) == {"model": "m", "input": "hi"}
    assert sent.count(b"model") == 1


@pytest.mark.parametrize(
    ("body", "cause", "param"),
    [
        (b"", Cause.INVALID_JSON, None),
        (b"[]", Cause.INVALID_JSON, None),
        (b'{"model":"m","input":"\xff"}', Cause.INVALID_JSON, None),
        (b'{"model":"m","input":' + b"[" * 100_000, Cause.INVALID_JSON, None),
        (b'{"model":1,"input":"x"}', Cause.INVALID_PARAMETER, "model"),
        (b'{"model":"m"}', Cause.INVALID_MESSAGES, "input"),
        (b'{"model":"m","input":""}', Cause.INVALID_MESSAGES, "input"),
        (b'{"model":"m","input":[]}', Cause.INVALID_MESSAGES, "input"),
        (b'{"model":"m","input":[1]}', Cause.INVALID_MESSAGES, "input"),
        (b'{"model":"m","input":{}}', Cause.INVALID_MESSAGES, "input"),
        (b'{"model":"m","input":"x","Model":"y"}', Cause.INVALID_PARAMETER, "Model"),
        (b'{"model":"m","input":"x","max_output_tokens":-1}', Cause.INVALID_PARAMETER, "max_output_tokens"),
        (b'{"model":"m","input":"x","max_output_tokens":0}', Cause.INVALID_PARAMETER, "max_output_tokens"),
        (b'{"model":"m","input":"x","stream":"yes"}', Cause.INVALID_PARAMETER, "stream"),
        (b'{"model":"m","input":"x","background":true}', Cause.INVALID_PARAMETER, "background"),
        (b'{"model":"m","input":"x","conversation":"conv_1"}', Cause.INVALID_PARAMETER, "conversation"),
        (b'{"model":"m","input":"x","prompt":{"id":"pmpt_1"}}', Cause.INVALID_PARAMETER, "prompt"),
    ],
)
def test_a_malformed_request_is_refused_by_the_field_s_name(body: bytes, cause: Cause, param: str | None) -> None:
    error = refused(DIALECT.read, body)
    assert (error.cause, error.param, error.status) == (cause, param, 400)


@pytest.mark.parametrize(
    ("name", "mime"),
    [("a.txt", "text/plain"), ("a.csv", "text/csv"), ("a.pdf", "application/pdf"), ("a", "application/pdf")],
)
@pytest.mark.parametrize("head", ["", "data:;base64,"], ids=["bare", "untyped"])
def test_a_file_whose_type_nobody_says_is_what_its_name_says(head: str, name: str, mime: str) -> None:
    file = {"type": "input_file", "filename": name, "file_data": f"{head}aGVsbG8="}
    (part,) = ask(input=[{"role": "user", "content": [file]}]).canonical().messages[0].parts
    assert part == Media(kind="document", mime=mime, data="aGVsbG8=", name=name)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": [{"role": "robot", "content": "x"}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": 7}]}]}, "input[0]"),
        ({"input": [{"type": "function_call", "call_id": "c"}]}, "input[0]"),
        ({"input": [{"type": "function_call_output", "call_id": "c"}]}, "input[0]"),
        ({"tools": [{"name": "f"}]}, "tools"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"tools": [{"type": "function", "name": "f", "parameters": []}]}, "tools"),
        ({"tool_choice": "perhaps"}, "tool_choice"),
        ({"tool_choice": {"name": "f"}}, "tool_choice"),
        ({"text": {"format": {"type": "xml"}}}, "text.format"),
        ({"text": {"format": {"type": "json_schema", "name": "x"}}}, "text.format"),
        ({"reasoning": {"effort": "huge"}}, "reasoning.effort"),
        ({"temperature": "hot"}, "temperature"),
    ],
)
def test_what_cannot_be_read_is_refused_by_its_name(fields: dict[str, Any], param: str) -> None:
    error = refused(lambda: ask(**fields).canonical())
    assert (error.status, error.param) == (400, param)


@pytest.mark.parametrize(
    ("protocol", "model", "more"),
    [
        ("openai", "gpt-4o", []), ("responses", "gpt-4o", []), ("anthropic", "claude-3-5-sonnet", ["text.format"]),
        ("gemini", "gemini-2.0-flash", []),
    ],
)  # fmt: skip
def test_what_a_model_cannot_have_is_named_as_this_protocol_calls_it(
    protocol: str, model: str, more: list[str]
) -> None:
    text = {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}}
    reasoning = {"effort": "low", "context": "all_turns", "mode": "auto", "summary": None}
    request = ask(top_logprobs=2, reasoning=reasoning, text=text).canonical()
    caps = capabilities.of(model, protocol)
    found = dialects.of(protocol).encode_request(request, model=model, limit=None, caps=caps).losses
    assert sorted(found) == ["reasoning.context", "reasoning.effort", *more, "text.verbosity", "top_logprobs"]


@pytest.mark.parametrize(
    ("protocol", "model"),
    [("openai", "gpt-4o"), ("responses", "gpt-4o"), ("anthropic", "claude-sonnet-4-5"), ("gemini", "gemini-2.5-pro")],
)
def test_metadata_that_the_gateway_keeps_itself_is_lost_on_no_channel(protocol: str, model: str) -> None:
    request, caps = ask(metadata={"a": "b"}).canonical(), capabilities.of(model, protocol)
    assert dialects.of(protocol).encode_request(request, model=model, limit=None, caps=caps).losses == []


def test_text_and_reasoning_settings_and_the_schema_are_flat_here() -> None:
    asked = ask(
        reasoning={"effort": "minimal"},
        text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}, "verbosity": "high"},
        max_output_tokens=50,
    )
    body = encoded(asked.canonical()).body
    assert body["reasoning"] == {"effort": "minimal"}
    assert body["text"]["format"] == {"type": "json_schema", "name": "n", "schema": {"type": "object"}}
    assert body["max_output_tokens"] == 50


# ---- custom tools ---------------------------------------------------------------------------------------------------


def test_a_custom_tool_is_one_in_history_in_answers_and_in_streams() -> None:
    """Pitfall 36: Codex's `apply_patch`, at an upstream that knows functions only."""
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: x"}
    patch = '*** Begin Patch\n"x"\n'
    asked = ask(
        input=[
            {"role": "user", "content": "Patch it"},
            {"type": "custom_tool_call", "call_id": "c1", "name": "apply_patch", "input": patch},
            {"type": "custom_tool_call_output", "call_id": "c1", "output": "Done"},
        ],
        tools=[{"type": "custom", "name": "apply_patch", "format": grammar}],
    )  # fmt: skip
    request = asked.canonical()
    _, call, result = request.messages
    assert call.parts == [ToolCall(id="c1", name="apply_patch", arguments=patch, custom=True)]
    assert result.parts == [ToolResult(call="c1", parts=[Text(text="Done")], custom=True)]
    assert "start: x" in customs.as_function(request.tools[0]).description
    assert [item["type"] for item in encoded(request).body["input"][1:]] == [
        "custom_tool_call", "custom_tool_call_output",
    ]  # fmt: skip

    sent = Encoded({}, customs=frozenset(("apply_patch",)))
    arguments = customs.arguments_for(patch)
    answer = Response(
        id="x", model="m", parts=[ToolCall(id="c2", name="apply_patch", arguments=arguments)], finish=Finish.TOOL_CALLS
    )
    stream = TranslatedStream(Decoder(), DIALECT.encoder(asked, model="m", prompt_tokens=0), sent, upstream_model="m")
    out = stream.put(fold.unfold(msgspec.structs.replace(answer, parts=[*answer.parts]))) + stream.last(TOLD)
    done = events_in(out)[-1]["response"]["output"]
    assert [(item["type"], item["input"], item["call_id"]) for item in done] == [("custom_tool_call", patch, "c2")]
    kinds = [event["type"] for event in events_in(out)]
    assert kinds.index("response.custom_tool_call_input.delta") < kinds.index("response.custom_tool_call_input.done")
    fresh = Response(
        id="x", model="m", parts=[ToolCall(id="c2", name="apply_patch", arguments=arguments)], finish=Finish.TOOL_CALLS
    )
    body = DIALECT.encode_response(restored(fresh, sent), asked=asked, model="m", pisces=TOLD)
    assert json.loads(body)["output"][0]["input"] == patch


# ---- usage and errors -----------------------------------------------------------------------------------------------


numbers_seen = st.none() | st.integers(-10, 10**13) | st.floats() | st.text(max_size=3) | st.booleans()


details = st.none() | st.dictionaries(
    st.sampled_from(["cached_tokens", "audio_tokens", "reasoning_tokens", "cache_write_tokens", "other"]), numbers_seen
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "input_tokens": numbers_seen,
            "output_tokens": numbers_seen,
            "input_tokens_details": details,
            "output_tokens_details": details,
        },
    )
)
@settings(deadline=None)
def test_decoded_usage_is_never_negative_and_never_more_than_was_told(told: dict[str, Any]) -> None:
    found = usage.decode(json.dumps(told).encode())
    if found is not None:
        assert all(quantity > 0 for _, quantity in found.buckets())
        assert found.tokens_in == told["input_tokens"]
        assert found.tokens_out == told["output_tokens"]
        written = usage.encode(found)
        assert usage.decode(msgspec.json.encode(written)) == found


def test_usage_that_nobody_reported_is_null_and_not_nothing() -> None:
    assert usage.encode(None) is None
    assert (
        json.loads(DIALECT.encode_response(rich(), asked=ask(), model="m", pisces=TOLD))["usage"]["total_tokens"] == 23
    )


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        (400, Cause.UPSTREAM_REJECTED),
        (401, Cause.UPSTREAM_ERROR),
        (429, Cause.RATE_LIMITED),
        (500, Cause.UPSTREAM_ERROR),
    ],
)
def test_an_upstream_s_error_keeps_its_words_where_they_are_the_caller_s_business(status: int, cause: Cause) -> None:
    content = b'{"error":{"message":"Item rs_1 not found","type":"invalid_request_error","param":"input","code":"x"}}'
    error = DIALECT.decode_error(status, content, retry_after="7")
    assert error.cause is cause
    assert ("rs_1" in error.message) is (status != 401)
    told = json.loads(DIALECT.encode_error(error, TOLD))
    assert set(told["error"]) >= {"message", "type", "param", "code"}


def test_a_picture_that_cannot_be_read_is_the_request_s_own_fault() -> None:
    error = errors.decode_in_band(b'{"code":"invalid_image_url","message":"no"}')
    assert (error.cause, error.status) == (Cause.UPSTREAM_REJECTED, 400)


def test_an_account_that_cannot_pay_is_known_in_a_stream_too() -> None:
    error = errors.decode_in_band(b'{"code":"insufficient_quota","message":"check your plan and billing details"}')
    assert (error.cause, error.meant) == (Cause.UPSTREAM_ERROR, 402)
    assert "billing" not in error.message


# ---- histories ------------------------------------------------------------------------------------------------------


def test_a_history_refers_to_nothing_that_a_provider_keeps() -> None:
    output = [msgspec.Raw(msgspec.json.encode(item)) for item in json.loads(whole("silent"))["output"]]
    output += [msgspec.Raw(msgspec.json.encode(item)) for item in json.loads(whole("tools"))["output"]]
    found = [json.loads(bytes(raw)) for raw in kept.history(output)]
    assert [item["type"] for item in found] == ["message", "reasoning", "function_call", "function_call"]
    assert [item["type"] for item in found if "id" in item] == ["reasoning"]


SAID: list[dict[str, Any]] = [{"type": "message", "role": "user", "content": "x"}]
BARE: dict[str, Any] = {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]}


def sent(*thoughts: dict[str, Any], **beside: Any) -> list[dict[str, Any]]:
    asked = ask(input=[*SAID, *thoughts, *SAID], **beside)
    found: list[dict[str, Any]] = json.loads(asked.encode(model="up", limit=None))["input"]
    assert found[:1] == found[-1:] == SAID
    return found[1:-1]


@pytest.mark.parametrize("beside", [{}, {"reasoning": {"effort": "low"}}])
@pytest.mark.parametrize("state", [{}, {"encrypted_content": None}, {"encrypted_content": ""}])
def test_a_thought_that_has_no_state_and_no_id_to_be_looked_up_by_does_not_reach_openai(
    state: dict[str, Any], beside: dict[str, Any]
) -> None:
    """Codex writes no ids, whosever thought it was (codex-rs, `ResponseItem::Reasoning`)."""
    own = {**BARE, "encrypted_content": "gAAAAAB"}
    assert sent(own, {**BARE, **state}, {**BARE, **state, "id": None}, **beside) == [own]


@pytest.mark.parametrize(
    "thought",
    [
        {**BARE, "id": "rs_68f8d5c0a1b481908b2d7c3e5f60718293a4b5c6d7e8f901"},
        {**BARE, "encrypted_content": "gAAAAAB"},
        {"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
    ],
)
def test_thoughts_that_their_provider_knows_again_keep_their_bytes(thought: dict[str, Any]) -> None:
    asked = ask(input=[*SAID, thought], reasoning={"effort": "low"})
    assert asked.encode(model=asked.model, limit=None) == asked.body


def test_ids_of_ours_are_known_and_others_are_not() -> None:
    asked = ask()
    assert kept.parse_id(asked.id) == kept.parse_id(f"msg_{asked.answer.hex}_3") == asked.answer
    for other in ("resp_123", "", "msg_68f8d5c0a1b481908b2d7c3e5f60718293a4b5c6d7e8f901", f"call_{asked.answer.hex}"):
        assert kept.parse_id(other) is None
