"""What an OpenAI client asks for, and what it is told."""

import json
from typing import Any

import pytest

from billing.usage import Usage
from relay.errors import Cause, RelayError
from relay.protocols import documents
from relay.protocols.canonical import (
    Finish,
    Json,
    Media,
    Opaque,
    Part,
    Raw,
    Reasoning,
    Response,
    Text,
    Thinking,
    ToolCall,
    ToolChoice,
    ToolResult,
)
from relay.protocols.events import PartStarted, Started
from relay.protocols.openai import DIALECT
from tests.relay.protocols.openai_made import (
    PISCES,
    as_stream,
    asked,
    canonical,
    collected,
    sent,
    streamed,
    told,
    whole,
)

PICTURE, PAPER, FILM = "https://p.example/1.png", "https://p.example/1.pdf", "https://p.example/1.mp4"


def answer(*parts: Part | str, finish: Finish = Finish.STOP, **fields: Any) -> Response:
    listed = [Text(text=part) if isinstance(part, str) else part for part in parts]
    return Response(id="chatcmpl-1", model="offered", parts=listed, finish=finish, **fields)


# ---- to the client --------------------------------------------------------------------------------------------------


USED = Usage(input=10, cache_read=90, cache_write=5, output=7, reasoning=3)


def test_a_client_that_did_not_ask_gets_no_usage_and_no_chunk_without_choices() -> None:
    """Pitfall 27."""
    found = streamed(answer("Hi", usage=USED))
    assert all(event["choices"] for event in found)
    assert all("usage" not in event for event in found)
    asked_for = streamed(answer("Hi", usage=USED), stream_options={"include_usage": True})
    assert [event["usage"] for event in asked_for[:-1]] == [None] * (len(asked_for) - 1)
    assert asked_for[-1]["choices"] == []
    assert asked_for[-1]["usage"]["total_tokens"] == 115


def test_usage_contains_the_cache_in_the_prompt_and_the_thoughts_in_the_completion() -> None:
    """Pitfall 24: a cache read stays one on its way to the client."""
    usage = told(answer("Hi", usage=USED))["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"], usage["total_tokens"]) == (105, 10, 115)
    assert usage["prompt_tokens_details"] == {"cached_tokens": 90, "cache_write_tokens": 5, "audio_tokens": 0}
    assert usage["completion_tokens_details"]["reasoning_tokens"] == 3


def test_what_is_kept_for_an_hour_is_in_the_one_number_that_this_protocol_has() -> None:
    usage = told(answer("Hi", usage=Usage(input=10, cache_write=5, cache_write_1h=20, output=1)))["usage"]
    assert (usage["prompt_tokens"], usage["prompt_tokens_details"]["cache_write_tokens"]) == (35, 25)


def test_thoughts_are_not_mixed_into_the_content() -> None:
    """Pitfall 41."""
    response = answer(Reasoning(text="Hm.", state=Opaque("anthropic", "c2ln")), "Yes.")
    message = told(response)["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("Yes.", "Hm.")
    assert message["reasoning_details"] == [
        {"type": "reasoning.text", "text": "Hm.", "signature": "c2ln", "id": None,
         "format": "anthropic-claude-v1", "index": 0}
    ]  # fmt: skip
    deltas = [event["choices"][0]["delta"] for event in streamed(response)]
    assert [delta["content"] for delta in deltas if delta.get("content")] == ["Yes."]


def test_a_signature_comes_home_through_a_chat_client() -> None:
    thought = Reasoning(text="Hm.", state=Opaque("anthropic", "c2ln+/="))
    call = ToolCall(id="a", name="f", arguments="{}", state=Opaque("gemini", "Z3Nn"))
    message = told(answer(thought, call, finish=Finish.TOOL_CALLS))["choices"][0]["message"]
    back = canonical(messages=[message, {"role": "tool", "tool_call_id": "a", "content": "1"}])
    assert back.messages[0].parts == [thought, call]


THOUGHTS = [
    Reasoning(text="Hm.", summary=True, state=Opaque("openai", "gAAA==", "rs_1")),
    Reasoning(redacted=True, state=Opaque("openai", "gBBB==", "rs_2")),
    Reasoning(text="So.", summary=True, state=Opaque("openai", "gCCC==", "rs_3")),
]


def test_thoughts_come_home_through_the_official_sdk_s_stream() -> None:
    """It makes one of all entries that share an index, and one text of their ids."""
    message = collected(answer(*THOUGHTS, "Yes."))
    assert canonical(messages=[message]).messages[0].parts == [*THOUGHTS, Text(text="Yes.")]


def test_thoughts_come_home_that_a_client_has_from_before_each_entry_had_its_own_index() -> None:
    """Whole, and as the official SDK made one of them."""
    base = {"format": "openai-responses-v1", "index": 0}
    summary = {"type": "reasoning.summary", "summary": "Hm.", "id": "rs_1", **base}
    joined = {
        "type": "reasoning.encrypted", "summary": "Hm.", "data": "gAAA==", "id": "rs_1rs_1", "index": 0,
        "format": "openai-responses-v1openai-responses-v1",
    }  # fmt: skip
    nameless = {name: value for name, value in joined.items() if name != "id"}
    whole_ones = [summary, {"type": "reasoning.encrypted", "data": "gAAA==", "id": "rs_1", **base}]
    for entries, item in ((whole_ones, "rs_1"), ([joined], "rs_1"), ([nameless], "")):
        message = {"role": "assistant", "content": "Yes.", "reasoning_content": "Hm.", "reasoning_details": entries}
        thought = Reasoning(text="Hm.", summary=True, state=Opaque("openai", "gAAA==", item))
        assert canonical(messages=[message]).messages[0].parts == [thought, Text(text="Yes.")]


def test_a_choice_is_always_number_zero_whatever_the_parts_are_numbered() -> None:
    """Pitfall 40."""
    calls = [ToolCall(id=name, name=name, arguments="{}") for name in "abc"]
    found = streamed(answer("x", *calls, finish=Finish.TOOL_CALLS))
    assert {choice["index"] for event in found for choice in event["choices"]} == {0}
    indices = [
        call["index"] for event in found for call in event["choices"][0]["delta"].get("tool_calls", ()) if "id" in call
    ]
    assert indices == [0, 1, 2]
    assert [event["choices"][0]["finish_reason"] for event in found] == [None] * (len(found) - 1) + ["tool_calls"]


def test_a_call_without_arguments_is_told_with_an_empty_object() -> None:
    response = answer(ToolCall(id="a", name="f"), finish=Finish.TOOL_CALLS)
    assert told(response)["choices"][0]["message"]["tool_calls"][0]["function"]["arguments"] == "{}"
    pieces = [
        call["function"]["arguments"]
        for event in streamed(response)
        for call in event["choices"][0]["delta"].get("tool_calls", ())
    ]
    assert "".join(pieces) == "{}"


@pytest.mark.parametrize(
    ("finish", "parts", "word"),
    [
        (Finish.STOP, ["x"], "stop"),
        (Finish.STOP_SEQUENCE, ["x"], "stop"),
        (Finish.STOP, [ToolCall(id="a", name="f")], "tool_calls"),
        (Finish.TOOL_CALLS, ["x"], "stop"),
        (Finish.LENGTH, [ToolCall(id="a", name="f")], "length"),
        (Finish.PAUSE, ["x"], "length"),
        (Finish.CONTEXT, ["x"], "length"),
        (Finish.FILTER, ["x"], "content_filter"),
    ],
)
def test_an_end_has_openai_s_word_for_it(finish: Finish, parts: list[Any], word: str) -> None:
    response = answer(*parts, finish=finish)
    assert told(response)["choices"][0]["finish_reason"] == word
    assert streamed(response)[-1]["choices"][0]["finish_reason"] == word


def test_a_reason_for_refusing_becomes_the_refusal() -> None:
    response = answer(finish=Finish.FILTER, note="PROHIBITED_CONTENT")
    message = told(response)["choices"][0]["message"]
    assert (message["content"], message["refusal"]) == (None, "PROHIBITED_CONTENT")
    assert [event["choices"][0]["delta"].get("refusal") for event in streamed(response)][1] == "PROHIBITED_CONTENT"


def test_a_client_of_the_old_functions_is_told_in_its_words() -> None:
    old = {"functions": [{"name": "f", "parameters": {"type": "object", "properties": {}}}]}
    response = answer(
        ToolCall(id="a", name="f", arguments='{"x":1}'), ToolCall(id="b", name="f"), finish=Finish.TOOL_CALLS
    )
    choice = told(response, **old)["choices"][0]
    assert choice["message"]["function_call"] == {"name": "f", "arguments": '{"x":1}'}
    assert choice["finish_reason"] == "function_call"
    found = streamed(response, **old)
    calls = [
        event["choices"][0]["delta"]["function_call"]
        for event in found
        if "function_call" in event["choices"][0]["delta"]
    ]
    assert calls == [{"name": "f", "arguments": ""}, {"arguments": '{"x":1}'}]
    assert canonical(**old).parallel is False


def test_a_picture_that_the_model_made_is_shown_as_markdown() -> None:
    """Requirement C6."""
    response = DIALECT.decode_response(whole("picture"))
    assert response.parts[1] == Media(kind="image", mime="image/png", data="iVBORw0KGgo=")
    shown = told(response)["choices"][0]["message"]["content"]
    assert shown == "Here.![image](data:image/png;base64,iVBORw0KGgo=)"
    deltas = [event["choices"][0]["delta"].get("content") or "" for event in streamed(response)]
    assert "".join(deltas) == shown


@pytest.mark.parametrize("parts", [False, True], ids=["text", "parts"])
def test_a_picture_that_was_shown_as_markdown_comes_back_as_one_that_the_model_drew(parts: bool) -> None:
    def read(role: str, text: str) -> list[Part]:
        content: Any = [{"type": "text", "text": text}] if parts else text
        return canonical(messages=[{"role": role, "content": content}]).messages[0].parts

    shown = told(DIALECT.decode_response(whole("picture")))["choices"][0]["message"]["content"]
    drawn = Media(kind="image", mime="image/png", data="iVBORw0KGgo=")
    assert read("assistant", shown) == [Text(text="Here."), drawn]
    assert read("assistant", f"{shown}{shown} More.") == [*[Text(text="Here."), drawn] * 2, Text(text=" More.")]
    assert read("user", shown) == [Text(text=shown)]


@pytest.mark.parametrize(
    "text",
    [
        "![image](https://p.example/1.png)",
        "![image](data:image/png;base64,...)",
        "![image](data:image/png;base64,iVBORw0KGgo)",
        "![image](data:image/png;base64,AAAABBBBCCCC)",
        "![image](data:image/svg+xml;base64,PHN2Zz48L3N2Zz4=)",
        "[image](data:image/png;base64,iVBORw0KGgo=)",
        "![image](data:image/png;base64,iVBORw0KGgo=",
        "![](data:image/",
    ],
)
def test_what_only_looks_like_a_picture_stays_text(text: str) -> None:
    assert canonical(messages=[{"role": "assistant", "content": text}]).messages[0].parts == [Text(text=text)]


@pytest.mark.parametrize(
    ("modalities", "extra"),
    [
        (["text", "image"], {"modalities": ["text", "image"]}),
        (["image"], {"modalities": ["image"]}),
        (["text"], {}),
        ([], {}),
        (None, {}),
    ],
)
def test_an_answer_of_more_than_text_is_asked_for_or_named_as_lost(modalities: Any, extra: Json) -> None:
    request = canonical(modalities=modalities)
    assert request.extra == extra
    assert sent(request).body.get("modalities") == extra.get("modalities")


def test_sources_are_told_with_their_address() -> None:
    response = DIALECT.decode_response(whole("citations"))
    found = told(response)["choices"][0]["message"]["annotations"][0]["url_citation"]
    assert found == {"start_index": 0, "end_index": 17, "title": "Weather", "url": "https://weather.example/oslo"}
    assert any(event["choices"][0]["delta"].get("annotations") for event in streamed(response))


def test_the_official_sdk_s_stream_takes_an_answer_with_several_sources() -> None:
    sources: list[Json] = [{"url": f"https://p.example/{number}", "title": str(number)} for number in range(3)]
    found = collected(answer(Text(text="a", citations=sources[:2]), Text(text="b", citations=sources[2:])))
    assert [one["url_citation"]["url"] for one in found["annotations"]] == [source["url"] for source in sources]


def test_nothing_is_written_before_the_answer_begins() -> None:
    """So that an upstream that fails until then can be replaced by another: pitfall 45."""
    encoder = DIALECT.encoder(asked(stream=True), model="m", prompt_tokens=0)
    assert encoder.feed(Started("x", "up")) == b""
    assert encoder.feed(PartStarted(0, Text())).startswith(b"data: ")


def test_a_silent_stream_is_kept_alive_by_a_comment_and_no_event_has_an_id() -> None:
    """Pitfalls 28 and 30: a comment after any `id:` line breaks the official client."""
    encoder = DIALECT.encoder(asked(stream=True), model="m", prompt_tokens=0)
    assert encoder.ping() == b": keep-alive\n\n"
    passing = DIALECT.passing(asked(stream=True), model="m", upstream_model="up")
    assert passing.ping() == b": keep-alive\n\n"
    out = as_stream(answer("x"), encoder) + encoder.last(PISCES)
    assert all(line.startswith(b"data: ") for line in out.split(b"\n") if line)


def test_a_failure_is_told_in_band_and_without_done() -> None:
    error = RelayError(Cause.UPSTREAM_ERROR, "broken")
    for stream in (
        DIALECT.encoder(asked(stream=True), model="m", prompt_tokens=0),
        DIALECT.passing(asked(stream=True), model="m", upstream_model="up"),
    ):
        out = stream.fail(error, PISCES)
        assert json.loads(out[6:])["error"]["message"] == "broken"
        assert b"[DONE]" not in out


# ---- from the client ------------------------------------------------------------------------------------------------


def test_n_above_one_is_for_openai_s_own_models() -> None:
    assert asked(n=2).n == 2
    with pytest.raises(RelayError) as refused:
        canonical(n=2)
    assert (refused.value.cause, refused.value.param) == (Cause.INVALID_PARAMETER, "n")


def test_developer_and_system_messages_stay_where_they_were_said() -> None:
    found = canonical(
        messages=[
            {"role": "developer", "content": "a"},
            {"role": "system", "content": [{"type": "text", "text": "b"}]},
            {"role": "user", "content": "c"},
            {"role": "system", "content": "d"},
        ]
    )
    assert [message.role for message in found.messages] == ["system", "system", "user", "system"]


@pytest.mark.parametrize(
    ("part", "read"),
    [
        ({"type": "image_url", "image_url": {"url": PICTURE, "detail": "high"}},
         Media(kind="image", url=PICTURE, detail="high")),
        ({"type": "image_url", "image_url": PICTURE}, Media(kind="image", url=PICTURE)),
        ({"type": "image_url", "image_url": "data:image/png;base64,AAAA"},
         Media(kind="image", mime="image/png", data="AAAA")),
        ({"type": "file_url", "file_url": {"url": PAPER}}, Media(kind="document", url=PAPER)),
        ({"type": "file_url", "file_url": PAPER}, Media(kind="document", url=PAPER)),
        ({"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA", "filename": "a.pdf"}},
         Media(kind="document", mime="application/pdf", data="AAAA", name="a.pdf")),
        ({"type": "file", "file": {"file_data": "AAAA", "filename": "a.csv"}},
         Media(kind="document", mime="text/csv", data="AAAA", name="a.csv")),
        ({"type": "file", "file": {"file_id": "file-1"}}, Media(kind="document", file="file-1", owner="openai")),
        ({"type": "input_audio", "input_audio": {"data": "AAAA", "format": "mp3"}},
         Media(kind="audio", mime="audio/mpeg", data="AAAA")),
        ({"type": "video_url", "video_url": {"url": FILM}}, Media(kind="video", url=FILM)),
        ({"type": "hologram", "x": 1}, Raw(owner="openai", label="hologram", value={"type": "hologram", "x": 1})),
    ],
)  # fmt: skip
def test_every_spelling_of_a_part_is_read(part: Json, read: Part) -> None:
    """Requirements B7 and B8."""
    assert canonical(messages=[{"role": "user", "content": [part]}]).messages[0].parts == [read]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.txt", "text/plain"),
        ("no.1 #2?.pdf", "application/pdf"),
        ("https://e.com/a.pdf?of=b.txt#c.txt", "application/pdf"),
        ("http://[::1/a.txt", "text/plain"),
        ("https://e.com/a", ""),
        ("a", ""),
        ("", ""),
        (None, ""),
    ],
)
def test_a_name_or_an_address_tells_what_a_file_is(name: str | None, kind: str) -> None:
    assert documents.kind_of(name) == kind


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "image_url"}, 1], [{"text": "x"}], [{"type": "image_url", "image_url": "data:image/png,AAAA"}],
        [{"type": "image_url", "image_url": ""}], [{"type": "file", "file": {}}], [{"type": 1}],
    ],
)  # fmt: skip
def test_a_malformed_part_is_refused(content: list[Any]) -> None:
    with pytest.raises(RelayError) as refused:
        sent(canonical(messages=[{"role": "user", "content": content}]))
    assert (refused.value.cause, refused.value.param) == (Cause.INVALID_MESSAGES, "messages")


def test_old_functions_are_tools_and_their_results_find_their_calls() -> None:
    found = canonical(
        functions=[{"name": "f", "description": "d", "parameters": {"type": "object", "properties": {"x": {}}}}],
        function_call={"name": "f"},
        messages=[
            {"role": "user", "content": "x"},
            {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
            {"role": "function", "name": "f", "content": "1"},
        ],
    )
    call, result = found.messages[1].parts[0], found.messages[2].parts[0]
    assert isinstance(call, ToolCall)
    assert isinstance(result, ToolResult)
    assert (call.id, call.name, result.call, result.name) == ("call_1", "f", "call_1", "f")
    assert found.tools[0].schema == {"type": "object", "properties": {"x": {}}}
    assert found.choice == ToolChoice(mode="tool", names=["f"])


def test_results_of_parallel_calls_are_one_turn() -> None:
    """Pitfall 11, towards vendors that count them."""
    calls = [{"id": name, "type": "function", "function": {"name": "f", "arguments": "{}"}} for name in "ab"]
    found = canonical(
        messages=[
            {"role": "assistant", "tool_calls": calls},
            *({"role": "tool", "tool_call_id": name, "content": name} for name in "ab"),
            {"role": "user", "content": "go on"},
        ]
    )
    assert [len(message.parts) for message in found.messages] == [2, 2, 1]


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("none", ToolChoice(mode="none")),
        ("auto", ToolChoice(mode="auto")),
        ("required", ToolChoice(mode="any")),
        ({"type": "function", "function": {"name": "f"}}, ToolChoice(mode="tool", names=["f"])),
        ({"type": "custom", "custom": {"name": "f"}}, ToolChoice(mode="tool", names=["f"])),
        (
            {
                "type": "allowed_tools",
                "allowed_tools": {"mode": "required", "tools": [{"type": "function", "function": {"name": "f"}}]},
            },
            ToolChoice(mode="any", names=["f"]),
        ),
    ],
)
def test_every_choice_of_a_tool_is_read_and_written(said: Any, meant: ToolChoice) -> None:
    custom = isinstance(said, dict) and said["type"] == "custom"
    tool = {"type": "custom", "custom": {"name": "f"}} if custom else {"type": "function", "function": {"name": "f"}}
    request = canonical(tools=[tool], tool_choice=said)
    assert request.choice == meant
    assert sent(request).body["tool_choice"] == said


@pytest.mark.parametrize("fields", [{"tool_choice": "x"}, {"tool_choice": {"type": "function"}}, {"tool_choice": 1},
    {"tools": [{"type": "mcp"}]}, {"response_format": {"type": "xml"}}, {"response_format": {"type": "json_schema"}},
    {"temperature": "hot"}, {"stop": 1}])  # fmt: skip
def test_a_parameter_with_a_value_that_there_is_not_is_refused_by_name(fields: dict[str, Any]) -> None:
    with pytest.raises(RelayError) as refused:
        canonical(**fields)
    assert (refused.value.cause, refused.value.param) == (Cause.INVALID_PARAMETER, next(iter(fields)))


@pytest.mark.parametrize(
    ("fields", "meant"),
    [
        ({"reasoning_effort": "high"}, Thinking(effort="high")),
        ({"reasoning": {"effort": "low", "exclude": True}}, Thinking(effort="low", visible=False)),
        ({"reasoning": {"max_tokens": 2000}}, Thinking(budget=2000)),
        ({"reasoning": {"enabled": False}}, Thinking(effort="none")),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, Thinking(budget=2048)),
        ({"thinking": {"type": "disabled"}}, Thinking(budget=0)),
        ({"thinking": {"type": "enabled"}}, Thinking(adaptive=True)),
    ],
)
def test_every_spelling_of_how_much_to_think_is_read(fields: dict[str, Any], meant: Thinking) -> None:
    assert canonical(**fields).thinking == meant
