"""Tokens of a whole request: OpenAI's framing to the token, and bounds that nothing exceeds."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.counting import families, prompt
from relay.counting.calibration import Calibration
from relay.protocols.openai import request, response
from relay.protocols.openai.request import ChatRequest

UNTAUGHT = Calibration()


def asked(messages: list[Any], **fields: Any) -> ChatRequest:
    return request.decode(json.dumps({"model": "offered", "messages": messages, **fields}).encode())


def user(text: Any) -> dict[str, Any]:
    return {"role": "user", "content": text}


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def function(name: str, properties: dict[str, Any], description: str = "", **more: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"name": name, "parameters": {"type": "object", "properties": properties, **more}}
    return {**made, "description": description} if description else made


def weather(**unit: str) -> dict[str, Any]:
    properties = {
        "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
        "unit": {"type": "string", **unit, "enum": ["celsius", "fahrenheit"]},
    }
    return function(
        "get_current_weather", properties, "Get the current weather in a given location.", required=["location"]
    )


HELLO = [user("hello")]
FOO = function("foo", {})
BING = {"foo": {"type": "string"}}
NESTED = {
    "type": "object",
    "properties": {"bar": {"type": "string", "enum": ["a", "b", "c"]}, "baz": {"type": "boolean"}},
}
ONE_OF = {
    "foo": {"anyOf": [{"type": "object", "properties": {"kind": {"type": "string"}, "baz": {"type": "boolean"}}}]}
}
BANG = {**BING, "bar": {"type": "number", "description": "A number"}}
SAID = {"role": "assistant", "content": "hello world"}
CALL = {"name": "do_stuff", "arguments": '{"foo": "bar", "baz": 1.5}'}
CALLED = {"role": "assistant", "content": "", "function_call": CALL}
DO, OTHER = function("do_stuff", {}), function("do_other_stuff", {})
TALK = [system("Hello:"), system("Hello"), user("Hi there")]
# What gpt-3.5-turbo reported (the tests of hmarr/openai-chat-tokens keep its reports).
REPORTED: list[tuple[list[Any], dict[str, Any], int]] = [
    (HELLO, {}, 8),
    ([user("hello world")], {}, 9),
    ([system("hello:")], {}, 9),
    ([system("# Important: you're the best robot"), user("hello robot"), SAID], {}, 27),
    (HELLO, {"functions": [FOO]}, 31),
    (HELLO, {"functions": [FOO], "function_call": "none"}, 32),
    (HELLO, {"functions": [FOO], "function_call": "auto"}, 31),
    (HELLO, {"functions": [FOO], "function_call": {"name": "foo"}}, 36),
    (HELLO, {"functions": [function("foo", {}, "Do a foo")]}, 36),
    (HELLO, {"functions": [function("bing_bong", BING, "Do a bing bong")]}, 49),
    (HELLO, {"functions": [function("bing_bong", BANG, "Do a bing bong")]}, 57),
    (HELLO, {"functions": [function("bing_bong", {"foo": NESTED}, "Do a bing bong")]}, 68),
    ([user("hello world"), {"role": "function", "name": "do_stuff", "content": "{}"}], {}, 15),
    ([user("hello world"), {"role": "function", "name": "do_stuff", "content": '{"foo": "bar", "baz": 1.5}'}], {}, 28),
    ([CALLED], {}, 26),
    ([system("Hello"), user("Hi there")], {"functions": [function("do_stuff", ONE_OF)]}, 52),
    ([system("Hello"), user("Hi there")], {"functions": [DO]}, 35),
    (TALK, {"functions": [DO]}, 40),
    (TALK, {"functions": [DO, OTHER]}, 49),
    (TALK, {"functions": [DO, OTHER], "function_call": {"name": "do_stuff"}}, 55),
]  # fmt: skip


@pytest.mark.parametrize(("messages", "fields", "tokens"), REPORTED)
def test_a_prompt_has_the_tokens_that_openai_reported(messages: list[Any], fields: dict[str, Any], tokens: int) -> None:
    read = asked(messages, **fields).prompt()
    assert prompt.count(read, "gpt-3.5-turbo", UNTAUGHT) == tokens <= prompt.bound(read, "gpt-3.5-turbo", UNTAUGHT)


# OpenAI's cookbook, "How to count tokens with tiktoken", section 7, and the API reference's example of an answer.
COOKBOOK = [
    system("You are a helpful assistant that can answer to questions about the weather."),
    user("What's the weather like in San Francisco?"),
]


@pytest.mark.parametrize(
    ("model", "tokens"), [("gpt-4o", 101), ("gpt-4o-mini", 101), ("gpt-4", 105), ("gpt-3.5-turbo", 105)]
)
def test_tools_have_the_tokens_that_the_cookbook_reports(model: str, tokens: int) -> None:
    tool = {"type": "function", "function": weather(description="The unit of temperature to return")}
    assert prompt.count(asked(COOKBOOK, tools=[tool]).prompt(), model, UNTAUGHT) == tokens


def test_the_answer_of_the_api_reference_has_the_tokens_that_stand_there() -> None:
    messages = [{"role": "developer", "content": "You are a helpful assistant."}, user("Hello!")]
    assert prompt.count(asked(messages).prompt(), "gpt-4.1-2025-04-14", UNTAUGHT) == 19
    choice = {
        "message": {"role": "assistant", "content": "Hello! How can I assist you today?"},
        "finish_reason": "stop",
    }
    answer = response.decode(json.dumps({"id": "x", "choices": [choice]}).encode())
    assert answer.seen("gpt-4.1-2025-04-14").tokens(UNTAUGHT) == 10


def test_content_parts_names_calls_and_refusals_are_in_the_prompt() -> None:
    plain = prompt.count(asked([user("one two")]).prompt(), "gpt-4o", UNTAUGHT)
    parts = asked([user([{"type": "text", "text": "one two"}])]).prompt()
    assert prompt.count(parts, "gpt-4o", UNTAUGHT) == plain
    named = asked([{**user("one two"), "name": "bob"}]).prompt()
    assert prompt.count(named, "gpt-4o", UNTAUGHT) == plain + 2
    call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a": 1}'}}
    with_call = asked([user("one two"), {"role": "assistant", "tool_calls": [call]}]).prompt()
    assert prompt.count(with_call, "gpt-4o", UNTAUGHT) > plain + 3 + 1 + 1 + 5
    refused = asked([user("one two"), {"role": "assistant", "refusal": "I will not do that."}]).prompt()
    assert prompt.count(refused, "gpt-4o", UNTAUGHT) > plain + 4 + 5


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["type", "text", "function", "name", "arguments", "image_url", "url", "file", "data"])
            | st.text(max_size=5),
            inner,
            max_size=4,
        )
    ),
    max_leaves=10,
)
odd_messages = st.dictionaries(
    st.sampled_from(["role", "content", "name", "tool_calls", "function_call", "refusal", "tool_call_id", "x"]),
    json_values | st.sampled_from(["user", "system", "function"]),
    max_size=5,
)
models = st.sampled_from(
    ["gpt-4o", "gpt-4", "gpt-4o-mini", "claude-sonnet-4", "gemini-2.5-flash", "qwen3-max", "unheard-of"]
)


@given(st.lists(odd_messages, min_size=1, max_size=3), models, json_values, json_values)
def test_no_request_breaks_the_counting_and_a_count_lies_below_its_bounds(
    messages: list[Any], model: str, tools: Any, choice: Any
) -> None:
    body = json.dumps({"messages": messages, "tools": tools, "tool_choice": choice}).encode()
    decoded = request.decode(body)
    read = decoded.prompt()
    assert 0 < prompt.count(read, model, UNTAUGHT) <= prompt.bound(read, model, UNTAUGHT)
    if families.of(model).exact:
        assert prompt.count(read, model, UNTAUGHT) <= decoded.input_bound(model) + 16


@given(st.text(min_size=1, max_size=300), models)
def test_the_counted_bound_of_text_is_far_below_its_bytes_and_never_below_its_count(text: str, model: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    decoded = asked([user(text * 20)])
    read = decoded.prompt()
    assert (
        prompt.count(read, model, UNTAUGHT) <= min(prompt.bound(read, model, UNTAUGHT), decoded.input_bound(model))
        or not families.of(model).exact
    )


def test_a_schema_that_points_elsewhere_is_counted_as_its_json() -> None:
    thing = {"type": "object", "properties": {f"field_{number}": {"type": "string"} for number in range(40)}}
    deep: dict[str, Any] = {"$defs": {"thing": thing}}
    pointing = function("take", {"thing": {"$ref": "#/$defs/thing"}}, **deep)
    read = asked(HELLO, tools=[{"type": "function", "function": pointing}]).prompt()
    assert prompt.count(read, "gpt-4o", UNTAUGHT) > 40 * 8


def test_what_another_vendor_writes_around_tools_is_in_its_bounds() -> None:
    """Anthropic reports 403 tokens for this request ("Token counting", with a tool)."""
    properties = {"location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"}}
    tool = function("get_weather", properties, "Get the current weather in a given location", required=["location"])
    decoded = asked([user("What's the weather like in San Francisco?")], tools=[{"type": "function", "function": tool}])
    assert decoded.input_bound("claude-sonnet-4") >= 403
    assert prompt.bound(decoded.prompt(), "claude-sonnet-4", UNTAUGHT) >= 403


# ---- what was put out -----------------------------------------------------------------------------------------------


def test_all_that_a_model_puts_out_is_counted() -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "get_current_weather", "arguments": '{"a":"b"}'}}]
    message = {"role": "assistant", "content": None, "reasoning_content": "one two three", "tool_calls": calls}
    other = {"message": {"content": "four five", "refusal": "six"}, "finish_reason": "length"}
    body = {"id": "x", "choices": [{"message": message, "finish_reason": "tool_calls"}, other]}
    seen = response.decode(json.dumps(body).encode()).seen("gpt-4o")
    assert (seen.calls, seen.ended, seen.thought) == (1, 1, True)
    expected = 3 + 3 + len(["{", '"a', '":"', "b", '"}']) + 2 + 1 + 3 + 1
    assert abs(seen.tokens(UNTAUGHT) - expected) <= 1


@pytest.mark.parametrize("calls", [{"odd": 1}, [1], "text", [{"function": "x"}], [{"index": "y"}]])
def test_calls_of_any_other_shape_are_counted_as_they_are_written(calls: Any) -> None:
    body = {"choices": [{"message": {"tool_calls": calls}, "finish_reason": "stop"}]}
    assert response.decode(json.dumps(body).encode()).seen("gpt-4o").tokens(UNTAUGHT) > 0
