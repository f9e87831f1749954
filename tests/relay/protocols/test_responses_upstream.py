"""What an upstream that speaks Responses is asked for."""

import json
from typing import Any

import msgspec
import pytest

from relay.protocols import capabilities, in_words, states
from relay.protocols.canonical import (
    Format,
    Media,
    Message,
    Opaque,
    Part,
    Raw,
    Reasoning,
    Request,
    Sampling,
    Text,
    Thinking,
    Tool,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from relay.protocols.responses import DIALECT
from tests.relay.protocols.openai_made import canonical
from tests.relay.protocols.responses_made import ask, encoded, refused

CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": False}
OPTIONAL = {**CLOSED, "required": []}


def said(*parts: Part, **fields: Any) -> Request:
    return Request(model="m", messages=[Message(role="user", parts=list(parts))], **fields)


def test_nothing_is_kept_upstream_and_the_state_of_thoughts_comes_back() -> None:
    body = encoded(said(Text(text="hi"))).body
    assert (body["store"], body["include"]) == (False, ["reasoning.encrypted_content"])
    assert "include" not in encoded(said(Text(text="hi")), "gpt-4o").body  # which has no thoughts, and refuses it


def test_a_system_message_alone_is_the_input_and_before_others_the_instructions() -> None:
    system = Message(role="system", parts=[Text(text="Say hello.")])
    item = {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "Say hello."}]}
    alone = encoded(Request(model="m", messages=[system])).body
    assert ("instructions" in alone, alone["input"]) == (False, [item])
    twice = encoded(Request(model="m", messages=[system, system])).body
    assert (twice["instructions"], twice["input"]) == ("Say hello.", [item])


@pytest.mark.parametrize(
    ("thinking", "owner", "expected"),
    [
        (Thinking(effort="high"), "openai", {"effort": "high"}),
        (Thinking(effort="max"), "openai", {"effort": "high"}),
        (Thinking(budget=3000), "anthropic", {"effort": "medium", "summary": "auto"}),
        (Thinking(budget=3000, visible=False), "anthropic", {"effort": "medium"}),
        (Thinking(adaptive=True), "anthropic", {"summary": "auto"}),
        (Thinking(budget=-1, visible=True), "gemini", {"summary": "auto"}),
        (Thinking(budget=0), "gemini", {"effort": "minimal"}),
    ],
)
def test_thinking_is_asked_for_as_near_as_the_model_has_it(
    thinking: Thinking, owner: Any, expected: dict[str, str]
) -> None:
    assert encoded(said(Text(text="hi"), thinking=thinking, owner=owner)).body["reasoning"] == expected


@pytest.mark.parametrize(
    ("model", "asked", "told"),
    [
        ("gpt-5.1", "xhigh", "high"), ("gpt-5.1-codex-max", "xhigh", "xhigh"), ("gpt-5.2", "max", "xhigh"),
        ("gpt-5-pro", "low", "high"), ("gpt-5.5-pro", "none", "medium"), ("gpt-5.5", "none", "none"),
        ("gpt-6-sol", "max", "max"), ("gpt-6-sol", "none", "none"), ("gpt-6.1-sol", "none", "low"),
        ("gpt-6-astra", "minimal", "low"),
    ],
)  # fmt: skip
def test_no_model_of_openai_s_is_told_a_level_that_it_would_refuse(model: str, asked: str, told: str) -> None:
    """400 "Unsupported value: 'xhigh' is not supported with the 'gpt-5.1' model." """
    body = encoded(said(Text(text="hi"), thinking=Thinking(effort=asked)), model).body
    assert body["reasoning"]["effort"] == told


def test_what_there_is_no_field_for_is_named_as_the_client_wrote_it() -> None:
    sampling = Sampling(temperature=0.2, top_p=0.9, top_k=40, seed=7, stop=["\n"], frequency_penalty=1.0, logprobs=2)
    names = {
        "openai": ["frequency_penalty", "logprobs", "seed", "stop", "temperature", "top_k", "top_p"],
        "anthropic": ["frequency_penalty", "logprobs", "seed", "stop_sequences", "temperature", "top_k", "top_p"],
        "gemini": ["frequencyPenalty", "responseLogprobs", "seed", "stopSequences", "temperature", "topK", "topP"],
    }
    for owner, expected in names.items():
        request = said(Text(text="hi"), sampling=sampling, owner=owner)
        assert sorted(encoded(request).losses) == expected
        plain = encoded(request, "gpt-4o")
        assert (plain.body["temperature"], plain.body["top_p"]) == (0.2, 0.9)
        assert "stop" not in plain.body
    assert encoded(said(Text(text="hi"), service_tier="flex", owner="gemini")).losses == ["serviceTier"]
    caps = msgspec.structs.replace(capabilities.of("gpt-5", "responses"), parallel_switch=False)
    request = said(Text(text="hi"), tools=[Tool(name="f")], parallel=False, owner="anthropic")
    theirs = DIALECT.encode_request(request, model="gpt-5", limit=None, caps=caps)
    assert theirs.losses == ["tool_choice.disable_parallel_tool_use"]


@pytest.mark.parametrize(("detail", "losses"), [("ultra_high", ["mediaResolution"]), ("high", []), (None, [])])
def test_a_word_for_the_resolution_that_openai_does_not_know_is_named_as_lost(
    detail: str | None, losses: list[str]
) -> None:
    found = encoded(said(Media(kind="image", mime="image/png", data="AAAA", detail=detail), owner="gemini"))
    [picture] = found.body["input"][0]["content"]
    assert (picture["detail"], found.losses) == ("high" if detail == "high" else "auto", losses)


@pytest.mark.parametrize("owner", ["openai", "responses", "anthropic"])
@pytest.mark.parametrize("user", ["alice@example.org", "u" * 65])
def test_who_the_user_is_goes_to_nobody_and_the_same_one_stays_the_same(owner: Any, user: str) -> None:
    first, again = (encoded(said(Text(text="hi"), owner=owner, user=user)) for _ in range(2))
    assert user not in json.dumps(first.body)
    assert (first.body["user"], first.losses) == (again.body["user"], [])
    assert encoded(said(Text(text="hi"), owner=owner, user="u-1")).body["user"] == "u-1"


def test_a_participant_s_name_is_named_as_lost() -> None:
    found = encoded(Request(model="m", messages=[Message(role="user", parts=[Text(text="hi")], name="bob")]))
    assert (found.losses, "bob" in json.dumps(found.body)) == (["name"], False)


def test_a_tool_is_not_made_strict_because_it_says_nothing() -> None:
    tools = [Tool(name="f"), Tool(name="g", schema=CLOSED, strict=True)]
    found = encoded(said(Text(text="hi"), tools=tools)).body["tools"]
    assert [(tool["name"], tool["strict"]) for tool in found] == [("f", False), ("g", True)]


@pytest.mark.parametrize(
    ("owner", "names"),
    [
        ("anthropic", ["output_config.format", "tools.strict"]),
        ("gemini", ["responseSchema", "toolConfig"]),
        ("openai", ["response_format", "strict"]),
    ],
)
def test_strict_is_asked_only_of_schemas_that_allow_it(owner: Any, names: list[str]) -> None:
    tools = [Tool(name="f", schema=CLOSED, strict=True), Tool(name="g", schema=OPTIONAL, strict=True)]
    form = Format(schema=OPTIONAL, strict=True)
    found = encoded(said(Text(text="hi"), owner=owner, tools=tools, format=form))
    assert [(tool["strict"], tool["parameters"]) for tool in found.body["tools"]] == [(True, CLOSED), (False, OPTIONAL)]
    assert (found.body["text"]["format"]["strict"], found.body["text"]["format"]["schema"]) == (False, OPTIONAL)
    assert sorted(found.losses) == names
    fitting = encoded(said(Text(text="hi"), owner=owner, tools=tools[:1], format=Format(schema=CLOSED, strict=True)))
    assert (fitting.body["text"]["format"]["strict"], fitting.losses) == (True, [])


def test_a_tool_without_arguments_can_be_strict() -> None:
    tool = Tool(name="f", schema={"type": "object", "additionalProperties": False}, strict=True)
    [found] = encoded(said(Text(text="hi"), tools=[tool])).body["tools"]
    assert (found["strict"], found["parameters"]["properties"]) == (True, {})


def test_a_schema_of_another_vendor_s_client_binds_where_it_can() -> None:
    half_open = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}
    form = encoded(said(Text(text="hi"), owner="gemini", format=Format(schema=half_open))).body["text"]["format"]
    assert (form["strict"], form["schema"]) == (True, {**half_open, "additionalProperties": False})
    loose = encoded(said(Text(text="hi"), owner="gemini", format=Format(schema=OPTIONAL)))
    assert (loose.body["text"]["format"]["strict"], loose.body["text"]["format"]["schema"]) == (False, OPTIONAL)
    own = encoded(said(Text(text="hi"), format=Format(schema=half_open)))
    assert ("strict" in own.body["text"]["format"], own.body["text"]["format"]["schema"]) == (False, half_open)
    assert loose.losses == own.losses == []


def system(text: str) -> Message:
    return Message(role="system", parts=[Text(text=text)])


def item(text: str, role: str = "system") -> dict[str, Any]:
    return {"type": "message", "role": role, "content": [{"type": "input_text", "text": text}]}


@pytest.mark.parametrize(
    ("owner", "first", "said", "instructions", "input_"),
    [
        ("gemini", "Be brief.", "Colours", "Be brief.", [item(in_words.ONLY_JSON), item("Colours", "user")]),
        ("gemini", "Be brief.", "Colours as JSON", "Be brief.", [item("Colours as JSON", "user")]),
        ("gemini", "Write JSON.", "Colours", None, [item("Write JSON."), item("Colours", "user")]),
        ("openai", "Write JSON.", "Colours", None, [item("Write JSON."), item("Colours", "user")]),
        ("openai", "Be brief.", "Colours", "Be brief.", [item("Colours", "user")]),
    ],
)
def test_json_mode_has_its_word_in_the_input(
    owner: Any, first: str, said: str, instructions: str | None, input_: list[Any]
) -> None:
    """OpenAI refuses it otherwise, and does not look for it in the instructions. Its own clients say it themselves."""
    user = Message(role="user", parts=[Text(text=said)])
    found = encoded(Request(model="m", messages=[system(first), user], owner=owner, format=Format()), "gpt-4o").body
    assert found["text"] == {"format": {"type": "json_object"}}
    assert (found.get("instructions"), found["input"]) == (instructions, input_)


def test_a_schema_that_a_model_cannot_be_bound_to_is_told_in_words() -> None:
    found = encoded(said(Text(text="x"), owner="openai", format=Format(schema=CLOSED)), "gpt-4-turbo")
    told = found.body["input"][0]["content"][0]["text"]
    assert told.startswith(in_words.ONLY_JSON_OF)
    assert json.loads(told.removeprefix(in_words.ONLY_JSON_OF)) == CLOSED
    assert (found.body["text"], found.losses) == ({"format": {"type": "json_object"}}, ["response_format"])


def test_a_long_name_is_shortened_everywhere_and_found_again() -> None:
    """Pitfalls 16, 17: names and ids from elsewhere that are longer than OpenAI takes."""
    name, call = "mcp__" + "x" * 90, "toolu_" + "y" * 90
    request = Request(
        model="m",
        messages=[
            Message(role="user", parts=[Text(text="hi")]),
            Message(role="assistant", parts=[ToolCall(id=call, name=name, arguments="")]),
            Message(role="user", parts=[ToolResult(call=call, parts=[Text(text="ok")])]),
        ],
        tools=[Tool(name=name)],
        choice=ToolChoice(mode="tool", names=[name]),
    )
    sent = encoded(request)
    short = sent.body["tools"][0]["name"]
    assert len(short) <= 64
    assert sent.names == {short: name}
    assert sent.body["tool_choice"] == {"type": "function", "name": short}
    _, function_call, output = sent.body["input"]
    assert (function_call["name"], function_call["arguments"]) == (short, "{}")
    assert len(function_call["call_id"]) <= 64
    assert function_call["call_id"] == output["call_id"]


def test_calls_without_results_and_results_without_calls_are_mended() -> None:
    """Pitfall 20."""
    request = Request(
        model="m",
        messages=[
            Message(role="assistant", parts=[ToolCall(id="a", name="f", arguments="{}")]),
            Message(role="user", parts=[ToolResult(call="b", parts=[Text(text="lost")]), Text(text="on")]),
        ],
    )
    items = encoded(request).body["input"]
    assert [item["type"] for item in items] == ["function_call", "function_call_output", "message"]
    assert items[1]["call_id"] == "a"
    assert "lost" in json.dumps(items[2])


def test_a_call_without_a_result_changes_nothing_of_the_others() -> None:
    """They are paired by their ids, wherever they stand; the prefix is cached as long as it stays the same."""
    calls = Message(role="assistant", parts=[ToolCall(id="a", name="f"), ToolCall(id="b", name="f")])
    between = [
        Message(role="user", parts=[ToolResult(call="a", parts=[Text(text="A")])]),
        Message(role="system", parts=[Text(text="s")]),
        Message(role="user", parts=[ToolResult(call="b", parts=[Text(text="B")])]),
        Message(role="user", parts=[Text(text="one")]), Message(role="user", parts=[Text(text="two")]),
    ]  # fmt: skip
    sound = encoded(Request(model="m", messages=[calls, *between])).body["input"]
    cut = [Message(role="assistant", parts=[ToolCall(id="c", name="f")]), Message(role="user", parts=[Text(text="on")])]
    before, after = (
        encoded(Request(model="m", messages=messages)).body["input"]
        for messages in ([*cut, calls, *between], [calls, *between, *cut])
    )
    assert (before[-len(sound) :], after[: len(sound)]) == (sound, sound)
    assert [item.get("call_id") for item in before[:3]] == ["c", "c", None]
    assert [item.get("call_id") for item in after[len(sound) :]] == ["c", "c", None]


def test_a_picture_in_a_tool_s_result_is_not_dropped() -> None:
    """Pitfall 22."""
    request = Request(
        model="m",
        messages=[
            Message(role="assistant", parts=[ToolCall(id="a", name="f")]),
            Message(
                role="user",
                parts=[ToolResult(call="a", failed=True, parts=[Media(kind="image", mime="image/png", data="aGk=")])],
            ),
        ],
    )
    output = encoded(request).body["input"][1]["output"]
    assert output == [
        {"type": "input_text", "text": "Error: "},
        {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,aGk="},
    ]


def test_a_picture_in_a_result_without_its_call_stands_where_it_was_said() -> None:
    picture = Media(kind="image", mime="image/png", data="aGk=")
    lost = ToolResult(call="gone", parts=[Text(text="see"), picture])
    [item] = encoded(said(Text(text="a"), lost, Text(text="b"))).body["input"]
    assert [part["type"] for part in item["content"]] == [
        "input_text", "input_text", "input_image", "input_text", "input_text",
    ]  # fmt: skip
    assert item["content"][2]["image_url"] == "data:image/png;base64,aGk="


def test_only_openai_s_own_state_goes_to_openai_and_byte_for_byte() -> None:
    """Pitfalls 14, 15, 18."""
    thoughts: list[Part] = [
        Reasoning(text="mine", summary=True, state=Opaque("openai", "gAAA==", "rs_1")),
        Reasoning(text="theirs", state=Opaque("anthropic", "sig")),
        Reasoning(redacted=True, state=Opaque("anthropic", "data")),
        Reasoning(text="nobody's"),
        ToolCall(id="c", name="f", arguments="{}", state=Opaque("gemini", "sig")),
    ]
    request = Request(
        model="m",
        messages=[
            Message(role="assistant", parts=thoughts),
            Message(role="user", parts=[ToolResult(call="c", parts=[Text(text="ok")])]),
        ],
    )
    items = encoded(request).body["input"]
    assert [item["type"] for item in items] == ["reasoning", "function_call", "function_call_output"]
    assert items[0] == {
        "type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "mine"}],
        "encrypted_content": "gAAA==",
    }  # fmt: skip
    assert "sig" not in json.dumps(items)


def test_another_vendor_s_thoughts_do_not_pass_to_openai_and_its_own_do() -> None:
    """Pitfall 18, for a conversation that changes its upstream and is not translated."""
    foreign = states.wrapped(Opaque("anthropic", "sig"), native="openai")
    moved = states.wrapped(Opaque("openai", "gAAA==", "rs_up"), native="anthropic")
    ours = f"rs_{'0' * 32}_0"
    items = [
        {"role": "user", "content": "hi"},
        {"type": "reasoning", "id": ours, "summary": [], "encrypted_content": foreign},
        {"type": "reasoning", "id": ours, "summary": [{"type": "summary_text", "text": "x"}]},
        {"type": "reasoning", "id": ours, "summary": [], "encrypted_content": moved},
        {"type": "reasoning", "id": "rs_theirs", "summary": []},
    ]
    sent = json.loads(ask(input=items).encode(model="m", limit=None))["input"]
    assert sent == [
        items[0],
        {"type": "reasoning", "id": "rs_up", "summary": [], "encrypted_content": "gAAA=="},
        items[4],
    ]


@pytest.mark.parametrize(
    "part",
    [
        Raw(owner="anthropic", label="server_tool_use", value={}),
        Raw(owner="openai", label="image_url", value={"type": "image_url", "image_url": None}),
        Raw(owner="openai", label="input_text", value={"type": "input_text"}),
        Media(kind="image", file="file_1", owner="anthropic"),
        Media(kind="video", mime="video/mp4", data="aGk="),
        Media(kind="audio", mime="audio/wav", data="aGk="),
    ],
)
def test_what_the_model_cannot_be_shown_is_refused_and_not_dropped(part: Part) -> None:
    error = refused(encoded, said(part))
    assert (error.status, error.param) == (400, "messages")


def test_a_tool_that_another_vendor_runs_is_refused_by_its_name() -> None:
    tool = Tool(name="web_search", raw=Raw(owner="anthropic", label="web_search_20250305", value={}))
    error = refused(encoded, said(Text(text="hi"), tools=[tool]))
    assert "web_search_20250305" in error.message


def test_the_web_search_of_a_chat_client_is_the_tool_of_that_name() -> None:
    place = {"city": "Oslo", "country": "NO"}
    options = {"search_context_size": "low", "user_location": {"type": "approximate", "approximate": place}}
    assert encoded(canonical(web_search_options=options)).body["tools"] == [
        {"type": "web_search", "search_context_size": "low", "user_location": {"type": "approximate", **place}}
    ]
    assert encoded(canonical(web_search_options={})).body["tools"] == [{"type": "web_search"}]
    assert encoded(canonical(web_search_options={"type": "mcp"})).body["tools"] == [{"type": "web_search"}]


@pytest.mark.parametrize(
    "part", [{"type": "image_url", "image_url": None}, {"type": "text"}, {"type": "input_thought", "thought": "t"}]
)
def test_a_part_of_a_chat_message_that_means_nothing_is_refused_and_becomes_no_item(part: dict[str, Any]) -> None:
    error = refused(encoded, canonical(messages=[{"role": "user", "content": [part, {"type": "text", "text": "x"}]}]))
    assert (error.status, f"`{part['type']}`" in error.message) == (400, True)


def test_what_a_model_did_by_itself_elsewhere_is_passed_over_by_name() -> None:
    spoken = {"role": "assistant", "content": "Hi.", "audio": {"id": "audio_1"}}
    user = {"role": "user", "content": "x"}
    sent = encoded(canonical(messages=[user, spoken, user]))
    assert ([item["type"] for item in sent.body["input"]], sent.losses) == (["message"] * 3, ["audio"])
    silent = encoded(canonical(messages=[user, {**spoken, "content": None}, user]))
    assert [item["role"] for item in silent.body["input"]] == ["user", "user"]


def test_a_model_without_custom_tools_gets_functions_and_only_those_that_may_be_called() -> None:
    """Pitfall 36, for older models of the same protocol."""
    request = Request(
        model="m",
        messages=[
            Message(role="user", parts=[Text(text="hi")]),
            Message(role="assistant", parts=[ToolCall(id="c", name="patch", arguments="*** x", custom=True)]),
            Message(role="user", parts=[ToolResult(call="c", parts=[Text(text="ok")], custom=True)]),
        ],
        tools=[Tool(name="patch", custom=True), Tool(name="f")],
        choice=ToolChoice(mode="any", names=["patch"]),
        verbosity="low",
    )
    sent = encoded(request, "gpt-4.1")
    assert [(tool["type"], tool["name"]) for tool in sent.body["tools"]] == [("function", "patch")]
    assert (sent.customs, sent.body["tool_choice"], sent.losses) == (frozenset(["patch"]), "required", ["verbosity"])
    assert sent.body["input"][1]["arguments"] == '{"input":"*** x"}'
    assert sent.body["input"][2]["type"] == "function_call_output"
    native = encoded(request)
    assert (native.customs, native.body["tool_choice"]["type"]) == (frozenset(), "allowed_tools")


def test_documents_go_as_files() -> None:
    request = said(
        Media(kind="document", mime="application/pdf", data="JVBE", name="a.pdf"),
        Media(kind="document", url="https://example.org/a.pdf"),
        Media(kind="document", text="plain"),
        Media(kind="document", file="file-1", owner="openai"),
    )
    content = encoded(request).body["input"][0]["content"]
    assert content == [
        {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,JVBE"},
        {"type": "input_file", "file_url": "https://example.org/a.pdf"},
        {"type": "input_file", "filename": "document.txt", "file_data": "data:text/plain;base64,cGxhaW4="},
        {"type": "input_file", "file_id": "file-1"},
    ]


@pytest.mark.parametrize(
    ("mime", "name"),
    [
        ("text/plain", "document.txt"),
        ("text/csv", "document.csv"),
        ("text/html; charset=utf-8", "document.html"),
        ("text/x-unheard-of", "document.txt"),
        ("application/json", "document.json"),
        ("application/pdf", "document.pdf"),
        ("", "document.pdf"),
        ("application/x-unheard-of", "document.bin"),
    ],
)
def test_a_file_without_a_name_is_called_by_its_type(mime: str, name: str) -> None:
    """OpenAI tells by the ending what a file is."""
    file = said(Media(kind="document", mime=mime, data="YSxi"))
    [part] = encoded(file).body["input"][0]["content"]
    assert part["filename"] == name
