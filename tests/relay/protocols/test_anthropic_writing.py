"""The hub's requests as Anthropic's upstreams take them: order, limits, thinking, what is degraded and what refused.
The pitfalls' numbers are those of the list of protocol facts."""

import copy
import itertools
import json
from typing import Any

import msgspec
import pytest
from anthropic.types.message_create_params import MessageCreateParamsBase
from pydantic import TypeAdapter

from relay.errors import Cause, RelayError
from relay.protocols import capabilities, in_words
from relay.protocols.anthropic import DIALECT, writing
from relay.protocols.canonical import (
    Format,
    Mark,
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

LATEST = capabilities.of("claude-opus-5-5", "anthropic")
ADAPTIVE = capabilities.of("claude-sonnet-4-6", "anthropic")
BUDGET = capabilities.of("claude-sonnet-4-5", "anthropic")
OLDER = capabilities.of("claude-sonnet-4", "anthropic")
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
_sdk_params: TypeAdapter[Any] = TypeAdapter(MessageCreateParamsBase)


def user(*parts: Part) -> Message:
    return Message(role="user", parts=list(parts) or [Text(text="hi")])


def assistant(*parts: Part) -> Message:
    return Message(role="assistant", parts=list(parts))


def asked(*messages: Message, **fields: Any) -> Request:
    return Request(**{"model": "m", "messages": list(messages) or [user()], "limit": 5000, **fields})


def written(wanted: Request, caps: Capabilities = BUDGET, limit: int | None = None) -> dict[str, Any]:
    return sent(wanted, caps, limit)[0]


def sent(wanted: Request, caps: Capabilities = BUDGET, limit: int | None = None) -> tuple[dict[str, Any], list[str]]:
    """The body as the vendor reads it, checked against its own types, and the losses."""
    found = DIALECT.encode_request(wanted, model="claude", limit=limit, caps=caps)
    body = json.loads(msgspec.json.encode(found.body))
    _sdk_params.validate_python(copy.deepcopy(body))
    return body, found.losses


def refused(wanted: Request, caps: Capabilities = BUDGET) -> RelayError:
    with pytest.raises(RelayError) as raised:
        written(wanted, caps)
    assert raised.value.status == 400
    return raised.value


# ---- to an upstream -------------------------------------------------------------------------------------------------


def test_the_system_s_words_come_first_and_later_ones_stay_where_they_were_said() -> None:
    """Never hoisted: that would change what they mean and break the cached prefix."""
    messages = [
        Message(role="system", parts=[Text(text="one")]), Message(role="system", parts=[Text(text="two", mark=Mark())]),
        user(Text(text="a")), assistant(Text(text="b")), Message(role="system", parts=[Text(text="late")]),
        user(Text(text="c")),
    ]  # fmt: skip
    body = written(asked(*messages))
    assert body["system"] == [
        {"type": "text", "text": "one"}, {"type": "text", "text": "two", "cache_control": {"type": "ephemeral"}},
    ]  # fmt: skip
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user"]
    assert [block["text"] for block in body["messages"][2]["content"]] == ["<system>\nlate\n</system>", "c"]
    latest = written(asked(*messages), LATEST)
    assert [message["role"] for message in latest["messages"]] == ["user", "assistant", "system", "user"]


def test_nothing_stands_between_calls_and_their_results() -> None:
    said, result = Message(role="system", parts=[Text(text="s")]), user(ToolResult(call="1", parts=[Text(text="r")]))
    body = written(asked(user(), assistant(ToolCall(id="1", name="f")), said, result), LATEST)
    assert [message["role"] for message in body["messages"]] == ["user", "assistant", "user", "system"]
    assert body["messages"][2]["content"] == [{"type": "tool_result", "tool_use_id": "1", "content": "r"}]


def test_a_system_message_alone_is_asked_as_the_user_s() -> None:
    system = Message(role="system", parts=[Text(text="Say hello.")])
    for caps in (LATEST, BUDGET):
        body = written(asked(system), caps)
        assert body["messages"] == [{"role": "user", "content": [{"type": "text", "text": "Say hello."}]}]
        assert "system" not in body
    empty = Message(role="system", parts=[Text(text=" ")])
    assert refused(asked(empty)).cause is Cause.INVALID_MESSAGES


@pytest.mark.parametrize("caps", [LATEST, BUDGET], ids=["latest", "budget"])
@pytest.mark.parametrize(
    "turns_since",
    ["1 system 2", "system system 1 2", "system user 2 1", "1 system 2 system", "system 2 user system 1"],
)
def test_results_reach_their_calls_wherever_the_system_speaks(caps: Capabilities, turns_since: str) -> None:
    """Nothing may stand between calls and their results; all else keeps its order."""
    picture = Media(kind="image", mime="image/png", data=PNG)
    said = {
        "1": user(ToolResult(call="1", parts=[Text(text="one")])), "2": user(ToolResult(call="2", parts=[picture])),
        "system": Message(role="system", parts=[Text(text="system")]), "user": user(Text(text="user")),
    }  # fmt: skip
    since = turns_since.split()
    calls = assistant(ToolCall(id="1", name="f"), ToolCall(id="2", name="g"))
    found = written(asked(user(), calls, *(said[name] for name in since)), caps)["messages"]
    one, two, *after = [block for turn in found[2:] for block in turn["content"]]
    assert (found[2]["role"], one) == ("user", {"type": "tool_result", "tool_use_id": "1", "content": "one"})
    assert (two["tool_use_id"], "is_error" in two, two["content"][0]["type"]) == ("2", False, "image")
    texts = [block["text"].removeprefix("<system>\n").removesuffix("\n</system>") for block in after]
    assert texts == [name for name in since if name in ("system", "user")]
    assert all(before["role"] != turn["role"] for before, turn in itertools.pairwise(found))


def test_every_call_is_answered_in_the_next_turn_results_first() -> None:
    """Pitfalls 20 and 21."""
    body = written(
        asked(
            user(), assistant(ToolCall(id="a", name="f"), ToolCall(id="b", name="g", arguments='{"x":1}')),
            user(Text(text="and"), ToolResult(call="b", parts=[Text(text="B")])),
            user(ToolResult(call="gone", parts=[Text(text="lost")])),
        )
    )  # fmt: skip
    results = body["messages"][2]["content"]
    assert [block.get("tool_use_id") for block in results] == ["a", "b", None, None]
    assert results[0]["is_error"] is True
    assert results[1]["content"] == "B"
    assert [block["text"] for block in results[2:]] == ["and", "<tool_result>\nlost\n</tool_result>"]
    assert body["messages"][1]["content"][0]["input"] == {}


def test_empty_texts_are_left_out_and_neighbours_of_one_role_are_one_turn() -> None:
    body = written(
        asked(assistant(Text(text="first")), user(Text(text=" ")), user(Text(text="a")), user(Text(text="b")))
    )
    assert [(message["role"], len(message["content"])) for message in body["messages"]] == [
        ("user", 1), ("assistant", 1), ("user", 2),
    ]  # fmt: skip
    assert refused(asked(user(Text(text="")))).cause is Cause.INVALID_MESSAGES


def test_pictures_in_results_are_not_lost() -> None:
    """Pitfall 22."""
    turn = user(ToolResult(call="a", parts=[Text(text="see"), Media(kind="image", mime="image/png", data=PNG)]))
    messages = (user(), assistant(ToolCall(id="a", name="f")), turn)
    inside = written(asked(*messages))["messages"][2]["content"]
    assert [block["type"] for block in inside[0]["content"]] == ["text", "image"]
    poorer = msgspec.structs.replace(BUDGET, result_media=False)
    beside = written(asked(*messages), poorer)["messages"][2]["content"]
    assert [block["type"] for block in beside] == ["tool_result", "image"]


@pytest.mark.parametrize("caps", [LATEST, BUDGET], ids=["latest", "budget"])
def test_a_picture_in_a_result_without_its_call_stands_where_it_was_said(caps: Capabilities) -> None:
    picture = Media(kind="image", mime="image/png", data=PNG)
    orphan = ToolResult(call="gone", parts=[Text(text="see"), picture])
    conversation = asked(user(Text(text="a")), user(orphan), user(Text(text="b")))
    [turn] = written(conversation, caps)["messages"]
    assert [block.get("text") for block in turn["content"]] == [
        "a", "<tool_result>\nsee", None, "</tool_result>", "b",
    ]  # fmt: skip
    assert turn["content"][2]["type"] == "image"
    assert refused(conversation, msgspec.structs.replace(caps, input=frozenset(("text",)))).param == "messages"


@pytest.mark.parametrize("caps", [LATEST, BUDGET], ids=["latest", "budget"])
@pytest.mark.parametrize("before", [[], [user(), assistant(Text(text="yes?"))]], ids=["at the head", "later"])
def test_a_picture_that_the_system_shows_is_shown_by_the_user(caps: Capabilities, before: list[Message]) -> None:
    """The vendor takes text alone from the system."""
    picture = Media(kind="image", mime="image/png", data=PNG)
    shown = Message(role="system", parts=[Text(text="the logo:"), picture])
    conversation = asked(*before, shown, user(Text(text="so?")))
    body = written(conversation, caps)
    last = body["messages"][-1]
    assert [block["type"] for block in last["content"]][-2:] == ["image", "text"]
    assert json.dumps(body).count("the logo:") == 1
    assert all(
        block["type"] == "text" for turn in body["messages"] if turn["role"] == "system" for block in turn["content"]
    )
    assert refused(conversation, msgspec.structs.replace(caps, input=frozenset(("text",)))).param == "messages"


def test_a_picture_is_called_what_it_is() -> None:
    part = Media(kind="image", mime="image/jpeg", data=PNG)
    assert written(asked(user(part)))["messages"][0]["content"][0]["source"]["media_type"] == "image/png"
    assert refused(asked(user(Media(kind="image", mime="image/tiff", data="SUkqAA==")))).param == "messages"


@pytest.mark.parametrize(
    ("part", "source"),
    [
        (
            Media(kind="document", mime="application/pdf", data="JVBERi0="),
            {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="},
        ),
        (
            Media(kind="document", mime="text/markdown", data="IyBI"),
            {"type": "text", "media_type": "text/plain", "data": "# H"},
        ),
        (Media(kind="document", text="plain"), {"type": "text", "media_type": "text/plain", "data": "plain"}),
        (Media(kind="document", url="https://example.com/a.pdf"), {"type": "url", "url": "https://example.com/a.pdf"}),
        (Media(kind="document", file="file_1", owner="anthropic"), {"type": "file", "file_id": "file_1"}),
    ],
)  # fmt: skip
def test_documents_are_written(part: Media, source: dict[str, Any]) -> None:
    part.name = "T"
    assert written(asked(user(part)))["messages"][0]["content"] == [
        {"type": "document", "source": source, "title": "T"}
    ]


@pytest.mark.parametrize(
    "part",
    [
        Media(kind="audio", mime="audio/wav", data="UklG"), Media(kind="video", url="https://example.com/v"),
        Media(kind="image", file="file-abc", owner="openai"), Media(kind="document", file="files/1", owner="gemini"),
        Media(kind="document", mime="application/zip", data="UEsDBA=="),
        Media(kind="document", mime="text/plain", data="/w=="),
        Raw(owner="responses", label="computer_call_output", value={}),
    ],
)  # fmt: skip
def test_what_the_vendor_cannot_be_told_is_refused(part: Part) -> None:
    assert refused(asked(user(part))).param == "messages"


def test_kinds_that_the_model_does_not_take_are_refused() -> None:
    blind = msgspec.structs.replace(BUDGET, input=frozenset(("text",)))
    assert refused(asked(user(Media(kind="image", mime="image/png", data=PNG))), blind).param == "messages"


def test_a_picture_that_the_model_drew_is_seen_in_the_next_turn() -> None:
    body = written(
        asked(user(), assistant(Text(text="There."), Media(kind="image", mime="image/png", data=PNG)), user())
    )
    assert [block["type"] for block in body["messages"][1]["content"]] == ["text"]
    assert [block["type"] for block in body["messages"][2]["content"]] == ["text", "image", "text"]
    last = written(asked(user(), assistant(Media(kind="image", mime="image/png", data=PNG))))["messages"][-1]
    assert [block["type"] for block in last["content"][-2:]] == ["text", "image"]


def test_only_thoughts_that_anthropic_has_signed_are_sent() -> None:
    """Pitfall 18: never another's, never one without a signature."""
    own = Opaque("anthropic", "sig")
    body = written(
        asked(
            user(),
            assistant(
                Reasoning(text="a", state=own), Reasoning(text="b"), Reasoning(text="c", state=Opaque("gemini", "x")),
                Reasoning(state=own, redacted=True), Text(text="said", state=Opaque("gemini", "y")),
                ToolCall(id="1", name="f", state=Opaque("gemini", "z")),
            ),
            user(ToolResult(call="1")),
        )
    )  # fmt: skip
    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "a", "signature": "sig"}, {"type": "redacted_thinking", "data": "sig"},
        {"type": "text", "text": "said"}, {"type": "tool_use", "id": "1", "name": "f", "input": {}},
    ]  # fmt: skip


def test_at_most_four_marks_are_sent_and_the_last_ones_stay() -> None:
    tools = [Tool(name=f"t{number}", mark=Mark()) for number in range(3)]
    parts: list[Part] = [Text(text=str(number), mark=Mark("1h" if number == 2 else None)) for number in range(3)]
    body = written(asked(user(*parts), tools=tools))
    assert [("cache_control" in tool) for tool in body["tools"]] == [False, False, True]
    assert [block["cache_control"].get("ttl") for block in body["messages"][0]["content"]] == [None, None, "1h"]


def test_names_and_ids_that_anthropic_refuses_are_changed_and_can_be_changed_back() -> None:
    """Pitfalls 16 and 17."""
    name, call = "mcp." + "x" * 200, "call:1/" + "y" * 100
    wanted = asked(
        user(), assistant(ToolCall(id=call, name=name)), user(ToolResult(call=call, parts=[Text(text="r")])),
        tools=[Tool(name=name)], choice=ToolChoice(mode="tool", names=[name]),
    )  # fmt: skip
    found = DIALECT.encode_request(wanted, model="m", limit=None, caps=BUDGET)
    [tool] = found.body["tools"]
    assert len(tool["name"]) <= 128
    assert found.names == {tool["name"]: name}
    assert found.body["tool_choice"]["name"] == tool["name"]
    [use], [result] = found.body["messages"][1]["content"], found.body["messages"][2]["content"]
    assert use["id"] == result["tool_use_id"]
    assert (len(use["id"]) <= 64, use["name"]) == (True, tool["name"])


def test_arguments_stay_byte_for_byte_and_what_is_no_object_is_wrapped() -> None:
    """Pitfall 44: the prefix must be the same bytes in every turn."""
    odd = '{ "n" : 1.50, "a":[]}'
    wanted = asked(
        user(), assistant(ToolCall(id="1", name="f", arguments=odd), ToolCall(id="2", name="f", arguments="{oh"))
    )
    body = msgspec.json.encode(DIALECT.encode_request(wanted, model="m", limit=None, caps=BUDGET).body)
    assert b'"input":' + odd.encode() in body
    assert b'"input":{"arguments":"{oh"}' in body


def test_calls_of_one_id_are_told_apart() -> None:
    again = (assistant(ToolCall(id="c", name="f")), user(ToolResult(call="c", parts=[Text(text="r")])))
    twice = (
        assistant(ToolCall(id="c", name="f"), ToolCall(id="c", name="g")),
        user(ToolResult(call="c", parts=[Text(text="F")]), ToolResult(call="c", parts=[Text(text="G")])),
    )
    blocks = [block for turn in written(asked(user(), *again, *twice))["messages"][1:] for block in turn["content"]]
    assert [block["id"] for block in blocks if block["type"] == "tool_use"] == ["c", "c_2", "c_3"]
    results = [(block["tool_use_id"], block["content"]) for block in blocks if block["type"] == "tool_result"]
    assert results == [("c", "r"), ("c_2", "F"), ("c_3", "G")]


def test_tools_with_free_text_become_functions() -> None:
    """Pitfall 36."""
    tool = Tool(name="apply_patch", custom=True, description="Patches.", format={"type": "text"})
    history = (
        user(),
        assistant(ToolCall(id="1", name="apply_patch", arguments="*** Begin", custom=True)),
        user(ToolResult(call="1")),
    )
    found = DIALECT.encode_request(asked(*history, tools=[tool]), model="m", limit=None, caps=BUDGET)
    assert found.customs == {"apply_patch"}
    assert list(found.body["tools"][0]["input_schema"]["properties"]) == ["input"]
    assert json.loads(bytes(found.body["messages"][1]["content"][0]["input"])) == {"input": "*** Begin"}


def test_tools_that_another_vendor_runs_are_refused_by_name() -> None:
    raw = Raw(owner="responses", label="file_search", value={"type": "file_search"})
    error = refused(asked(tools=[Tool(name="file_search", raw=raw)]))
    assert (error.param, "file_search" in error.message) == ("tools", True)
    toolless = msgspec.structs.replace(BUDGET, tools=False)
    assert refused(asked(tools=[Tool(name="f")]), toolless).param == "tools"


def test_what_another_vendor_s_model_did_by_itself_is_passed_over_by_name() -> None:
    body, losses = sent(
        asked(user(), assistant(Raw(owner="responses", label="web_search_call", value={}), Text(text="x")), user())
    )
    assert body["messages"][1]["content"] == [{"type": "text", "text": "x"}]
    assert losses == ["web_search_call"]
    alone = assistant(Raw(owner="responses", label="web_search_call", value={}))
    assert [message["role"] for message in written(asked(user(), alone, user()))["messages"]] == ["user"]


def test_tool_choices_are_written() -> None:
    tools = [Tool(name="f"), Tool(name="g")]

    def choice(chosen: ToolChoice | None, parallel: bool | None = None) -> object:
        return written(asked(tools=tools, choice=chosen, parallel=parallel)).get("tool_choice")

    assert choice(None) is None
    assert choice(None, False) == {"type": "auto", "disable_parallel_tool_use": True}
    assert choice(ToolChoice(mode="any"), False) == {"type": "any", "disable_parallel_tool_use": True}
    assert choice(ToolChoice(mode="none"), False) == {"type": "none"}
    assert choice(ToolChoice(mode="tool", names=["g"])) == {"type": "tool", "name": "g"}
    some = written(asked(tools=tools, choice=ToolChoice(mode="any", names=["g"])))
    assert ([tool["name"] for tool in some["tools"]], some["tool_choice"]) == (["g"], {"type": "any"})
    assert "tool_choice" not in written(asked(choice=ToolChoice(mode="auto")))


@pytest.mark.parametrize(
    ("caps", "thinking"), [(LATEST, None), (BUDGET, Thinking(effort="low")), (ADAPTIVE, Thinking(effort="low"))]
)
def test_models_that_cannot_be_forced_to_call_are_asked_to(caps: Capabilities, thinking: Thinking | None) -> None:
    wanted = asked(
        Message(role="system", parts=[Text(text="s")]), user(), tools=[Tool(name="f")], thinking=thinking,
        choice=ToolChoice(mode="tool", names=["f"]), parallel=False,
    )  # fmt: skip
    body, losses = sent(wanted, caps)
    assert body["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert [block["text"] for block in body["system"]] == ["s", writing.MUST_CALL_IT.format(name="f")]
    assert "tool_choice" in losses
    any_tool = sent(msgspec.structs.replace(wanted, choice=ToolChoice(mode="any")), caps)[0]
    assert any_tool["system"][1]["text"] == writing.MUST_CALL


def test_a_turn_that_the_model_began_is_gone_on_with_or_asked_for() -> None:
    begun = (user(), assistant(Text(text="The answer is (  ")))
    body, losses = sent(asked(*begun))
    assert (body["messages"][-1]["content"][0]["text"], losses) == ("The answer is (", [])
    for caps, thinking in ((ADAPTIVE, None), (LATEST, None), (BUDGET, Thinking(effort="low"))):
        body, losses = sent(asked(*begun, thinking=thinking), caps)
        assert body["messages"][-1] == {"role": "user", "content": [{"type": "text", "text": writing.GO_ON}]}
        assert "prefill" in losses
    thought = assistant(Reasoning(text="hm", state=Opaque("anthropic", "sig")))
    assert written(asked(user(), thought))["messages"][-1]["role"] == "user"
    search = Raw(owner="anthropic", label="server_tool_use", value={"type": "server_tool_use", "id": "s"})
    paused = asked(user(), assistant(Text(text="a"), search), owner="anthropic")
    assert (
        DIALECT.encode_request(paused, model="m", limit=None, caps=LATEST).body["messages"][-1]["role"] == "assistant"
    )


# ---- thinking and sampling ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("effort", "budget"),
    [("minimal", 1024), ("low", 1024), ("medium", 2048), ("high", 4096), ("xhigh", 4999), ("max", 4999)],
)
def test_an_effort_is_a_budget_below_the_limit(effort: str, budget: int) -> None:
    body = written(asked(thinking=Thinking(effort=effort)))
    assert body["thinking"] == {"type": "enabled", "budget_tokens": budget}
    assert body["thinking"]["budget_tokens"] < body["max_tokens"]


def test_thinking_that_does_not_fit_is_dropped_by_its_name() -> None:
    body, losses = sent(asked(thinking=Thinking(effort="high"), limit=1024))
    assert ("thinking" in body, losses) == (False, ["reasoning_effort"])
    body, losses = sent(asked(thinking=Thinking(budget=9000), owner="gemini"), limit=600)
    assert ("thinking" in body, body["max_tokens"], losses) == (False, 600, ["thinkingConfig"])
    _, losses = sent(asked(thinking=Thinking(effort="low")), capabilities.of("claude-3-5-sonnet", "anthropic"))
    assert losses == ["reasoning_effort"]


def test_an_effort_that_there_is_not_is_dropped_by_its_name() -> None:
    for caps in (BUDGET, ADAPTIVE):
        body, losses = sent(asked(thinking=Thinking(effort="bogus")), caps)
        assert ("thinking" in body, "output_config" in body, losses) == (False, False, ["reasoning_effort"])
    body, losses = sent(asked(thinking=Thinking(effort="bogus", budget=3000)))
    assert (body["thinking"]["budget_tokens"], losses) == (3000, ["reasoning_effort"])


def test_thinking_by_budget_does_not_begin_in_the_middle_of_a_turn() -> None:
    """The vendor wants the turn that called to begin with a thought, which clients of other protocols do not keep."""
    calls = ToolCall(id="1", name="f")
    history = (user(), assistant(calls), user(ToolResult(call="1", parts=[Text(text="r")])))
    body, losses = sent(asked(*history, thinking=Thinking(effort="low")))
    assert ("thinking" in body, losses) == (False, ["reasoning_effort"])
    thought = Reasoning(text="hm", state=Opaque("anthropic", "sig"))
    kept = (user(), assistant(thought, calls), history[2])
    assert "thinking" in written(asked(*kept, thinking=Thinking(effort="low")))
    assert "thinking" in written(asked(*history, thinking=Thinking(effort="low")), ADAPTIVE)


def test_adaptive_models_are_told_a_level_and_to_show_their_thoughts() -> None:
    body = written(asked(thinking=Thinking(effort="minimal")), ADAPTIVE)
    assert (body["thinking"], body["output_config"]) == (
        {"type": "adaptive", "display": "summarized"},
        {"effort": "low"},
    )
    assert written(asked(thinking=Thinking(effort="xhigh")), ADAPTIVE)["output_config"] == {"effort": "high"}
    assert written(asked(thinking=Thinking(effort="xhigh")), LATEST)["output_config"] == {"effort": "xhigh"}
    assert written(asked(thinking=Thinking(budget=2500)), ADAPTIVE)["output_config"] == {"effort": "medium"}
    hidden = written(asked(thinking=Thinking(budget=-1, visible=False)), ADAPTIVE)
    assert (hidden["thinking"], "output_config" in hidden) == ({"type": "adaptive", "display": "omitted"}, False)


@pytest.mark.parametrize("model", ["claude-opus-5", "claude-sonnet-5", "claude-haiku-5-5", "claude-opus-4-8"])
def test_models_before_5_5_and_haiku_may_be_forced_to_call_and_told_not_to_think(model: str) -> None:
    """Anthropic, "What's new in Claude Opus 5.5": neither is refused by Opus 5."""
    caps = capabilities.of(model, "anthropic")
    request = asked(tools=[Tool(name="f")], choice=ToolChoice(mode="any"), thinking=Thinking(effort="none"))
    body, losses = sent(request, caps)
    assert (body["thinking"], body["tool_choice"]["type"], losses) == ({"type": "disabled"}, "any", [])
    system = written(asked(user(), Message(role="system", parts=[Text(text="s")]), assistant(), user()), caps)
    assert [message["role"] for message in system["messages"]] == ["user", "system", "user"]


@pytest.mark.parametrize(
    ("model", "effort"),
    [
        ("claude-opus-4-6", "high"),
        ("claude-opus-4-7", "xhigh"),
        ("claude-opus-4-8", "xhigh"),
        ("claude-opus-5", "xhigh"),
    ],
)
def test_the_level_between_high_and_max_is_there_from_opus_4_7_on(model: str, effort: str) -> None:
    body = written(asked(thinking=Thinking(effort="xhigh")), capabilities.of(model, "anthropic"))
    assert body["output_config"] == {"effort": effort}


def test_an_effort_of_anthropic_s_own_clients_is_no_wish_to_think() -> None:
    alone = asked(thinking=Thinking(effort="high"), owner="anthropic")
    body, losses = sent(alone, ADAPTIVE)
    assert ("thinking" in body, body["output_config"], losses) == (False, {"effort": "high"}, [])
    body, losses = sent(alone)
    assert (body.keys() & {"thinking", "output_config"}, losses) == (set(), ["output_config.effort"])


def test_thinking_is_turned_off_where_it_can_be() -> None:
    for off in (Thinking(effort="none"), Thinking(budget=0)):
        assert written(asked(thinking=off))["thinking"] == {"type": "disabled"}
        assert written(asked(thinking=off), ADAPTIVE)["thinking"] == {"type": "disabled"}
        body, losses = sent(asked(thinking=off), LATEST)
        assert ("thinking" in body, losses) == (False, ["reasoning_effort"])


def test_sampling_is_kept_dropped_or_brought_into_range() -> None:
    """Pitfall 42: top_p below 0.95 is refused while the model thinks."""
    hot = Sampling(temperature=1.8, top_k=40)
    assert written(asked(sampling=hot))["temperature"] == 1.0
    assert written(asked(sampling=hot))["top_k"] == 40
    body, losses = sent(asked(sampling=hot), LATEST)
    assert (body.keys() & {"temperature", "top_k"}, sorted(losses)) == (set(), ["temperature", "top_k"])
    low = Sampling(temperature=0.2, top_p=0.5)
    body, losses = sent(asked(sampling=low, thinking=Thinking(effort="low")))
    assert (body.keys() & {"temperature", "top_p"}, sorted(losses)) == (set(), ["temperature", "top_p"])
    assert written(asked(sampling=Sampling(top_p=0.95), thinking=Thinking(effort="low")))["top_p"] == 0.95
    body, losses = sent(asked(sampling=low))
    assert (body["temperature"], "top_p" in body, losses) == (0.2, False, ["top_p"])
    body, losses = sent(asked(sampling=low), OLDER)
    assert (body["temperature"], body["top_p"], losses) == (0.2, 0.5, [])
    usual = Sampling(temperature=1.0, top_p=1.0, frequency_penalty=0.0)
    assert sent(asked(sampling=usual), LATEST)[1] == []


def test_what_anthropic_has_no_word_for_is_named_as_the_client_calls_it() -> None:
    sampling = Sampling(
        frequency_penalty=0.5, presence_penalty=0.5, seed=1, logprobs=0, logit_bias={"1": 1}, stop=["x", " \n"]
    )
    wanted = asked(
        sampling=sampling,
        verbosity="low",
        cache_key="k",
        metadata={"a": "b"},
        service_tier="flex",
        extra={"store": True},
    )
    body, losses = sent(wanted)
    assert body["stop_sequences"] == ["x"]
    assert sorted(losses) == [
        "frequency_penalty", "logit_bias", "logprobs", "metadata", "presence_penalty", "prompt_cache_key", "seed",
        "service_tier", "stop", "store", "verbosity",
    ]  # fmt: skip
    gemini = asked(sampling=Sampling(presence_penalty=1.0, stop=[" "]), owner="gemini")
    assert sorted(sent(gemini)[1]) == ["presencePenalty", "stopSequences"]
    tool = Tool(name="f", schema={"type": "object"}, strict=True)
    assert sorted(sent(asked(tools=[tool], service_tier="flex", owner="gemini"))[1]) == ["serviceTier", "toolConfig"]


@pytest.mark.parametrize(("detail", "losses"), [("low", ["image_url.detail"]), ("auto", []), (None, [])])
def test_how_closely_a_picture_is_looked_at_is_named_as_lost(detail: str | None, losses: list[str]) -> None:
    picture = Media(kind="image", mime="image/png", data=PNG, detail=detail)
    assert sent(asked(user(picture)))[1] == losses


def test_the_limit_is_always_there_and_within_the_model_s() -> None:
    assert written(asked(limit=None))["max_tokens"] == 64_000
    assert written(asked(limit=None), msgspec.structs.replace(BUDGET, max_output=None))["max_tokens"] == 4096
    assert written(asked(limit=10**6))["max_tokens"] == 64_000
    assert written(asked(limit=500), limit=20)["max_tokens"] == 20


def test_nobody_s_address_is_sent() -> None:
    assert written(asked(user="u-1"))["metadata"] == {"user_id": "u-1"}
    hidden = written(asked(user="bob@example.com"))["metadata"]["user_id"]
    assert (len(hidden), "@" in hidden) == (64, False)
    assert written(asked(user="bob@example.com"))["metadata"]["user_id"] == hidden


@pytest.mark.parametrize(("tier", "sent_as"), [("auto", "auto"), ("priority", "auto"), ("default", "standard_only")])
def test_service_tiers_are_mapped(tier: str, sent_as: str) -> None:
    assert written(asked(service_tier=tier))["service_tier"] == sent_as


# ---- answers in JSON ------------------------------------------------------------------------------------------------

SCHEMA = {"type": "object", "properties": {"a": {"type": "integer", "minimum": 1}}, "required": ["a"]}


def test_an_answer_is_bound_to_its_schema_where_the_model_can_be() -> None:
    """Pitfall 39: never by a tool, which would be confused with real ones."""
    body, losses = sent(asked(format=Format(schema=SCHEMA), tools=[Tool(name="f")]))
    assert body["output_config"]["format"]["schema"]["additionalProperties"] is False
    assert ("system" in body, losses, len(body["tools"])) == (False, [], 1)


@pytest.mark.parametrize("schema", [SCHEMA, {"type": "object"}, {"type": "object", "additionalProperties": True}])
def test_an_answer_is_asked_for_in_words_where_it_cannot_be_bound(schema: dict[str, Any]) -> None:
    caps = OLDER if schema is SCHEMA else BUDGET
    body, losses = sent(asked(format=Format(schema=schema)), caps)
    assert body["system"].startswith(in_words.ONLY_JSON_OF)
    assert json.loads(body["system"].removeprefix(in_words.ONLY_JSON_OF)) == schema
    assert ("output_config" in body, losses) == (False, ["response_format"])


def test_json_without_a_schema_is_asked_for_in_words() -> None:
    body, losses = sent(asked(Message(role="system", parts=[Text(text="s", mark=Mark())]), user(), format=Format()))
    assert [block["text"] for block in body["system"]] == ["s", in_words.ONLY_JSON]
    assert losses == ["response_format"]


def test_strict_tools_stay_strict_where_the_vendor_can() -> None:
    """Pitfall 13 with it: names are required once."""
    twice = {**SCHEMA, "required": ["a", "a"]}
    [tool] = written(asked(tools=[Tool(name="f", schema=twice, strict=True)]))["tools"]
    assert (tool["strict"], tool["input_schema"]["required"]) == (True, ["a"])
    body, losses = sent(asked(tools=[Tool(name="f", schema={"type": "object"}, strict=True)]))
    assert ("strict" in body["tools"][0], losses) == (False, ["strict"])


def test_deep_nesting_is_refused_and_breaks_nothing() -> None:
    schema: dict[str, Any] = {}
    for _ in range(2000):
        schema = {"properties": {"a": schema}}
    with pytest.raises(RelayError) as raised:
        DIALECT.encode_request(asked(tools=[Tool(name="f", schema=schema)]), model="m", limit=None, caps=BUDGET)
    assert raised.value.status == 400
