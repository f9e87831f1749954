"""Bodies as providers take them; rows of the table; addresses and headers."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.channels import dress, presets, quirks
from relay.channels.presets import PLAIN, Quirks

BODY = {"model": "m", "messages": [{"role": "user", "content": "hi", "name": "ann"}], "stream": True}


def applied(name: str, body: dict[str, Any], parameters: dict[str, Any] | None = None) -> tuple[Any, tuple[str, ...]]:
    edited = quirks.apply(json.dumps(body).encode(), presets.of(name).quirks, parameters)
    return json.loads(edited.body), edited.dropped


@given(st.binary(max_size=300))
def test_a_provider_without_quirks_gets_the_very_bytes(body: bytes) -> None:
    edited = quirks.apply(body, PLAIN)
    assert edited.body is body
    assert edited.dropped == ()


@pytest.mark.parametrize("name", [row.name for row in presets.TABLE if row.quirks.edits and not row.quirks.only])
def test_a_body_that_no_quirk_concerns_is_not_read(name: str) -> None:
    body = b'{"model": "m", "messages": this is not even JSON'
    assert quirks.apply(body, presets.of(name).quirks).body is body


def test_mistral_gets_only_fields_that_it_knows_under_its_own_names() -> None:
    asked = {
        **BODY, "max_completion_tokens": 9, "seed": 4, "store": False, "user": "u", "tool_choice": "required",
        "stream_options": {"include_usage": True},
    }  # fmt: skip
    sent, dropped = applied("mistral", asked)
    assert sent == {**BODY, "max_tokens": 9, "random_seed": 4, "tool_choice": "any"}
    assert dropped == ("store", "user")


def test_mistral_s_embeddings_and_moderations_keep_their_input_and_lose_what_it_does_not_know() -> None:
    found = presets.of("mistral").quirks
    asked = {"model": "m", "input": "hi", "dimensions": 8, "encoding_format": "base64", "user": "u"}
    edited = quirks.apply(json.dumps(asked).encode(), found.of("embedding"))
    assert json.loads(edited.body) == {"model": "m", "input": "hi", "output_dimension": 8, "encoding_format": "base64"}
    assert edited.dropped == ("user",)
    edited = quirks.apply(b'{"model": "m", "input": ["a", "b"], "user": "u"}', found.of("moderation"))
    assert json.loads(edited.body) == {"model": "m", "input": ["a", "b"]}


OTHER_KINDS = [
    ("embedding", {"model": "m", "input": ["a"], "encoding_format": "float"}),
    ("moderation", {"model": "m", "input": "a"}),
    ("rerank", {"model": "m", "query": "q", "documents": ["a"], "top_n": 1, "return_documents": True}),
]


@pytest.mark.parametrize("name", [row.name for row in presets.TABLE])
@pytest.mark.parametrize(("kind", "body"), OTHER_KINDS)
def test_no_provider_s_quirks_of_chats_touch_calls_of_another_kind(name: str, kind: str, body: dict[str, Any]) -> None:
    edited = quirks.apply(json.dumps(body).encode(), presets.of(name).quirks.of(kind))
    assert (json.loads(edited.body), edited.dropped) == (body, ())


def _thinking(**beside: Any) -> dict[str, Any]:
    call = {
        "id": "D681PevKs",
        "type": "function",
        "function": {"name": "f", "arguments": '{"reasoning": "extra_content"}'},
    }
    message = {"role": "assistant", "content": "reasoning_content", "tool_calls": [call | beside, call]}
    return {"model": "m", "messages": [message | beside, {"role": "tool", "tool_call_id": "D681PevKs", "content": "r"}]}


@pytest.mark.parametrize("name", ["mistral", "groq"])
def test_thoughts_of_other_models_do_not_reach_providers_that_refuse_them_and_nobody_is_told(name: str) -> None:
    """422 "Extra inputs are not permitted" (Mistral), 400 "property 'reasoning_content' is unsupported" (Groq)."""
    thoughts = {"reasoning_content": "Hm.", "reasoning_details": [{"text": "Hm."}], "extra_content": {"google": {}}}
    assert applied(name, _thinking(**thoughts)) == (_thinking(), ())
    own = {"reasoning": "Hm."}
    assert applied(name, _thinking(**own)) == (_thinking(**own) if name == "groq" else _thinking(), ())


def test_an_answer_of_ours_may_come_back_to_mistral_whole() -> None:
    answer: dict[str, Any] = {"role": "assistant", "content": "hi", "refusal": None, "annotations": [], "audio": None}
    body, dropped = applied("mistral", {"model": "m", "messages": [answer]})
    assert (body["messages"], dropped) == ([{"role": "assistant", "content": "hi"}], ())
    refused = {"role": "assistant", "content": None, "refusal": "No."}
    body, dropped = applied("mistral", {"model": "m", "messages": [refused]})
    assert (body["messages"], dropped) == ([{"role": "assistant", "content": None}], ("messages[].refusal",))


def test_deepseek_is_told_of_a_developer_as_the_system() -> None:
    """400 "unknown variant `developer`, expected one of `system`, `user`, `assistant`, `tool`"."""
    messages = [{"role": "developer", "content": "developer"}, {"role": "user", "content": "hi"}]
    sent, dropped = applied("deepseek", {"model": "m", "messages": messages})
    assert (sent["messages"], dropped) == ([{"role": "system", "content": "developer"}, messages[1]], ())
    other = {"model": "m", "messages": [{"role": "user", "content": '"developer"'}]}
    assert applied("deepseek", other) == (other, ())
    assert applied("openai", {"model": "m", "messages": messages})[0]["messages"] == messages


def test_google_s_openai_compatible_address_gets_no_field_that_it_cannot_find() -> None:
    asked = {**BODY, "store": False, "metadata": {}, "frequency_penalty": 0.5, "presence_penalty": 0.5}
    edited = quirks.apply(json.dumps(asked).encode(), presets.of("gemini").quirks_for("openai"))
    assert json.loads(edited.body) == {**BODY, "presence_penalty": 0.5}
    assert edited.dropped == ("frequency_penalty", "metadata", "store")
    body = b'{"generationConfig": {"frequencyPenalty": 0.5}, "store": false}'
    assert quirks.apply(body, presets.of("gemini").quirks_for("gemini")).body is body


def test_calls_that_other_models_made_come_to_mistral_with_ids_that_it_takes() -> None:
    """400 "Tool call id was call_abc but must be a-z, A-Z, 0-9, with a length of 9."."""
    ids = ("call_PTLP8xhu3uwZk4l3nlnrrJha", "toolu_01A09q90qw90lq917835lq9", "D681PevKs")
    calls = [{"id": one, "type": "function", "function": {"name": "f", "arguments": "{}"}} for one in ids]
    results = [{"role": "tool", "tool_call_id": one, "content": "r"} for one in ids]
    asked = {"model": "m", "messages": [{"role": "assistant", "tool_calls": calls, "refusal": None}, *results]}
    sent, dropped = applied("mistral", asked)
    said = [call["id"] for call in sent["messages"][0]["tool_calls"]]
    assert [message["tool_call_id"] for message in sent["messages"][1:]] == said
    assert all(re.fullmatch("[a-zA-Z0-9]{9}", one) for one in said)
    assert (len(set(said)), said[2], dropped) == (3, "D681PevKs", ())
    assert applied("mistral", asked)[0] == sent, "the prefix stays as it is, for caches"
    assert applied("openai", asked)[0] == asked


@pytest.mark.parametrize("calls", [None, "x", ["x"]])
def test_calls_of_another_shape_are_left_to_the_provider(calls: Any) -> None:
    body = {"model": "m", "messages": [{"role": "assistant", "tool_calls": calls, "reasoning_content": "Hm."}]}
    sent, _ = applied("mistral", body)
    assert sent == {"model": "m", "messages": [{"role": "assistant", "tool_calls": calls}]}


@pytest.mark.parametrize("name", ["openai", "deepseek", "moonshot", "zhipu", "openrouter", "dashscope", "custom"])
def test_thoughts_go_back_to_providers_that_want_them_or_do_not_mind(name: str) -> None:
    body = json.dumps(_thinking(reasoning_content="Hm.")).encode()
    assert quirks.apply(body, presets.of(name).quirks).body is body


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("service_tier", "priority"), ("serviceTier", "SERVICE_TIER_PRIORITY"), ("speed", "fast"),
        ("service_tier", "fast"), ("service_tier", "ultrafast"), ("inference_geo", "us"),
    ],
)  # fmt: skip
def test_what_a_vendor_bills_at_rates_of_its_own_is_not_had_for_the_usual_price(name: str, value: str) -> None:
    body = json.dumps({"model": "m", name: value, "messages": []}).encode()
    assert quirks.apply(body, PLAIN) == quirks.Edited(b'{"model":"m","messages":[]}', (name,))
    escaped = body.replace(name.encode(), name[:-1].encode() + b"\\u%04x" % ord(name[-1]))
    assert quirks.apply(escaped, PLAIN) == quirks.Edited(b'{"model":"m","messages":[]}', (name,))
    asked = json.loads(quirks.apply(body, PLAIN, {name: value}).body)
    assert asked[name] == value, "the operator asks for it"


@pytest.mark.parametrize(
    ("name", "value"),
    [("fallbacks", [{"model": "claude-opus-5-5", "speed": "fast"}]), ("fallbacks", "default"), ("models", ["a/b"])],
)
def test_no_other_model_than_the_one_that_was_priced_answers_instead(name: str, value: Any) -> None:
    body = json.dumps({"model": "m", "messages": [], name: value}).encode()
    assert quirks.apply(body, PLAIN) == quirks.Edited(b'{"model":"m","messages":[]}', (name,))
    assert json.loads(quirks.apply(body, PLAIN, {name: value}).body)[name] == value, "the operator asks for it"
    for nothing in ("null", "[]"):
        empty = f'{{"model":"m","{name}":{nothing}}}'.encode()
        assert quirks.apply(empty, PLAIN).body is empty


@pytest.mark.parametrize("kind", ["advisor_20260301", "openrouter:advisor", "openrouter:fusion"])
def test_no_other_model_advises_the_one_that_was_priced(kind: str) -> None:
    adviser, own = {"type": kind, "name": "advisor", "model": "claude-opus-5-5"}, {"name": "advisor_", "type": "custom"}
    body = json.dumps({"model": "m", "tools": [own, adviser]}).encode()
    edited = quirks.apply(body, PLAIN)
    assert (json.loads(edited.body), edited.dropped) == ({"model": "m", "tools": [own]}, (f"tools[].{kind}",))
    escaped = body.replace(kind.encode(), b"\\u%04x" % ord(kind[0]) + kind[1:].encode())
    assert quirks.apply(escaped, PLAIN) == edited
    alone = json.dumps({"tools": [adviser], "model": "m"}).encode()
    assert quirks.apply(alone, PLAIN) == quirks.Edited(b'{"model":"m"}', (f"tools[].{kind}",))


@pytest.mark.parametrize("tools", [None, "advisor_", [{"type": 5, "name": "advisor_"}], ["advisor_"], [{"type": "x"}]])
def test_other_tools_pass_whatever_they_look_like(tools: Any) -> None:
    body = json.dumps({"model": "m", "tools": tools, "user": "advisor_"}).encode()
    assert quirks.apply(body, PLAIN).body is body


@pytest.mark.parametrize(
    ("name", "value"),
    [("service_tier", "flex"), ("service_tier", 5), ("speed", "standard"), ("inference_geo", "global")],
)
def test_other_words_for_how_a_call_is_served_pass(name: str, value: Any) -> None:
    body = json.dumps({"model": "m", name: value, "content": "a \\u00e9 service_tier"}).encode()
    assert quirks.apply(body, PLAIN).body is body


@pytest.mark.parametrize("value", [b"1e999", b"-1e999", b"[1e999]"])
def test_a_value_that_nobody_here_can_read_is_the_provider_s_to_judge(value: bytes) -> None:
    """JSON's numbers have no bounds (RFC 8259, section 6); Python's have."""
    body = b'{"model":"m","speed":%s,"generationConfig":{"topP":%s,"a":{"b":1,"c":%s}}}' % (value, value, value)
    assert quirks.apply(body, PLAIN).body is body
    edited = quirks.apply(body, PLAIN, {"generationConfig": {"topK": 3, "a": {"b": None}}})
    patched = b'{"model":"m","speed":%s,"generationConfig":{"topP":%s,"a":{"c":%s},"topK":3}}'
    assert edited.body == patched % (value, value, value)


@pytest.mark.parametrize("value", [b"1e999", b"9" * 5000, b"[1e999]"])
def test_what_nobody_here_can_read_inside_a_message_is_the_provider_s_to_judge(value: bytes) -> None:
    body = b'{"messages":[{"role":"developer","content":"x"},{"role":%s,"content":"y"}]}'
    edited = quirks.apply(body % value, presets.of("deepseek").quirks)
    assert edited.body == (body % value).replace(b"developer", b"system")
    body = b'{"messages":[{"role":"assistant","tool_calls":[{"id":%s}]},{"role":"tool","tool_call_id":%s}]}'
    edited = quirks.apply(body % (value, value), presets.of("mistral").quirks)
    assert edited.body == body % (value, value)


def test_groq_gets_neither_probabilities_nor_names_nor_several_answers() -> None:
    sent, dropped = applied("groq", {**BODY, "n": 2, "logprobs": True, "logit_bias": {}, "temperature": 0})
    assert sent == {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True, "temperature": 0}
    assert dropped == ("logit_bias", "logprobs", "messages[].name", "n")
    assert applied("groq", {**BODY, "n": 1})[0]["n"] == 1


def test_a_field_written_with_an_escape_is_found_too() -> None:
    body = b'{"model": "m", "log\\u0070robs": true}'
    assert json.loads(quirks.apply(body, presets.of("groq").quirks).body) == {"model": "m"}


def test_an_old_limit_does_not_replace_one_that_is_there_under_the_old_name() -> None:
    sent, _ = applied("deepseek", {"max_tokens": 5, "max_completion_tokens": 9})
    assert sent == {"max_tokens": 5}


# The examples of RFC 7396, appendix A, that are objects.
PATCHES: list[tuple[Any, Any, Any]] = [
    ({"a": "b"}, {"a": "c"}, {"a": "c"}),
    ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
    ({"a": "b"}, {"a": None}, {}),
    ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
    ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
    ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
    ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
    ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
    ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
    ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
]


@pytest.mark.parametrize(("target", "patch", "result"), PATCHES)
def test_parameters_are_a_merge_patch(target: Any, patch: Any, result: Any) -> None:
    assert applied("custom", target, patch) == (result, ())


@pytest.mark.parametrize(
    "patch",
    [
        {"model": "x"}, {"stream": None}, {"max_tokens": 9}, {"generationConfig": {"maxOutputTokens": 9}},
        {"a": {"b": {"n": 2}}}, {"messages": []}, {"tools": []}, {"stream_options": None}, {"streamOptions": None},
        {"generationConfig": {"max_output_tokens": 9}}, {"generation_config": {"candidate_count": 8}},
        {"MAX_TOKENS": 9}, {"maxCompletionTokens": None}, {"functions": []}, {"documents": ["a"]},
        {"previous_response_id": "resp_1"}, {"cachedContent": "cachedContents/1"},
    ],
)  # fmt: skip
def test_what_a_hold_is_made_from_cannot_be_overridden(patch: dict[str, Any]) -> None:
    assert quirks.forbidden(patch)
    assert not quirks.forbidden({"temperature": 1, "provider": {"order": ["a"]}, "top_k": None})


@pytest.mark.parametrize("name", ["generationConfig", "generation_config", "GenerationConfig"])
@pytest.mark.parametrize("value", [None, "x", 1, [], [{"temperature": 1}]])
def test_what_the_limit_of_output_stands_in_is_neither_removed_nor_replaced(name: str, value: Any) -> None:
    assert quirks.forbidden({name: value}) == name
    assert quirks.forbidden({"extra_body": {name: value}}) == name
    assert not quirks.forbidden({name: {"temperature": 1, "thinkingConfig": None}})


@pytest.mark.parametrize("own", ["generationConfig", "generation_config"])
@pytest.mark.parametrize("patched", ["generationConfig", "generation_config"])
def test_an_override_joins_the_limit_however_either_is_spelt(own: str, patched: str) -> None:
    sent, _ = applied("gemini", {own: {"maxOutputTokens": 9}}, {patched: {"topK": 3}})
    assert sent == {own: {"maxOutputTokens": 9, "topK": 3}}


# ---- the table ------------------------------------------------------------------------------------------------------


def test_every_row_of_the_table_is_whole() -> None:
    wanted = {
        "openai", "azure", "anthropic", "gemini", "vertex", "deepseek", "dashscope", "ark", "moonshot", "zhipu",
        "siliconflow", "groq", "mistral", "xai", "openrouter", "poe", "ollama", "vllm", "gateway", "custom", "bedrock",
    }  # fmt: skip
    assert wanted <= presets.BY_NAME.keys()
    assert len(presets.BY_NAME) == len(presets.TABLE)
    for row in presets.TABLE:
        assert row.protocols, row.name
        assert set(row.base_urls) <= set(presets.PROTOCOLS), row.name
        assert not row.auth or row.auth in presets.AUTH, row.name
        for url in row.base_urls.values():
            assert url == url.rstrip("/")
            assert not url or url.startswith(("https://", "http://127.0.0.1:")), url


def test_what_cannot_be_done_yet_is_said_and_cannot_be_chosen() -> None:
    assert "SigV4" in presets.of("bedrock").unavailable
    assert "bedrock" not in dict(presets.CHOICES)
    assert "not built yet" in presets.of("vertex").note


ADDRESSES = [
    ("https://api.openai.com/v1", "openai", "custom", "https://api.openai.com/v1/chat/completions"),
    ("https://api.openai.com", "openai", "custom", "https://api.openai.com/v1/chat/completions"),
    ("https://api.openai.com/", "openai", "custom", "https://api.openai.com/v1/chat/completions"),
    ("https://api.anthropic.com", "anthropic", "anthropic", "https://api.anthropic.com/v1/chat/completions"),
    ("https://g.example/v1beta/openai", "openai", "gemini", "https://g.example/v1beta/openai/chat/completions"),
    ("https://g.example", "gemini", "gemini", "https://g.example/v1beta/chat/completions"),
    ("https://z.example/api/paas/v4", "openai", "zhipu", "https://z.example/api/paas/v4/chat/completions"),
    ("https://p.example", "openai", "perplexity", "https://p.example/chat/completions"),
    (
        "https://n.example", "openai", "azure",
        "https://n.example/openai/deployments/my%2Fmodel/chat/completions?api-version=2024-10-21",
    ),
    ("https://n.example/openai/v1", "openai", "azure", "https://n.example/openai/v1/chat/completions"),
]  # fmt: skip


@pytest.mark.parametrize(("base", "protocol", "preset", "url"), ADDRESSES)
def test_the_address_of_a_call(base: str, protocol: str, preset: str, url: str) -> None:
    row = presets.of(preset).quirks_for(protocol)
    assert dress.address(base, "/chat/completions", protocol=protocol, quirks=row, model="my/model") == url


CHAT = {"openai": "/chat/completions", "responses": "/responses", "anthropic": "/messages", "gemini": "/models/m:x"}
GATEWAY = "https://gateway.ai.cloudflare.com/v1/ACCOUNT/GATEWAY"
PROJECT = "https://r-aiplatform.googleapis.com/v1/projects/p/locations/r/publishers/google"


@pytest.mark.parametrize(
    ("base", "protocol", "url"),
    [
        (f"{GATEWAY}/anthropic", "anthropic", f"{GATEWAY}/anthropic/v1/messages"),
        (f"{GATEWAY}/anthropic/", "anthropic", f"{GATEWAY}/anthropic/v1/messages"),
        (f"{GATEWAY}/anthropic/v1", "anthropic", f"{GATEWAY}/anthropic/v1/messages"),
        (f"{GATEWAY}/google-ai-studio", "gemini", f"{GATEWAY}/google-ai-studio/v1beta/models/m:x"),
        (f"{GATEWAY}/google-ai-studio/v1", "gemini", f"{GATEWAY}/google-ai-studio/v1/models/m:x"),
        (f"{GATEWAY}/openai", "openai", f"{GATEWAY}/openai/chat/completions"),
        (f"{GATEWAY}/openai", "responses", f"{GATEWAY}/openai/responses"),
        (PROJECT, "gemini", f"{PROJECT}/models/m:x"),
        ("https://aiplatform.googleapis.com/v1/publishers/google", "gemini",
         "https://aiplatform.googleapis.com/v1/publishers/google/models/m:x"),
    ],
)  # fmt: skip
def test_a_gateway_s_version_is_not_the_protocol_s(base: str, protocol: str, url: str) -> None:
    assert dress.address(base, CHAT[protocol], protocol=protocol) == url


OF_PRESETS = {
    ("openai", "openai"): "https://api.openai.com/v1/chat/completions",
    ("openai", "responses"): "https://api.openai.com/v1/responses",
    ("anthropic", "anthropic"): "https://api.anthropic.com/v1/messages",
    ("gemini", "gemini"): "https://generativelanguage.googleapis.com/v1beta/models/m:x",
    ("gemini", "openai"): "https://generativelanguage.googleapis.com/v1beta/openai/chat/completions",
    ("deepseek", "openai"): "https://api.deepseek.com/v1/chat/completions",
    ("deepseek", "anthropic"): "https://api.deepseek.com/anthropic/v1/messages",
    ("dashscope", "openai"): "https://dashscope.aliyuncs.com/compatible-mode/v1/chat/completions",
    ("ark", "openai"): "https://ark.cn-beijing.volces.com/api/v3/chat/completions",
    ("ark", "responses"): "https://ark.cn-beijing.volces.com/api/v3/responses",
    ("moonshot", "openai"): "https://api.moonshot.cn/v1/chat/completions",
    ("moonshot", "anthropic"): "https://api.moonshot.cn/anthropic/v1/messages",
    ("zhipu", "openai"): "https://open.bigmodel.cn/api/paas/v4/chat/completions",
    ("zhipu", "anthropic"): "https://open.bigmodel.cn/api/anthropic/v1/messages",
    ("siliconflow", "openai"): "https://api.siliconflow.cn/v1/chat/completions",
    ("groq", "openai"): "https://api.groq.com/openai/v1/chat/completions",
    ("groq", "responses"): "https://api.groq.com/openai/v1/responses",
    ("mistral", "openai"): "https://api.mistral.ai/v1/chat/completions",
    ("xai", "openai"): "https://api.x.ai/v1/chat/completions",
    ("xai", "responses"): "https://api.x.ai/v1/responses",
    ("xai", "anthropic"): "https://api.x.ai/v1/messages",
    ("openrouter", "openai"): "https://openrouter.ai/api/v1/chat/completions",
    ("poe", "openai"): "https://api.poe.com/v1/chat/completions",
    ("poe", "responses"): "https://api.poe.com/v1/responses",
    ("poe", "anthropic"): "https://api.poe.com/v1/messages",
    ("perplexity", "openai"): "https://api.perplexity.ai/chat/completions",
    ("ollama", "openai"): "http://127.0.0.1:11434/v1/chat/completions",
    ("vllm", "openai"): "http://127.0.0.1:8001/v1/chat/completions",
}


def test_where_each_preset_s_own_address_leads() -> None:
    found = {
        (row.name, protocol): dress.address(base, CHAT[protocol], protocol=protocol, quirks=row.quirks_for(protocol))
        for row in presets.TABLE
        for protocol, base in row.base_urls.items()
        if base
    }
    assert found == OF_PRESETS


def test_a_credential_in_the_query_comes_after_what_is_there() -> None:
    asked = dress.Dress(auth="query-key")
    assert dress.with_key("https://g/v1beta/m:stream?alt=sse", asked, "a&b") == (
        "https://g/v1beta/m:stream?alt=sse&key=a%26b"
    )
    assert dress.with_key("https://g/x", dress.USUAL, "secret") == "https://g/x"


def headers(preset: str, protocol: str, own: dict[str, str | None], secret: str | None = "s") -> dict[str, str]:
    found = dress.of(preset, protocol, headers=own, parameters={}, site="https://me")
    return dress.headers(found, {"Content-Type": "application/json", "User-Agent": "pisces"}, secret)


@pytest.mark.parametrize(
    ("preset", "protocol", "name", "value"),
    [
        ("openai", "openai", "Authorization", "Bearer s"),
        ("anthropic", "anthropic", "x-api-key", "s"),
        ("gemini", "gemini", "x-goog-api-key", "s"),
        ("gemini", "openai", "Authorization", "Bearer s"),
        ("azure", "openai", "api-key", "s"),
        ("vertex", "gemini", "Authorization", "Bearer s"),
        ("anthropic", "anthropic", "anthropic-version", "2023-06-01"),
        ("openrouter", "openai", "HTTP-Referer", "https://me"),
    ],
)
def test_the_credential_and_what_else_a_provider_wants_in_the_headers(
    preset: str, protocol: str, name: str, value: str
) -> None:
    assert headers(preset, protocol, {})[name] == value
    assert "s" not in headers(preset, protocol, {}, None).values()


def test_overrides_replace_add_and_remove_whatever_their_case() -> None:
    own = {"AUTHORIZATION": "Token {key}", "x-team": "a", "User-agent": None}
    assert headers("custom", "openai", own) == {
        "Content-Type": "application/json", "authorization": "Token s", "x-team": "a",
    }  # fmt: skip
    assert "authorization" not in {name.lower() for name in headers("custom", "openai", own, None)}


def test_a_new_kind_of_quirk_is_noticed_as_one() -> None:
    assert not PLAIN.edits
    assert not Quirks(path="/x", query="a=b", unversioned=True).edits
