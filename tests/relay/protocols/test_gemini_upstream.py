"""What a Gemini upstream is asked for: contents, tools, JSON, sampling, thinking."""

import json
from typing import Any

import msgspec
import pytest

from relay.errors import Cause, RelayError
from relay.protocols import capabilities, turns
from relay.protocols.canonical import (
    Format,
    Media,
    Message,
    Opaque,
    Raw,
    Reasoning,
    Refusal,
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
from relay.protocols.gemini import DIALECT
from tests.relay.protocols.gemini_asked import ask, contents, said
from tests.relay.protocols.gemini_wire import (
    CAPS_3,
    CAPS_25,
    CAPS_OLD,
    PICTURE,
    SIGNATURE,
    encoded,
    wire,
)

# ---- what is written for upstreams ----------------------------------------------------------------------------------


def test_turns_alternate_and_begin_with_the_user() -> None:
    """System turns in between become the user's: hoisting them would change what they mean."""
    request = ask(
        said("Be brief.", role="system"),
        said("Hi!", role="assistant"),
        said("a"),
        said("From now on, be long.", role="system"),
        said("", "b"),
        said(Refusal(text="No."), role="assistant"),
        said("c"),
    )
    body = encoded(request)
    assert body["systemInstruction"] == {"parts": [{"text": "Be brief."}]}
    first, *rest = contents(request)
    assert first[0] == "user"
    assert rest == [
        ("model", [{"text": "Hi!"}]),
        ("user", [{"text": "a"}, {"text": "<system>\nFrom now on, be long.\n</system>"}, {"text": "b"}]),
        ("model", [{"text": "No."}]),
        ("user", [{"text": "c"}]),
    ]


def test_a_system_message_alone_is_asked_as_the_user_s() -> None:
    body = encoded(ask(said("Say hello.", role="system")))
    assert body == {"contents": [{"role": "user", "parts": [{"text": "Say hello."}]}]}


def test_without_anything_to_answer_it_is_refused() -> None:
    with pytest.raises(RelayError) as refused:
        encoded(ask(said("")))
    assert refused.value.cause is Cause.INVALID_MESSAGES


CALLS = said(
    ToolCall(id="a", name="f", arguments='{"x":1}'), ToolCall(id="b", name="g", arguments=""), role="assistant"
)


def test_results_stand_alone_in_one_content_as_many_as_there_were_calls() -> None:
    """Pitfalls 11 and 20: one that is missing is told as a failure, one without a call as text; the function's name,
    which other protocols do not send, is looked up."""
    request = ask(
        said("x"),
        CALLS,
        said(
            "and then?",
            ToolResult(call="zzz", parts=[Text(text="lost")]),
            ToolResult(call="b", parts=[Text(text="{}")]),
        ),
    )
    _, (_, calls), (_, results), (role, rest) = contents(request)
    assert calls == [
        {"functionCall": {"id": "a", "name": "f", "args": {"x": 1}}}, {"functionCall": {"id": "b", "name": "g"}},
    ]  # fmt: skip
    assert results == [
        {"functionResponse": {"id": "a", "name": "f", "response": {"error": turns.NO_RESULT}}},
        {"functionResponse": {"id": "b", "name": "g", "response": {"result": "{}"}}},
    ]
    assert (role, rest) == ("user", [{"text": "and then?"}, {"text": "<tool_result>\nlost\n</tool_result>"}])


def test_calls_at_the_end_are_answered_too() -> None:
    assert [role for role, _ in contents(ask(said("x"), CALLS))] == ["user", "model", "user"]


def test_calls_of_one_id_are_told_apart() -> None:
    """Some models begin to count anew with every turn: each result has its own function's name."""
    again = (said(ToolCall(id="c", name="f"), role="assistant"), said(ToolResult(call="c", parts=[Text(text="r")])))
    twice = (
        said(ToolCall(id="c", name="g"), ToolCall(id="c", name="h"), role="assistant"),
        said(ToolResult(call="c", parts=[Text(text="G")]), ToolResult(call="c", parts=[Text(text="H")])),
    )
    parts = [part for _, found in contents(ask(said("x"), *again, *twice)) for part in found]
    assert [part["functionCall"]["id"] for part in parts if "functionCall" in part] == ["c", "c_2", "c_3"]
    assert [part["functionResponse"] for part in parts if "functionResponse" in part] == [
        {"id": "c", "name": "f", "response": {"result": "r"}},
        {"id": "c_2", "name": "g", "response": {"result": "G"}},
        {"id": "c_3", "name": "h", "response": {"result": "H"}},
    ]


def test_a_second_result_of_a_call_is_told_as_text() -> None:
    call, results = ToolCall(id="c", name="f"), [ToolResult(call="c", parts=[Text(text=text)]) for text in "12"]
    _, _, (_, answers), (_, rest) = contents(ask(said("x"), said(call, role="assistant"), said(*results)))
    assert [part["functionResponse"]["response"] for part in answers] == [{"result": "1"}]
    assert rest == [{"text": "<tool_result>\n2\n</tool_result>"}]


SHOWN = ToolResult(call="a", parts=[Text(text="the map"), Media(kind="image", mime="image/png", data=PICTURE)])


INLINE = {"inlineData": {"mimeType": "image/png", "data": PICTURE}}


def test_a_picture_in_a_result_is_never_dropped() -> None:
    """Pitfall 22. Models from 3 on have a place for it; for others it follows, and not beside the results."""
    request = ask(said("x"), CALLS, said(SHOWN, ToolResult(call="b")))
    _, _, (_, (with_picture, plain)) = contents(request, CAPS_3)
    assert with_picture["functionResponse"]["parts"] == [INLINE]
    assert "parts" not in plain["functionResponse"]
    _, _, (_, results), (_, after) = contents(request, CAPS_25)
    assert [set(part) for part in results] == [{"functionResponse"}] * 2
    assert INLINE in after


@pytest.mark.parametrize("caps", [CAPS_3, CAPS_25], ids=["3", "2.5"])
def test_a_picture_in_a_result_without_its_call_stands_where_it_was_said(caps: Capabilities) -> None:
    assert contents(ask(said("a"), said(SHOWN), said("b")), caps) == [
        ("user", [
            {"text": "a"}, {"text": "<tool_result>\nthe map"}, INLINE, {"text": "</tool_result>"}, {"text": "b"},
        ]),
    ]  # fmt: skip


def test_a_picture_that_the_system_shows_is_shown_by_the_user() -> None:
    """The system's instruction is text alone."""
    shown = said("the logo:", Media(kind="image", mime="image/png", data=PICTURE), role="system")
    body = encoded(ask(shown, said("so?")))
    assert body["systemInstruction"] == {"parts": [{"text": "the logo:"}]}
    assert body["contents"] == [{"role": "user", "parts": [INLINE, {"text": "so?"}]}]
    later = contents(ask(said("a"), said("b", role="assistant"), shown, said("so?")))
    assert later[2] == ("user", [{"text": "<system>\nthe logo:\n</system>"}, INLINE, {"text": "so?"}])


def test_the_first_call_of_each_step_bears_a_signature_from_gemini_3_on() -> None:
    """Pitfall 14: its own where there is one, else the word that Google has for it; siblings have none."""
    own = Opaque("gemini", SIGNATURE)
    foreign = Opaque("anthropic", "sig")
    request = ask(
        said("x"),
        said(ToolCall(id="a", name="f", state=own), ToolCall(id="b", name="f"), role="assistant"),
        said(ToolResult(call="a"), ToolResult(call="b")),
        said("Hm.", ToolCall(id="c", name="f", state=foreign), ToolCall(id="d", name="f"), role="assistant"),
        said(ToolResult(call="c"), ToolResult(call="d")),
    )

    def found(caps: Capabilities) -> list[str | None]:
        parts = [part for role, content in contents(request, caps) for part in content if role == "model"]
        return [part.get("thoughtSignature") for part in parts if "functionCall" in part]

    assert found(CAPS_3) == [SIGNATURE, None, "skip_thought_signature_validator", None]
    assert found(CAPS_25) == [SIGNATURE, None, None, None]


def test_another_vendor_s_state_never_leaves_and_its_thoughts_stay() -> None:
    """Pitfalls 15 and 18."""
    foreign, own = Opaque("anthropic", "EqQBforeign"), Opaque("gemini", SIGNATURE)
    request = ask(
        said("x"),
        said(
            Reasoning(text="Hm.", state=foreign),
            Reasoning(state=foreign, redacted=True),
            Text(text="", state=foreign),
            Reasoning(text="Own.", state=own, summary=True),
            "42",
            role="assistant",
        ),
        said("y"),
    )
    assert contents(request)[1] == (
        "model",
        [
            {"text": "Hm.", "thought": True},
            {"text": "Own.", "thought": True, "thoughtSignature": SIGNATURE},
            {"text": "42"},
        ],
    )
    assert b"EqQBforeign" not in msgspec.json.encode(encoded(request))


@pytest.mark.parametrize(
    ("part", "written"),
    [
        (Media(kind="image", data=PICTURE), INLINE),
        (Media(kind="image", mime="image/jpeg", data=PICTURE), INLINE),
        (Media(kind="document", data="JVBERi0x"), {"inlineData": {"mimeType": "application/pdf", "data": "JVBERi0x"}}),
        (Media(kind="document", text="Hé"), {"inlineData": {"mimeType": "text/plain", "data": "SMOp"}}),
        (Media(kind="audio", mime="audio/mp3", data="AAAA"), {"inlineData": {"mimeType": "audio/mp3", "data": "AAAA"}}),
        (Media(kind="image", url=f"data:image/png;base64,{PICTURE}"), INLINE),
        (
            Media(kind="image", url="https://a.example/1.jpg"),
            {"fileData": {"fileUri": "https://a.example/1.jpg"}},
        ),
        (
            Media(kind="document", mime="application/pdf", file="files/abc", owner="gemini"),
            {"fileData": {"fileUri": "files/abc", "mimeType": "application/pdf"}},
        ),
    ],
)
def test_media_are_written_with_their_true_type(part: Media, written: dict[str, Any]) -> None:
    assert contents(ask(said(part)))[0][1] == [written]


@pytest.mark.parametrize(
    ("request_", "caps", "cause"),
    [
        (ask(said(Media(kind="document", file="file-1", owner="openai"))), CAPS_25, Cause.INVALID_MESSAGES),
        (ask(said(Raw(owner="anthropic", label="search_result", value={}))), CAPS_25, Cause.INVALID_MESSAGES),
        (
            ask(said(Raw(owner="openai", label="input_video", value={}), role="system"), said("x")),
            CAPS_25,
            Cause.INVALID_MESSAGES,
        ),
        (
            ask(said(Media(kind="audio", data="AAAA"))),
            Capabilities(input=frozenset(("text",))),
            Cause.INVALID_MESSAGES,
        ),
        (
            ask(tools=[Tool(name="w", raw=Raw(owner="anthropic", label="web_search_20260101", value={}))]),
            CAPS_25,
            Cause.INVALID_PARAMETER,
        ),
        (ask(tools=[Tool(name="f")]), Capabilities(tools=False), Cause.INVALID_PARAMETER),
    ],
)
def test_what_gemini_cannot_be_asked_is_a_clear_400(request_: Request, caps: Capabilities, cause: Cause) -> None:
    with pytest.raises(RelayError) as refused:
        DIALECT.encode_request(request_, model="m", limit=None, caps=caps)
    assert (refused.value.cause, refused.value.status) == (cause, 400)


def test_what_another_vendor_s_model_did_by_itself_is_passed_over_by_name() -> None:
    search = Raw(owner="responses", label="web_search_call", value={})
    turns_ = (said(Text(text="x")), said(search, Text(text="y"), role="assistant"), said(Text(text="z")))
    sent = DIALECT.encode_request(ask(*turns_), model="m", limit=None, caps=CAPS_25)
    assert ([turn["parts"] for turn in sent.body["contents"]], sent.losses) == (
        [[{"text": "x"}], [{"text": "y"}], [{"text": "z"}]],
        ["web_search_call"],
    )
    code = Raw(owner="gemini", label="executableCode", value={"executableCode": {"code": "1"}})
    own = ask(said(Text(text="x")), said(code, role="assistant"), said(Text(text="z")))
    assert encoded(own, CAPS_25)["contents"][1]["parts"] == [code.value]


# ---- tools ----------------------------------------------------------------------------------------------------------


SCHEMA = {"type": "object", "properties": {"x": {"const": 1}}, "$schema": "s", "additionalProperties": False}


def test_json_schema_goes_as_it_is_where_the_model_takes_it_else_in_gemini_s_dialect() -> None:
    """Pitfall 12."""
    tools = [Tool(name="f", description="d", schema=SCHEMA), Tool(name="g", schema={"type": "object"}), Tool(name="h")]
    declared = encoded(ask(tools=tools))["tools"][0]["functionDeclarations"]
    assert declared == [
        {"name": "f", "description": "d", "parametersJsonSchema": SCHEMA}, {"name": "g"}, {"name": "h"},
    ]  # fmt: skip
    old = encoded(ask(tools=tools), CAPS_OLD)["tools"][0]["functionDeclarations"]
    assert "parametersJsonSchema" not in old[0]
    assert old[0]["parameters"]["type"] == "OBJECT"
    assert set(old[0]["parameters"]) == {"type", "properties", "propertyOrdering"}
    assert old[1:] == declared[1:]


def test_long_and_strange_names_are_shortened_everywhere_and_told_back() -> None:
    """Pitfall 17: the same name comes out the same, in the history and in the choice."""
    long = "mcp__" + "x" * 100
    request = ask(
        said("x"),
        said(ToolCall(id="a", name=long), role="assistant"),
        said(ToolResult(call="a")),
        tools=[Tool(name=long), Tool(name="7 seas")],
        choice=ToolChoice(mode="tool", names=[long]),
    )
    sent = DIALECT.encode_request(request, model="m", limit=None, caps=CAPS_25)
    first, second = (declared["name"] for declared in sent.body["tools"][0]["functionDeclarations"])
    assert sent.names == {first: long, second: "7 seas"}
    assert len(first) == 64
    assert second[0] == "_"
    assert sent.body["toolConfig"]["functionCallingConfig"]["allowedFunctionNames"] == [first]
    model, results = sent.body["contents"][1:3]
    assert model["parts"][0]["functionCall"]["name"] == results["parts"][0]["functionResponse"]["name"] == first


def test_a_tool_with_free_text_becomes_a_function_with_one_argument() -> None:
    """Pitfall 36, for a protocol without such tools."""
    request = ask(
        said("x"),
        said(ToolCall(id="a", name="patch", arguments="*** Begin", custom=True), role="assistant"),
        said(ToolResult(call="a", custom=True)),
        tools=[Tool(name="patch", description="d", custom=True)],
    )
    sent = DIALECT.encode_request(request, model="m", limit=None, caps=CAPS_25)
    assert sent.customs == {"patch"}
    assert "input" in sent.body["tools"][0]["functionDeclarations"][0]["parametersJsonSchema"]["properties"]
    assert contents(request)[1][1][0]["functionCall"]["args"] == {"input": "*** Begin"}


@pytest.mark.parametrize(
    ("choice", "mode", "allowed"),
    [
        (ToolChoice(mode="auto"), "AUTO", None),
        (ToolChoice(mode="any"), "ANY", None),
        (ToolChoice(mode="none"), "NONE", None),
        (ToolChoice(mode="tool", names=["g"]), "ANY", ["g"]),
        (ToolChoice(mode="any", names=["f", "g"]), "ANY", ["f", "g"]),
        (ToolChoice(mode="auto", names=["g"]), "VALIDATED", ["g"]),
    ],
)
def test_every_choice_is_a_mode(choice: ToolChoice, mode: str, allowed: list[str] | None) -> None:
    config = encoded(ask(tools=[Tool(name="f"), Tool(name="g")], choice=choice))["toolConfig"]["functionCallingConfig"]
    assert (config["mode"], config.get("allowedFunctionNames")) == (mode, allowed)


def test_strict_tools_are_validated_and_parallel_calls_cannot_be_switched_off() -> None:
    request = ask(tools=[Tool(name="f", strict=True)], parallel=False)
    sent = DIALECT.encode_request(request, model="m", limit=None, caps=CAPS_25)
    assert sent.body["toolConfig"]["functionCallingConfig"] == {"mode": "VALIDATED"}
    assert sent.losses == ["parallel_tool_calls"]


def test_a_demand_for_tools_degrades_where_the_model_knows_none() -> None:
    request = ask(tools=[Tool(name="f")], choice=ToolChoice(mode="any"))
    sent = DIALECT.encode_request(request, model="m", limit=None, caps=Capabilities(forced_tools=False))
    assert sent.body["toolConfig"]["functionCallingConfig"] == {"mode": "AUTO"}
    assert sent.losses == ["tool_choice"]


# ---- JSON, sampling, thinking ---------------------------------------------------------------------------------------


FORMAT = Format(schema={"type": "object", "properties": {"n": {"type": "integer"}}}, name="n")


def test_a_format_is_bound_by_json_schema_or_by_gemini_s_dialect() -> None:
    assert encoded(ask(format=FORMAT))["generationConfig"] == {
        "responseMimeType": "application/json", "responseJsonSchema": FORMAT.schema,
    }  # fmt: skip
    assert encoded(ask(format=FORMAT), CAPS_OLD)["generationConfig"]["responseSchema"] == {
        "type": "OBJECT", "properties": {"n": {"type": "INTEGER"}}, "propertyOrdering": ["n"],
    }  # fmt: skip
    assert encoded(ask(format=Format()))["generationConfig"] == {"responseMimeType": "application/json"}


@pytest.mark.parametrize(
    ("caps", "choice", "bound", "tools", "told"),
    [
        (CAPS_3, None, True, True, False),
        (CAPS_3, ToolChoice(mode="any"), False, True, False),
        (CAPS_25, None, False, True, True),
        (CAPS_25, ToolChoice(mode="tool", names=["f"]), False, True, False),
        (CAPS_25, ToolChoice(mode="none"), True, False, False),
    ],
)
def test_a_forced_tool_and_a_format_never_go_together(
    caps: Capabilities, choice: ToolChoice | None, bound: bool, tools: bool, told: bool
) -> None:
    """Mode ANY with JSON is refused by every model; older ones take no format beside tools and are told in words."""
    request = ask(format=FORMAT, tools=[Tool(name="f")], choice=choice)
    sent = DIALECT.encode_request(request, model="m", limit=None, caps=caps)
    assert ("responseMimeType" in sent.body.get("generationConfig", {})) is bound
    assert ("tools" in sent.body) is tools
    assert ("JSON Schema" in json.dumps(sent.body.get("systemInstruction"))) is told
    assert sent.losses == ([] if bound else ["response_format"])


def test_sampling_is_written_and_what_cannot_be_had_is_named_as_the_client_named_it() -> None:
    sampling = Sampling(
        temperature=3.0, top_p=0.5, top_k=9, frequency_penalty=1, presence_penalty=2, seed=2**40 + 7,
        stop=["a", "", "b", "c", "d", "e", "f"], logprobs=3, logit_bias={"1": 2.0},
    )  # fmt: skip
    request = ask(
        sampling=sampling,
        limit=100,
        verbosity="low",
        service_tier="priority",
        extra={"store": True, "modalities": ["text"]},
    )
    sent = DIALECT.encode_request(request, model="m", limit=50, caps=CAPS_25)
    assert sent.body["generationConfig"] == {
        "temperature": 2.0, "topP": 0.5, "topK": 9, "frequencyPenalty": 1, "presencePenalty": 2, "seed": 7,
        "stopSequences": ["a", "b", "c", "d", "e"], "maxOutputTokens": 50,
    }  # fmt: skip
    assert sent.losses == ["stop", "logprobs", "logit_bias", "store", "modalities", "service_tier", "verbosity"]
    anthropic = ask(sampling=Sampling(stop=list("abcdef"), top_k=1), owner="anthropic")
    sent = DIALECT.encode_request(anthropic, model="m", limit=None, caps=Capabilities(sampling=False))
    assert sent.losses == ["top_k", "stop_sequences"]


def test_what_gemini_has_no_field_for_is_named() -> None:
    named = Message(role="user", parts=[Text(text="x")], name="bob")
    request = ask(
        named, metadata={"a": "b"}, cache_key="k", verbosity="low", user="u", thinking=Thinking(effort="bogus")
    )
    sent = DIALECT.encode_request(request, model="m", limit=None, caps=CAPS_25)
    assert sorted(sent.losses) == ["metadata", "name", "prompt_cache_key", "reasoning_effort", "user", "verbosity"]
    theirs = DIALECT.encode_request(ask(user="u", owner="anthropic"), model="m", limit=None, caps=CAPS_25)
    assert theirs.losses == ["metadata.user_id"]
    assert "generationConfig" not in sent.body


def test_a_picture_without_the_signature_it_was_drawn_with_is_shown_to_the_model_from_gemini_3_on() -> None:
    """In the model's own turn it is refused: "Image part is missing a thought_signature in content position 2"."""
    unsigned = Media(kind="image", mime="image/png", data=PICTURE)
    own = msgspec.structs.replace(unsigned, state=Opaque("gemini", SIGNATURE))
    foreign = msgspec.structs.replace(unsigned, state=Opaque("anthropic", "c"))
    inline = {"inlineData": {"mimeType": "image/png", "data": PICTURE}}

    def found(drawn: Media, caps: Capabilities, *last: Message) -> list[tuple[str, list[dict[str, Any]]]]:
        return contents(ask(said("Draw."), said("Here:", drawn, role="assistant"), *last), caps)[1:]

    seen = [{"text": "What you drew:"}, inline]
    here, red = {"text": "Here:"}, {"text": "In red."}
    for drawn in (unsigned, foreign):
        assert found(drawn, CAPS_3, said("In red.")) == [("model", [here]), ("user", [*seen, red])]
    assert found(unsigned, CAPS_3) == [("model", [here]), ("user", seen)]
    signed = {**inline, "thoughtSignature": SIGNATURE}
    assert found(own, CAPS_3, said("In red.")) == [("model", [here, signed]), ("user", [red])]
    assert found(unsigned, CAPS_25, said("In red.")) == [("model", [here, inline]), ("user", [red])]


def test_models_that_draw_are_asked_for_pictures() -> None:
    sent = DIALECT.encode_request(
        ask(extra={"modalities": ["image", "text"]}),
        model="m",
        limit=None,
        caps=capabilities.of("gemini-2.5-flash-image", "gemini"),
    )
    assert sent.body["generationConfig"] == {"responseModalities": ["TEXT", "IMAGE"]}
    assert sent.losses == []


@pytest.mark.parametrize(
    ("detail", "caps", "level", "losses"),
    [
        ("low", CAPS_3, {"level": "MEDIA_RESOLUTION_LOW"}, []),
        ("high", CAPS_3, {"level": "MEDIA_RESOLUTION_HIGH"}, []),
        ("original", CAPS_3, None, ["image_url.detail"]),
        ("auto", CAPS_3, None, []),
        ("low", CAPS_25, None, ["image_url.detail"]),
        ("auto", CAPS_25, None, []),
        (None, CAPS_25, None, []),
    ],
)
def test_how_closely_a_picture_is_looked_at_is_told_or_named_as_lost(
    detail: str | None, caps: Capabilities, level: Any, losses: list[str]
) -> None:
    """The level of a single part is there from Gemini 3 on (Google, "Media resolution")."""
    seen = Media(kind="image", mime="image/png", data=PICTURE, detail=detail)
    sent = DIALECT.encode_request(ask(said(seen)), model="m", limit=None, caps=caps)
    assert (sent.body["contents"][0]["parts"][0].get("mediaResolution"), sent.losses) == (level, losses)


def test_inside_a_function_s_response_no_picture_has_a_resolution() -> None:
    picture = Media(kind="image", mime="image/png", data=PICTURE, detail="low")
    call = said(ToolCall(id="a", name="f"), role="assistant")
    request = ask(said("x"), call, said(ToolResult(call="a", parts=[picture])))
    for result_media, losses in ((True, ["image_url.detail"]), (False, [])):
        caps = msgspec.structs.replace(CAPS_3, result_media=result_media)
        sent = DIALECT.encode_request(request, model="m", limit=None, caps=caps)
        assert (("mediaResolution" in json.dumps(sent.body)), sent.losses) == (not losses, losses)


PRO_25, FLASH_3 = capabilities.of("gemini-2.5-pro", "gemini"), capabilities.of("gemini-3-flash", "gemini")


@pytest.mark.parametrize(
    ("thinking", "caps", "config"),
    [
        (Thinking(effort="none"), CAPS_25, {"thinkingBudget": 0, "includeThoughts": False}),
        (Thinking(effort="none"), PRO_25, {"thinkingBudget": 128, "includeThoughts": False}),
        (Thinking(effort="minimal"), CAPS_25, {"thinkingBudget": 512, "includeThoughts": True}),
        (Thinking(effort="low"), CAPS_25, {"thinkingBudget": 1024, "includeThoughts": True}),
        (Thinking(effort="medium"), CAPS_25, {"thinkingBudget": 2048, "includeThoughts": True}),
        (Thinking(effort="high", visible=False), CAPS_25, {"thinkingBudget": 4096, "includeThoughts": False}),
        (Thinking(budget=-1), CAPS_25, {"thinkingBudget": -1, "includeThoughts": True}),
        (Thinking(budget=3), CAPS_25, {"thinkingBudget": 512, "includeThoughts": True}),
        (Thinking(effort="none"), CAPS_3, {"thinkingLevel": "LOW", "includeThoughts": False}),
        (Thinking(effort="none"), FLASH_3, {"thinkingLevel": "MINIMAL", "includeThoughts": False}),
        (Thinking(effort="medium"), CAPS_3, {"thinkingLevel": "HIGH", "includeThoughts": True}),
        (Thinking(effort="medium"), FLASH_3, {"thinkingLevel": "MEDIUM", "includeThoughts": True}),
        (Thinking(effort="xhigh"), FLASH_3, {"thinkingLevel": "HIGH", "includeThoughts": True}),
        (Thinking(budget=2048), FLASH_3, {"thinkingLevel": "MEDIUM", "includeThoughts": True}),
        (Thinking(budget=-1), CAPS_3, {"includeThoughts": True}),
        (Thinking(adaptive=True), CAPS_3, {"includeThoughts": True}),
    ],
)
def test_thinking_is_asked_for_as_the_model_is_told(
    thinking: Thinking, caps: Capabilities, config: dict[str, Any]
) -> None:
    assert encoded(ask(thinking=thinking), caps)["generationConfig"]["thinkingConfig"] == config


@pytest.mark.parametrize(
    ("model", "effort", "level"),
    [
        ("gemini-3.1-pro-preview", "medium", "MEDIUM"), ("gemini-3.1-pro-preview", "minimal", "LOW"),
        ("gemini-3.8-flash", "minimal", "LOW"), ("gemini-3.8-flash", "none", "LOW"),
        ("gemini-3.6-flash", "minimal", "MINIMAL"), ("gemini-3-pro-preview", "medium", "HIGH"),
        ("gemini-flash-latest", "medium", "MEDIUM"), ("gemini-flash-lite-latest", "none", "LOW"),
    ],
)  # fmt: skip
def test_each_model_is_told_a_level_of_its_own(model: str, effort: str, level: str) -> None:
    """3.1 Pro and, from 3.7 on, Flash have LOW, MEDIUM and HIGH, and no MINIMAL."""
    caps = capabilities.of(model, "gemini")
    told = encoded(ask(thinking=Thinking(effort=effort)), caps)["generationConfig"]["thinkingConfig"]
    assert told["thinkingLevel"] == level


def test_a_model_that_cannot_think_loses_the_wish_but_not_the_wish_not_to() -> None:
    for thinking, losses in ((Thinking(effort="high"), ["reasoning_effort"]), (Thinking(effort="none"), [])):
        sent = DIALECT.encode_request(ask(thinking=thinking), model="m", limit=None, caps=CAPS_OLD)
        assert (sent.losses, "generationConfig" in sent.body) == (losses, False)


def test_what_only_gemini_knows_goes_back_to_where_it_stood() -> None:
    body = encoded(DIALECT.read(wire("request_chat.json"), model="m").canonical())
    given = json.loads(wire("request_chat.json"))
    for name in ("safetySettings", "serviceTier"):
        assert body[name] == given[name]
    for name in ("mediaResolution", "responseModalities"):
        assert body["generationConfig"][name] == given["generationConfig"][name]
    tools = encoded(DIALECT.read(wire("request_tools.json"), model="m").canonical())
    assert tools["tools"][1:] == [{"googleSearch": {}}, {"urlContext": {}}]
    assert tools["toolConfig"]["retrievalConfig"] == {"languageCode": "en"}


def test_the_same_history_is_written_with_the_same_bytes() -> None:
    """Pitfall 44: an upstream's cache of a prefix lives by it."""
    body = wire("request_tools.json")
    first, second = (
        msgspec.json.encode(
            DIALECT.encode_request(DIALECT.read(body).canonical(), model="m", limit=None, caps=CAPS_3).body
        )
        for _ in range(2)
    )
    assert first == second
