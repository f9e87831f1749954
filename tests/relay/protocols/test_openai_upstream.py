"""What an OpenAI upstream is asked for, by what it can do."""

import itertools
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relay.errors import Cause, RelayError
from relay.protocols import capabilities, fold, in_words, translating
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
from relay.protocols.capabilities import Capabilities
from relay.protocols.codec import Encoded
from relay.protocols.events import PartDelta
from relay.protocols.openai import DIALECT
from tests.relay.protocols import laws
from tests.relay.protocols.openai_made import ANY, PISCES, asked, canonical, sent, whole, wire


def of(*messages: Message, **fields: Any) -> Request:
    return Request(model="m", messages=list(messages), **fields)


def user(*parts: Part | str) -> Message:
    return Message(role="user", parts=[Text(text=part) if isinstance(part, str) else part for part in parts])


def model(*parts: Part | str) -> Message:
    return Message(role="assistant", parts=[Text(text=part) if isinstance(part, str) else part for part in parts])


def test_pictures_in_a_tool_s_result_follow_as_the_user_s() -> None:
    """Pitfall 22: they are neither dropped nor sent where they are refused."""
    picture = Media(kind="image", mime="image/png", data="AAAA")
    request = of(
        user("x"),
        model(ToolCall(id="a", name="f"), ToolCall(id="b", name="f")),
        user(
            ToolResult(call="a", parts=[Text(text="see"), picture]), ToolResult(call="b", parts=[Text(text="2")]), "so?"
        ),
    )
    messages = sent(request).body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "tool", "user"]
    assert [part["type"] for part in messages[4]["content"]] == ["text", "image_url", "text"]
    assert "call a" in messages[4]["content"][0]["text"]
    assert all("image_url" not in json.dumps(message) for message in messages[2:4])
    kept = sent(request, msgspec.structs.replace(ANY, result_media=True)).body["messages"]
    assert [part["type"] for part in kept[2]["content"]] == ["text", "image_url"]


def test_a_tool_s_failure_is_told_in_words() -> None:
    result = ToolResult(call="a", parts=[Text(text="no such file")], failed=True)
    messages = sent(of(user("x"), model(ToolCall(id="a", name="f")), user(result))).body["messages"]
    assert messages[2]["content"] == "Error: no such file"
    assert result.parts == [Text(text="no such file")]


def test_every_call_is_answered_and_no_result_is_without_its_call() -> None:
    """Pitfall 20: histories that clients have cut."""
    cut = of(user("x"), model(ToolCall(id="a", name="f"), ToolCall(id="b", name="f")), user("never mind"))
    messages = sent(cut).body["messages"]
    assert [message.get("tool_call_id") for message in messages] == [None, None, "a", "b", None]
    orphan = sent(of(user(ToolResult(call="gone", parts=[Text(text="42")])), user("so?"))).body["messages"]
    assert [message["role"] for message in orphan] == ["user", "user"]
    assert "42" in orphan[0]["content"]
    picture = Media(kind="image", mime="image/png", data="AAAA")
    [shown] = sent(of(user("x", ToolResult(call="gone", parts=[picture]), "so?"))).body["messages"]
    assert [part["type"] for part in shown["content"]] == ["text", "text", "image_url", "text", "text"]


def test_results_reach_their_calls_wherever_the_system_speaks() -> None:
    """Nothing may stand between calls and their results."""
    system = Message(role="system", parts=[Text(text="s")])
    one, two = (user(ToolResult(call=call, parts=[Text(text=call)])) for call in "ab")
    calls = model(ToolCall(id="a", name="f"), ToolCall(id="b", name="f"))
    for since in ([one, system, two], [system, system, two, one], [system, user("and"), one, two]):
        found = sent(of(user("x"), calls, *since)).body["messages"][2:]
        assert [message.get("tool_call_id") for message in found[:2]] == ["a", "b"]
        assert [message["content"] for message in found[:2]] == ["a", "b"]
        others = [message.role for message in since if message is not one and message is not two]
        assert [message["role"] for message in found[2:]] == others


def test_calls_in_two_turns_of_the_model_are_answered_together() -> None:
    """As clients of Anthropic's may write parallel calls: neighbours of one role are one turn there."""
    one, two = model(ToolCall(id="a", name="f")), model("and", ToolCall(id="b", name="f"))
    results = user(ToolResult(call="a", parts=[Text(text="A")]), ToolResult(call="b", parts=[Text(text="B")]))
    request = of(user("x"), model("first"), one, two, results, model("y"), model("z"))
    messages = sent(request).body["messages"]
    assert [message["role"] for message in messages] == [
        "user", "assistant", "assistant", "tool", "tool", "assistant", "assistant",
    ]  # fmt: skip
    assert [call["id"] for call in messages[2]["tool_calls"]] == ["a", "b"]
    assert messages[2]["content"] == "and"
    assert {message["tool_call_id"]: message["content"] for message in messages[3:5]} == {"a": "A", "b": "B"}
    assert len(one.parts) == 1


def test_what_a_later_system_turn_shows_is_kept_where_the_model_knows_none() -> None:
    shown = Message(role="system", parts=[Text(text="s"), Media(kind="image", mime="image/png", data="AAAA")])
    found = sent(of(user("x"), model("y"), shown), msgspec.structs.replace(ANY, mid_system=False)).body["messages"][2]
    assert (found["role"], [part["type"] for part in found["content"]]) == ("user", ["text", "image_url"])


def test_long_ids_and_names_are_shortened_the_same_way_each_time_and_back() -> None:
    """Pitfalls 15, 16 and 17."""
    long_id, long_name = "call_x__thought__" + "Q" * 900, "mcp__server__" + "very_" * 20 + "long"
    request = of(
        user("x"),
        model(ToolCall(id=long_id, name=long_name, arguments="{}")),
        user(ToolResult(call=long_id, parts=[Text(text="1")])),
        tools=[Tool(name=long_name)],
        choice=ToolChoice(mode="tool", names=[long_name]),
    )
    encoded = sent(request)
    call, result = encoded.body["messages"][1]["tool_calls"][0], encoded.body["messages"][2]
    assert call["id"] == result["tool_call_id"]
    assert len(call["id"]) <= 40
    name = call["function"]["name"]
    assert len(name) <= 64
    assert encoded.body["tools"][0]["function"]["name"] == encoded.body["tool_choice"]["function"]["name"] == name
    assert encoded.names == {name: long_name}
    assert encoded.body == sent(request).body  # pitfall 44: the prefix stays the same


def test_foreign_thoughts_and_signatures_stay_at_home() -> None:
    """Pitfall 18."""
    thoughts: list[Part] = [
        Reasoning(text="foreign", state=Opaque("anthropic", "c2ln")),
        Reasoning(text="own"),
        Reasoning(state=Opaque("anthropic", "ZW5j"), redacted=True),
    ]
    call = ToolCall(id="a", name="f", arguments="{}", state=Opaque("anthropic", "eA"))
    request = of(user("x"), model(*thoughts, call))
    message = sent(request, msgspec.structs.replace(ANY, thoughts="extra_content")).body["messages"][1]
    assert message.keys() == {"role", "content", "tool_calls"}
    assert "extra_content" not in message["tool_calls"][0]
    assert sent(request).body["messages"][1]["reasoning_content"] == "own"
    assert "reasoning_content" not in sent(request, Capabilities()).body["messages"][1]


def test_gemini_s_signatures_go_back_to_gemini() -> None:
    """Pitfall 14."""
    call = ToolCall(id="a", name="f", arguments="{}", state=Opaque("gemini", "Z3Nn"))
    caps = capabilities.of("gemini-3-pro-preview", "openai")
    written = sent(of(user("x"), model(call)), caps).body["messages"][1]["tool_calls"][0]
    assert written["extra_content"] == {"google": {"thought_signature": "Z3Nn"}}
    foreign = [ToolCall(id=name, name="f", arguments="{}", state=Opaque("anthropic", "eA")) for name in "ab"]
    first, second = sent(of(user("x"), model(*foreign)), caps).body["messages"][1]["tool_calls"]
    assert first["extra_content"] == {"google": {"thought_signature": "skip_thought_signature_validator"}}
    assert "extra_content" not in second
    assert "extra_content" not in sent(of(user("x"), model(call))).body["messages"][1]["tool_calls"][0]


def test_tools_are_never_an_empty_list_and_a_choice_never_alone() -> None:
    body = sent(of(user("x"), choice=ToolChoice(mode="none"), parallel=False)).body
    assert not body.keys() & {"tools", "tool_choice", "parallel_tool_calls"}


def test_tools_with_free_text_become_functions_where_there_are_none() -> None:
    """Pitfall 36."""
    grammar = {"type": "grammar", "syntax": "lark", "definition": "start: X"}
    tool = Tool(name="apply_patch", description="Edits.", custom=True, format=grammar)
    history = [user("x"), model(ToolCall(id="a", name="apply_patch", arguments="*** x", custom=True))]
    own = sent(of(*history, tools=[tool])).body
    assert own["tools"][0]["custom"]["format"] == {
        "type": "grammar",
        "grammar": {"syntax": "lark", "definition": "start: X"},
    }
    assert own["messages"][1]["tool_calls"][0]["custom"] == {"name": "apply_patch", "input": "*** x"}
    encoded = sent(of(*history, tools=[tool]), Capabilities())
    assert encoded.customs == frozenset({"apply_patch"})
    assert "start: X" in encoded.body["tools"][0]["function"]["description"]
    assert json.loads(encoded.body["messages"][1]["tool_calls"][0]["function"]["arguments"]) == {"input": "*** x"}


def test_strict_is_asked_only_of_schemas_that_allow_it() -> None:
    closed = {
        "type": "object",
        "properties": {"x": {"type": "string"}},
        "required": ["x"],
        "additionalProperties": False,
    }
    loose = {"type": "object", "properties": {"x": {"type": "string"}}}
    encoded = sent(
        of(user("x"), tools=[Tool(name="f", schema=closed, strict=True), Tool(name="g", schema=loose, strict=True)])
    )
    assert [tool["function"].get("strict") for tool in encoded.body["tools"]] == [True, None]
    assert encoded.losses == ["strict"]


def test_a_schema_of_another_vendor_s_client_binds_where_it_can() -> None:
    open_schema = {"type": "object", "properties": {"x": {"type": "string"}}, "required": ["x"]}
    wanted = Format(schema=open_schema)
    found = sent(of(user("x"), owner="anthropic", format=wanted)).body["response_format"]["json_schema"]
    assert (found["name"], found["strict"], found["schema"]["additionalProperties"]) == ("answer", True, False)
    assert "additionalProperties" not in open_schema
    loose = Format(schema={"type": "object", "properties": {"x": {}}})
    assert "strict" not in sent(of(user("x"), owner="gemini", format=loose)).body["response_format"]["json_schema"]


def test_a_format_that_cannot_be_strict_is_named_by_itself_and_not_as_a_tool() -> None:
    optional = {"type": "object", "properties": {"x": {"type": "string"}}, "additionalProperties": False}
    encoded = sent(of(user("x"), owner="anthropic", format=Format(schema=optional, strict=True)))
    found = encoded.body["response_format"]["json_schema"]
    assert (found["strict"], found["schema"], encoded.losses) == (False, optional, ["output_config.format"])


def test_a_schema_that_a_model_cannot_be_bound_to_is_told_in_words() -> None:
    caps = capabilities.of("deepseek-chat", "openai")
    encoded = sent(of(user("x"), format=Format(schema={"type": "object"})), caps)
    assert encoded.body["response_format"] == {"type": "json_object"}
    assert '"type":"object"' in encoded.body["messages"][0]["content"]
    assert encoded.losses == ["response_format"]


@pytest.mark.parametrize(
    ("owner", "said", "told"),
    [
        ("gemini", "Three colours", True),
        ("gemini", "Three colours, as json", False),
        ("openai", "Three colours", False),
    ],
)
def test_json_mode_is_asked_for_with_its_word_where_nobody_has_said_it(owner: Any, said: str, told: bool) -> None:
    """OpenAI refuses it otherwise. Its own clients know that, and are left alone."""
    encoded = sent(of(user(said), model("JSON?"), user("go on"), owner=owner, format=Format()))
    assert encoded.body["response_format"] == {"type": "json_object"}
    first = {"role": "system", "content": in_words.ONLY_JSON}
    assert (encoded.body["messages"][0] == first, encoded.losses) == (told, [])


def test_json_is_asked_for_in_words_where_tools_stand_in_its_way() -> None:
    caps = capabilities.of("gemini-2.5-pro", "openai")
    encoded = sent(of(user("x"), owner="openai", format=Format(), tools=[Tool(name="f")]), caps)
    assert encoded.body["messages"][0] == {"role": "system", "content": in_words.ONLY_JSON}
    assert ("response_format" in encoded.body, encoded.losses) == (False, ["response_format"])


def test_models_that_reason_get_the_new_limit_and_no_sampling() -> None:
    """Requirement B9."""
    sampling = Sampling(temperature=0.5, top_p=1, frequency_penalty=1, seed=1, stop=["x"], logprobs=2, top_k=5)
    request = of(user("x"), sampling=sampling, limit=100, thinking=Thinking(effort="xhigh"))
    encoded = sent(request, capabilities.of("o3", "openai"))
    assert encoded.body["max_completion_tokens"] == 100
    assert encoded.body["reasoning_effort"] == "high"
    assert "max_tokens" not in encoded.body
    assert encoded.losses == ["temperature", "top_k", "frequency_penalty", "logprobs", "stop", "reasoning_effort"]
    assert sent(request, limit=7).body["max_tokens"] == 7


@pytest.mark.parametrize(
    ("wanted", "levels", "told_as"),
    [
        (Thinking(effort="medium"), ("low", "high"), "high"),
        (Thinking(effort="minimal"), ("none", "low", "high"), "low"),
        (Thinking(effort="none"), ("low", "high"), "low"),
        (Thinking(effort="max"), ("none", "low", "xhigh"), "xhigh"),
        (Thinking(budget=0), ("none", "low"), "none"),
        (Thinking(budget=3000), ("low", "medium", "high"), "medium"),
        (Thinking(adaptive=True), ("low",), None),
    ],
)
def test_an_effort_is_the_nearest_that_the_model_has(
    wanted: Thinking, levels: tuple[str, ...], told_as: str | None
) -> None:
    caps = Capabilities(thinking="effort", efforts=levels)
    assert sent(of(user("x"), thinking=wanted), caps).body.get("reasoning_effort") == told_as


@pytest.mark.parametrize(
    "model", ["grok-4", "grok-4.3", "grok-3-mini", "grok-code-fast-1", "x-ai/grok-4-fast-reasoning"]
)
def test_a_grok_that_thinks_is_sent_neither_stops_nor_penalties(model: str) -> None:
    """xAI, "Reasoning": each of the three is refused by models that reason."""
    sampling = Sampling(temperature=0.5, stop=["x"], frequency_penalty=1.0, presence_penalty=1.0)
    found = sent(of(user("x"), sampling=sampling), capabilities.of(model, "openai"))
    assert found.body.keys() & {"temperature", "stop", "frequency_penalty", "presence_penalty"} == {"temperature"}
    assert found.losses == ["frequency_penalty", "presence_penalty", "stop"]
    plain = sent(of(user("x"), sampling=sampling), capabilities.of("grok-4-fast-non-reasoning", "openai"))
    assert (plain.body["stop"], plain.losses) == (["x"], [])


@pytest.mark.parametrize("model", ["kimi-k2.5", "kimi-k2.7-code", "kimi-k3.1-pro", "moonshotai/kimi-k3"])
def test_a_kimi_whose_sampling_is_fixed_is_sent_none(model: str) -> None:
    sampling = Sampling(temperature=0.5, top_p=0.9, presence_penalty=1.0)
    caps = capabilities.of(model, "openai")
    found = sent(of(user("x"), sampling=sampling), caps)
    assert not found.body.keys() & {"temperature", "top_p", "presence_penalty"}
    assert (sorted(found.losses), caps.thoughts) == (["presence_penalty", "temperature", "top_p"], "reasoning_content")
    plain = sent(of(user("x"), sampling=sampling), capabilities.of("moonshot-v1-128k", "openai"))
    assert (plain.body["temperature"], plain.body["top_p"]) == (0.5, 0.9)


@pytest.mark.parametrize(
    ("model", "streams"),
    [
        ("qwq-plus", "only"), ("qvq-max", "only"), ("qwen-omni-turbo", "only"), ("qwen2.5-omni-7b", "only"),
        ("Qwen/Qwen3-Omni-30B-A3B-Instruct", "only"), ("qwen3.5-omni-plus", "only"), ("qwen3-max", "any"),
    ],
)  # fmt: skip
def test_models_that_alibaba_serves_as_streams_alone_are_asked_for_streams(model: str, streams: str) -> None:
    """400 "This model only support stream mode" otherwise."""
    assert capabilities.of(model, "openai").streams == streams


def test_what_a_model_cannot_take_in_is_refused_and_never_dropped() -> None:
    """Requirement B14."""
    text_only = capabilities.of("deepseek-chat", "openai")
    refused: list[tuple[Part, Capabilities]] = [
        (Media(kind="image", url="https://p.example/1.png"), text_only),
        (Media(kind="audio", mime="audio/wav", data="AAAA"), capabilities.of("gpt-4o", "openai")),
        (Media(kind="video", url="https://p.example/1.mp4"), capabilities.of("gpt-4o", "openai")),
        (Media(kind="document", url="https://p.example/1.pdf"), capabilities.of("gpt-4o", "openai")),
        (Media(kind="image", url="https://p.example/1.png"), capabilities.of("gemini-2.5-pro", "openai")),
        (Media(kind="document", file="files/x", owner="gemini"), ANY),
        (Raw(owner="anthropic", label="search_result", value={}), ANY),
    ]
    for part, caps in refused:
        with pytest.raises(RelayError) as error:
            sent(of(user(part)), caps)
        assert (error.value.cause, error.value.param) == (Cause.INVALID_MESSAGES, "messages")
    hosted = Tool(name="web_search", raw=Raw(owner="anthropic", label="web_search_20250305", value={}))
    with pytest.raises(RelayError) as error:
        sent(of(user("x"), tools=[hosted]))
    assert error.value.param == "tools"
    assert "web_search_20250305" in error.value.message


def test_what_another_model_did_by_itself_is_passed_over_by_name() -> None:
    deeds = [
        Raw(owner="anthropic", label="server_tool_use", value={}),
        Raw(owner="responses", label="web_search_call", value={}),
        Raw(owner="responses", label="audio", value={"type": "audio", "id": "audio_1"}),
    ]
    found = sent(of(user("x"), model(*deeds, "y"), user("z"), model(deeds[0]), user("and?")))
    assert [message["content"] for message in found.body["messages"]] == ["x", "y", "z", "and?"]
    assert found.losses == ["server_tool_use", "web_search_call", "audio"]
    assert "audio" not in found.body["messages"][1]
    own = sent(canonical(messages=[{"role": "assistant", "audio": {"id": "audio_1"}}]))
    assert (own.body["messages"][0]["audio"], own.losses) == ({"id": "audio_1"}, [])
    with pytest.raises(RelayError) as error:
        sent(of(model(deeds[0])))
    assert error.value.cause is Cause.INVALID_MESSAGES
    tool = Tool(name="w", raw=Raw(owner="responses", label="web_search_options", value={"type": "web_search_options"}))
    with pytest.raises(RelayError) as error:
        sent(of(user("x"), tools=[tool]))
    assert error.value.param == "tools"


@pytest.mark.parametrize("mime", ["text/plain", "text/csv; charset=utf-8", "text/html", "application/json"])
@pytest.mark.parametrize("caps", [ANY, capabilities.of("gpt-4o", "openai"), capabilities.of("deepseek-chat", "openai")])
def test_a_text_file_is_read_to_the_model(mime: str, caps: Capabilities) -> None:
    """PROTOCOLS 2.2: files are PDFs on this wire, where a model takes any."""
    file = Media(kind="document", mime=mime, data="aGVsbG8=", name="a.txt")
    content = sent(of(user(file)), caps).body["messages"][0]["content"]
    assert content == '<document name="a.txt">\nhello\n</document>'


def test_a_pdf_is_sent_as_a_file_with_a_name() -> None:
    [file] = sent(of(user(Media(kind="document", mime="application/pdf", data="JVBE")))).body["messages"][0]["content"]
    assert file["file"] == {"filename": "document.pdf", "file_data": "data:application/pdf;base64,JVBE"}


@pytest.mark.parametrize(("detail", "losses"), [("medium", ["mediaResolution"]), ("low", []), ("auto", [])])
def test_a_word_for_the_resolution_that_openai_does_not_know_is_named_as_lost(detail: str, losses: list[str]) -> None:
    picture = Media(kind="image", mime="image/png", data="AAAA", detail=detail)
    encoded = sent(of(user(picture), owner="gemini"))
    [link] = encoded.body["messages"][0]["content"]
    assert (link["image_url"].get("detail"), encoded.losses) == (None if losses else detail, losses)


def test_cache_marks_go_to_models_that_know_them_in_their_own_words() -> None:
    part = {"type": "text", "text": "x", "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "30m"}}
    request = canonical(messages=[{"role": "user", "content": [part, {"type": "text", "text": "y"}]}])
    assert sent(request, capabilities.of("gpt-5.6", "openai")).body["messages"][0]["content"][0] == part
    claude = sent(request, capabilities.of("anthropic/claude-sonnet-4.5", "openai")).body["messages"][0]["content"][0]
    assert claude["cache_control"] == {"type": "ephemeral", "ttl": "30m"}
    assert "prompt_cache_breakpoint" not in json.dumps(sent(request, capabilities.of("gpt-4o", "openai")).body)


def test_system_turns_in_the_middle_are_the_user_s_where_the_model_knows_none() -> None:
    request = of(
        Message(role="system", parts=[Text(text="a")]), user("x"), Message(role="system", parts=[Text(text="b")])
    )
    roles = [message["role"] for message in sent(request, capabilities.of("gemini-2.5-pro", "openai")).body["messages"]]
    assert roles == ["system", "user", "user"]
    assert [message["role"] for message in sent(request).body["messages"]] == ["system", "user", "system"]


def test_an_address_of_a_user_goes_to_nobody() -> None:
    assert "@" not in sent(of(user("x"), user="alice@example.org")).body["user"]


def test_a_stream_always_asks_for_its_usage() -> None:
    body = sent(of(user("x"), stream=True)).body
    assert (body["stream"], body["stream_options"]) == (True, {"include_usage": True})


def test_one_text_is_a_string_as_every_vendor_takes_it() -> None:
    messages = sent(of(Message(role="system", parts=[Text(text="s")]), user("x"), model("y"))).body["messages"]
    assert [message["content"] for message in messages] == ["s", "x", "y"]


def test_a_picture_of_the_model_s_own_is_shown_to_it_by_the_user() -> None:
    picture = Media(kind="image", mime="image/png", data="AAAA")
    messages = sent(of(user("draw"), model("Here.", picture), user("bluer"))).body["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant", "user", "user"]
    assert messages[2]["content"][1]["type"] == "image_url"


def test_fields_without_a_place_are_named_by_what_the_client_calls_them() -> None:
    assert sent(canonical(chat_template_kwargs={"x": 1}, top_k=4, store=False)).losses == [
        "top_k",
        "chat_template_kwargs",
    ]
    gemini = of(user("x"), owner="gemini", sampling=Sampling(top_k=4), extra={"labels": {"a": "b"}})
    assert sent(gemini).losses == ["generationConfig.topK", "labels"]


@given(st.lists(st.integers(0, 2000), max_size=3))
@settings(max_examples=20)
def test_a_translated_stream_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    data = wire("openrouter")
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    stream = translating.TranslatedStream(
        DIALECT.decoder(),
        DIALECT.encoder(asked(stream=True), model="m", prompt_tokens=0),
        Encoded(body={}),
        upstream_model="up",
    )
    out = b"".join(stream.feed(data[a:b]) for a, b in itertools.pairwise(edges)) + stream.close() + stream.last(PISCES)
    assert stream.done
    assert stream.failure is None
    found = fold.fold(laws.decoded(DIALECT, out))
    assert found.parts == DIALECT.decode_response(whole("openrouter")).parts
    assert [part for part in found.parts if isinstance(part, PartDelta)] == []
