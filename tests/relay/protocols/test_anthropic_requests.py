"""Requests of Anthropic's protocol: from its clients, to its upstreams, and what happens between models of different
kinds. The pitfalls' numbers are those of the list of protocol facts."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from relay.errors import Cause, RelayError
from relay.protocols import capabilities, states
from relay.protocols.anthropic import DIALECT, request
from relay.protocols.canonical import (
    Format,
    Mark,
    Media,
    Message,
    Opaque,
    Raw,
    Reasoning,
    Request,
    Sampling,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from relay.protocols.capabilities import Capabilities
from tests.relay.protocols import laws

BODY = (Path(__file__).parents[2] / "wire" / "anthropic" / "request.json").read_bytes()
LATEST = capabilities.of("claude-opus-5-5", "anthropic")
ADAPTIVE = capabilities.of("claude-sonnet-4-6", "anthropic")
BUDGET = capabilities.of("claude-sonnet-4-5", "anthropic")
OLDER = capabilities.of("claude-sonnet-4", "anthropic")
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


def read(**fields: Any) -> request.MessagesRequest:
    body = {"model": "m", "max_tokens": 100, "messages": [{"role": "user", "content": "hi"}], **fields}
    return request.read(json.dumps({name: value for name, value in body.items() if value is not None}).encode())


# ---- passing --------------------------------------------------------------------------------------------------------


def test_a_request_passes_byte_for_byte() -> None:
    """Pitfalls 19 and 44: neither signatures nor the prefix in the upstream's cache survive any change."""
    asked = request.read(BODY)
    assert asked.encode(model="claude-opus-5-5", limit=None) is BODY
    assert asked.encode(model="claude-opus-5-5", limit=32000) is BODY
    assert (asked.model, asked.stream, asked.limit, asked.n) == ("claude-opus-5-5", True, 32000, 1)


@pytest.mark.parametrize(
    "setting",
    [{"tool_choice": {"type": "newer"}}, {"service_tier": {"name": "newer"}}, {"metadata": {"user_id": 5}}],
)
def test_a_setting_that_is_not_known_here_passes_with_pictures_too_and_the_prompt_is_counted(
    setting: dict[str, Any],
) -> None:
    picture = {"type": "image", "source": {"type": "url", "url": "https://pictures.example/1.png"}}
    drawn = {"role": "assistant", "content": f"![image](data:image/png;base64,{PNG})"}
    fields = {"system": "Be brief.", "messages": [turn("user", picture), drawn, ASKED]}
    known, asked = read(**fields), read(**fields, **setting)
    assert asked.encode(model="m", limit=None) is asked.body
    assert asked.input_bound("m") - asked.text_bytes == known.input_bound("m") - known.text_bytes > 0
    assert asked.prompt() == known.prompt()
    assert asked.shown == known.shown == len(PNG)
    with pytest.raises(RelayError):
        asked.canonical()


def test_what_has_to_differ_is_all_that_differs() -> None:
    out = request.read(BODY).encode(model="up", limit=2000)
    fields = msgspec.json.decode(out, type=dict[str, msgspec.Raw])
    before = msgspec.json.decode(BODY, type=dict[str, msgspec.Raw])
    assert list(fields) == list(before)
    assert {name for name in fields if bytes(fields[name]) != bytes(before[name])} == {"model", "max_tokens"}
    assert (bytes(fields["model"]), bytes(fields["max_tokens"])) == (b'"up"', b"2000")


def test_our_key_goes_to_nobody_and_a_field_written_twice_goes_once() -> None:
    assert b"api_key" not in read(api_key="pisces-x").encode(model="m", limit=None)
    twice = b'{"model":"cheap","model":"m","max_tokens":5,"messages":[{"role":"user","content":"x"}]}'
    assert request.read(twice).encode(model="m", limit=None).count(b'"model"') == 1


def test_a_lowered_limit_lowers_the_budget_with_it() -> None:
    asked = read(max_tokens=9000, thinking={"type": "enabled", "budget_tokens": 8000, "display": "omitted"})
    kept = json.loads(asked.encode(model="m", limit=8500))
    assert (kept["max_tokens"], kept["thinking"]["budget_tokens"]) == (8500, 8000)
    lowered = json.loads(asked.encode(model="m", limit=3000))
    assert lowered["thinking"] == {"type": "enabled", "budget_tokens": 2999, "display": "omitted"}
    assert json.loads(asked.encode(model="m", limit=1024))["thinking"] == {"type": "disabled"}


def test_a_limit_of_nothing_is_legal_and_a_missing_one_is_set() -> None:
    asked = read(max_tokens=0)
    assert asked.limit == 0
    assert json.loads(asked.encode(model="m", limit=None))["max_tokens"] == 0
    missing = read(max_tokens=None)
    assert missing.limit is None
    assert json.loads(missing.encode(model="m", limit=None))["max_tokens"] == 4096
    assert json.loads(missing.encode(model="m", limit=77))["max_tokens"] == 77


def test_thoughts_that_anthropic_did_not_sign_do_not_reach_it() -> None:
    """Pitfall 18."""
    foreign = states.wrapped(Opaque("gemini", "c2ln"), native="anthropic")
    thinking = {"type": "thinking", "thinking": "hm", "signature": "EqQB"}
    history = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": [{**thinking, "signature": foreign}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [{**thinking, "signature": ""}]},
        {"role": "assistant", "content": [{"type": "redacted_thinking", "data": foreign}, thinking, {"type": "text", "text": "c"}]},  # noqa: E501
        {"role": "user", "content": 'say "signature": "" and "pisces.x'},
    ]  # fmt: skip
    body = json.loads(read(messages=history).encode(model="m", limit=None))
    assert body["messages"] == [
        history[0],
        {"role": "assistant", "content": [{"type": "text", "text": "b"}]},
        {"role": "assistant", "content": [thinking, {"type": "text", "text": "c"}]},
        history[4],
    ]
    untouched = read(messages=[history[0], {"role": "assistant", "content": [thinking]}, history[4]])
    assert untouched.encode(model="m", limit=None) is untouched.body


FOREIGN = {"type": "thinking", "thinking": "hm", "signature": states.wrapped(Opaque("gemini", "c"), native="anthropic")}
OWN = {"type": "thinking", "thinking": "hm", "signature": "EqQB"}
USE = {"type": "tool_use", "id": "a", "name": "f", "input": {}}
RESULT = {"type": "tool_result", "tool_use_id": "a", "content": "r"}
ASKED = {"role": "user", "content": "q"}
BY_BUDGET = {"type": "enabled", "budget_tokens": 1024}


def turn(role: str, *content: dict[str, Any]) -> dict[str, Any]:
    return {"role": role, "content": list(content)}


@pytest.mark.parametrize(
    ("thinking", "turns", "thinks"),
    [
        (BY_BUDGET, [turn("assistant", FOREIGN, USE), turn("user", RESULT)], False),
        (BY_BUDGET, [turn("assistant", FOREIGN), turn("assistant", USE), turn("user", RESULT), ASKED], False),
        (BY_BUDGET, [turn("assistant", OWN, FOREIGN, USE), turn("user", RESULT)], True),
        (BY_BUDGET, [turn("assistant", FOREIGN, USE), turn("user", RESULT), turn("assistant", OWN, USE), turn("user", RESULT)], True),  # noqa: E501
        (BY_BUDGET, [turn("assistant", FOREIGN, USE), ASKED], True),
        ({"type": "adaptive"}, [turn("assistant", FOREIGN, USE), turn("user", RESULT)], True),
        ({"type": "disabled"}, [turn("assistant", FOREIGN, USE), turn("user", RESULT)], True),
    ],
)  # fmt: skip
def test_thinking_by_a_budget_does_not_begin_in_the_middle_of_a_turn_that_another_vendor_s_model_began(
    thinking: dict[str, Any], turns: list[dict[str, Any]], thinks: bool
) -> None:
    """Anthropic refuses a turn that calls without a thought before while it is to think so; adaptively it may."""
    asked = read(max_tokens=3000, thinking=thinking, messages=[ASKED, *turns])
    sent = json.loads(asked.encode(model="m", limit=None))
    assert sent.get("thinking") == (thinking if thinks else None)
    assert asked.losses == ([] if thinks else ["thinking"])
    assert json.loads(asked.encode(model="m", limit=2000))["max_tokens"] == 2000


def test_a_source_that_anthropic_has_not_found_does_not_reach_it() -> None:
    """Other vendors' pages have no index; where our decoders leave it out or empty, it is somebody else's."""
    page = {"type": "web_search_result_location", "url": "http://u", "title": "t", "cited_text": ""}
    own, place = {**page, "encrypted_index": "Eo8B"}, {"type": "char_location", "cited_text": "x"}
    said = {"type": "text", "text": "Hello"}
    history = [
        {"role": "user", "content": "a"},
        turn("assistant", {**said, "citations": [page, {**page, "encrypted_index": ""}]}),
        {"role": "user", "content": "b"},
        turn("assistant", {**said, "citations": [own, page, place]}, {**said, "citations": [own]}),
        {"role": "user", "content": "c"},
    ]
    expected = [
        *(history[0], turn("assistant", said), history[2]),
        *(turn("assistant", {**said, "citations": [own, place]}, {**said, "citations": [own]}), history[4]),
    ]
    asked = read(messages=history)
    assert json.loads(asked.encode(model="m", limit=None))["messages"] == expected
    translated = DIALECT.encode_request(asked.canonical(), model="m", limit=9, caps=BUDGET).body["messages"]
    assert translated[1]["content"] == [said]
    assert translated[3]["content"][0]["citations"] == [own, place]
    untouched = read(messages=[history[0], turn("assistant", {**said, "citations": [own]}), history[4]])
    assert untouched.encode(model="m", limit=None) is untouched.body


def test_what_is_asked_for_again_without_thoughts_is_without_other_vendors_sources_too() -> None:
    """An account that cannot read the thoughts would refuse it for these instead."""
    source = {"type": "web_search_result_location", "url": "http://u", "title": "t", "cited_text": ""}
    said = {"type": "text", "text": "Hello"}
    again = read(messages=[ASKED, turn("assistant", OWN, {**said, "citations": [source]}), ASKED]).stateless()
    assert again is not None
    assert json.loads(again.encode(model="m", limit=None))["messages"] == [ASKED, turn("assistant", said), ASKED]
    assert read(messages=[ASKED, turn("assistant", FOREIGN, said), ASKED]).stateless() is None


@pytest.mark.parametrize(
    ("body", "cause", "param"),
    [
        (b"", Cause.INVALID_JSON, None), (b"[]", Cause.INVALID_JSON, None), (b"\xff", Cause.INVALID_JSON, None),
        (b'{"model":', Cause.INVALID_JSON, None), (b"[" * 100_000, Cause.INVALID_JSON, None),
        (b'{"messages":[' + b'{"a":' * 100_000, Cause.INVALID_JSON, None),
        (b'{"model":1,"messages":[{}]}', Cause.INVALID_PARAMETER, "model"),
        (b'{"model":"m"}', Cause.INVALID_MESSAGES, "messages"),
        (b'{"model":"m","messages":[]}', Cause.INVALID_MESSAGES, "messages"),
        (b'{"model":"m","messages":{}}', Cause.INVALID_MESSAGES, "messages"),
        (b'{"model":"m","messages":["x"]}', Cause.INVALID_MESSAGES, "messages"),
        (b'{"model":"m","messages":[{}],"max_tokens":-1}', Cause.INVALID_PARAMETER, "max_tokens"),
        (b'{"model":"m","messages":[{}],"max_tokens":1.5}', Cause.INVALID_PARAMETER, "max_tokens"),
        (b'{"model":"m","messages":[{}],"max_tokens":99999999999}', Cause.INVALID_PARAMETER, "max_tokens"),
        (b'{"model":"m","messages":[{}],"stream":"yes"}', Cause.INVALID_PARAMETER, "stream"),
        (b'{"model":"m","messages":[{}],"Model":"dear"}', Cause.INVALID_PARAMETER, "Model"),
        (b'{"model":"m","messages":[{}],"MAX_TOKENS":1}', Cause.INVALID_PARAMETER, "MAX_TOKENS"),
    ],
)  # fmt: skip
def test_a_bad_body_is_refused_with_the_field_s_name(body: bytes, cause: Cause, param: str | None) -> None:
    for reader in (request.read, request.count_request):
        with pytest.raises(RelayError) as raised:
            reader(body)
        assert (raised.value.cause, raised.value.param, raised.value.status) == (cause, param, 400)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "user"}]}, "messages"), ({"messages": [{"content": "x"}]}, "messages"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages"),
        ({"messages": [{"role": "user", "content": 7}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": 5}]}]}, "messages"),
        ({"system": 5}, "system"), ({"temperature": "hot"}, "temperature"), ({"tools": [5]}, "tools"),
        ({"tool_choice": {"type": "tool"}}, "tool_choice"), ({"tool_choice": {"type": "some"}}, "tool_choice"),
        ({"thinking": {"type": "enabled", "budget_tokens": "x"}}, "thinking"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"tools": [{}]}, "tools"), ({"tools": [{"type": "custom", "input_schema": {}}]}, "tools"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "name": "f"}]}]}, "messages"),
        ({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a"}]}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "x"}]}]}, "messages"),
    ],
)  # fmt: skip
def test_what_cannot_be_translated_is_refused_with_the_field_s_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(RelayError) as raised:
        read(**fields).canonical()
    assert (raised.value.status, raised.value.param) == (400, param)


def test_calls_without_names_pass_to_anthropic_which_says_what_is_wrong_with_them() -> None:
    asked = read(tools=[{}], messages=[{"role": "assistant", "content": [{"type": "tool_use"}]}])
    assert asked.encode(model=asked.model, limit=None) == asked.body
    assert asked.prompt().texts == ["assistant", "", ""]


def test_headers_that_an_upstream_has_to_see_are_forwarded_and_no_others() -> None:
    """Pitfalls 38 and 43: betas only where the client sent them, and nobody's key."""
    given = {"Anthropic-Version": "2026-10-21", "anthropic-beta": "a,b", "x-api-key": "k", "authorization": "Bearer k"}
    assert request.forwarded(given) == {"anthropic-version": "2026-10-21", "anthropic-beta": "a,b"}
    assert request.forwarded({}) == {"anthropic-version": "2023-06-01"}


def test_tokens_are_counted_of_all_that_the_model_is_given() -> None:
    """Pitfall 37: the system's words and the tools too. The body may lack what only an answer needs."""
    tool = {"name": "find", "description": "Finds a thing.", "input_schema": {"type": "object", "properties": {}}}
    body = {"model": "m", "messages": [{"role": "user", "content": "words of the user"}], "system": "words of mine"}
    counted = request.count_request(json.dumps({**body, "tools": [tool]}).encode())
    prompt = counted.prompt()
    assert {"words of the user", "words of mine"} <= set(prompt.texts)
    assert [function["name"] for function in prompt.functions] == ["find"]
    assert "max_tokens" not in json.loads(counted.encode(model="up", limit=None))
    assert json.loads(counted.encode(model="up", limit=None))["model"] == "up"


def test_pictures_and_files_bound_the_input_and_not_their_bytes() -> None:
    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG + "A" * 400_000}}
    asked = read(messages=[{"role": "user", "content": [picture]}])
    assert asked.text_bytes < 1000
    assert asked.input_bound("claude-sonnet-4-5") < 10_000
    future = read(messages=[{"role": "user", "content": [{"type": "image", "source": {"type": "hologram"}}]}])
    assert future.input_bound("claude-sonnet-4-5") > 0


# ---- from a client --------------------------------------------------------------------------------------------------


def test_a_request_is_read_for_all_that_it_says() -> None:
    found = request.read(BODY).canonical()
    assert (found.owner, found.limit, found.stream, found.user) == (
        "anthropic",
        32000,
        True,
        "user_1234_account__session_5678",
    )
    system, first, said, results, hurry, _, _ = found.messages
    assert [part.mark for part in system.parts if isinstance(part, Text)] == [None, Mark("1h")]
    assert [type(part) for part in first.parts] == [Media, Media, Media, Media, Raw, Text]
    report, text, picture, linked = (part for part in first.parts if isinstance(part, Media))
    assert (report.kind, report.mime, report.name) == ("document", "application/pdf", "A report")
    assert (text.text, picture.data, linked.url) == ("The grass is green.", PNG, "https://example.com/a.jpg")
    thought, hidden, _, call, empty = said.parts
    assert thought == Reasoning(
        text="I should look.", state=Opaque("anthropic", "EqQBCgIYAhIM1gbcDa9GJwZA2b3hGgxBdjrkzLoky3dl1pkiMOYds")
    )
    assert hidden == Reasoning(state=Opaque("anthropic", "EmwKAhgBEgy3va3pzix"), redacted=True)
    assert isinstance(call, ToolCall)
    assert call.arguments == '{"path": "/tmp/a b", "deep": {"n": 1.50, "big": 123456789012345678901234567890}}'
    assert empty == ToolCall(id="toolu_01B", name="look")
    seen, failed, _ = results.parts
    assert isinstance(seen, ToolResult)
    assert [type(part) for part in seen.parts] == [Text, Media]
    assert failed == ToolResult(call="toolu_01B", parts=[Text(text="no such thing")], failed=True, mark=Mark())
    assert hurry == Message(role="system", parts=[Text(text="The user is in a hurry.")])
    assert [tool.raw.label if tool.raw else tool.name for tool in found.tools] == [
        "mcp__files__read",
        "look",
        "web_search_20260318",
    ]
    assert (found.choice, found.parallel) == (ToolChoice(mode="auto"), False)
    assert found.thinking == Thinking(effort="high", adaptive=True, visible=True)
    assert found.format is not None
    assert found.sampling == Sampling(stop=["END"])
    assert found.service_tier == "default"
    assert set(found.extra) == {"context_management", "citations", "tools.input_examples"}


@pytest.mark.parametrize("caps", [LATEST, ADAPTIVE, BUDGET, OLDER], ids=["latest", "adaptive", "budget", "older"])
def test_reading_what_was_written_gives_what_was_read(caps: Capabilities) -> None:
    def same(found: Request) -> object:
        """But for what this model is told in other words."""
        kept = [message for message in found.messages if message.role != "system"]
        flat = [part for message in kept for part in message.parts if not isinstance(part, Text)]
        tools = [(tool.name, tool.raw) for tool in found.tools]
        return flat, tools, found.parallel, found.sampling.stop, found.limit, found.user, found.service_tier

    asked = laws.request_is_stable(DIALECT, BODY, caps, same)
    if caps is LATEST:
        tools = asked.canonical().tools
        tools[0].schema = {key: value for key, value in (tools[0].schema or {}).items() if key != "$schema"}

        def exactly(found: Request) -> object:
            extra = {name: value for name, value in found.extra.items() if not name.startswith("tools.")}
            return msgspec.structs.replace(found, extra=extra, tools=[])

        laws.request_is_stable(DIALECT, BODY, caps, exactly)


def test_documents_of_every_source_are_read() -> None:
    def document(source: dict[str, Any], **fields: Any) -> dict[str, Any]:
        return {"type": "document", "source": source, **fields}

    picture = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}
    content: list[Any] = [
        document({"type": "url", "url": "https://example.com/a.pdf"}, context="It is old."),
        document({"type": "file", "file_id": "file_1"}, title="T"),
        document({"type": "content", "content": "one piece"}),
        document({"type": "content", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}),
        document({"type": "content", "content": [{"type": "text", "text": "a"}, picture]}, title="Mixed"),
        document({"type": "url", "url": "data:application/pdf;base64,JVBERi0="}),
        document({"type": "hologram"}),
    ]
    [message] = read(messages=[{"role": "user", "content": content}]).canonical().messages
    assert message.parts == [
        Text(text="It is old."),
        Media(kind="document", url="https://example.com/a.pdf"),
        Media(kind="document", file="file_1", owner="anthropic", name="T"),
        Media(kind="document", text="one piece", mime="text/plain"),
        Media(kind="document", text="a\nb", mime="text/plain"),
        Text(text="Mixed"),
        Text(text="a"),
        Media(kind="image", mime="image/png", data=PNG),
        Media(kind="document", mime="application/pdf", data="JVBERi0="),
        Raw(owner="anthropic", label="document", value=content[6]),
    ]


def test_search_results_in_a_tool_s_result_are_text_for_everybody() -> None:
    block = {"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": "x"}]}
    result = {"type": "tool_result", "tool_use_id": "a", "content": [block]}
    [message] = read(messages=[{"role": "user", "content": [result]}]).canonical().messages
    assert message.parts == [ToolResult(call="a", parts=[Text(text="t\ns\nx")])]


def test_the_request_s_own_cache_mark_stands_for_one_at_its_end() -> None:
    found = read(cache_control={"type": "ephemeral"}, system="s").canonical()
    assert found.messages[-1].parts == [Text(text="hi", mark=Mark())]
    assert found.messages[0].parts == [Text(text="s")]


@pytest.mark.parametrize(
    ("fields", "thinking"),
    [
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, Thinking(budget=2048)),
        ({"thinking": {"type": "disabled"}}, Thinking(budget=0)),
        ({"thinking": {"type": "adaptive", "display": "omitted"}}, Thinking(adaptive=True, visible=False)),
        ({"thinking": {"type": "between_tools"}}, Thinking(adaptive=True)),
        ({"output_config": {"effort": "max"}}, Thinking(effort="max")),
        ({}, None),
    ],
)  # fmt: skip
def test_thinking_is_read(fields: dict[str, Any], thinking: Thinking | None) -> None:
    assert read(**fields).canonical().thinking == thinking


def test_the_old_name_of_the_format_is_understood() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string"}}}
    found = read(output_format={"type": "json_schema", "schema": schema}).canonical()
    assert found.format == Format(schema=schema, strict=True)
