"""What no client should send, by name, in each of the four protocols: an error of the caller's in its envelope or an
answer, never a fault of ours; nothing is charged for an error."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests

from relay.protocols import extent
from tests.kit import client
from tests.kit.gateway import Customer, Gateway
from tests.kit.upstream import Upstream
from tests.relay.fuzzed import CHATS, everything, provider, stranger

__all__ = ["everything", "provider", "stranger"]

Json = dict[str, Any]
PROTOCOLS = ("openai", "responses", "anthropic", "gemini")
PATHS = {"openai": "/v1/chat/completions", "responses": "/v1/responses", "anthropic": "/v1/messages"}
MODEL = b"to-model"  # stands in the bodies for the model that is asked


def post(
    gateway: Gateway, customer: Customer, protocol: str, body: bytes, *, to: str, path: str = "", **headers: str
) -> requests.Response:
    path = path or PATHS.get(protocol, f"/v1beta/models/{to}:generateContent")
    named = {"Content-Type": "application/json", "Authorization": f"Bearer {customer.token}", **headers}
    content = body.replace(MODEL, to.encode())
    return requests.post(gateway.url + path, data=content, headers=named, timeout=60)


def code_of(answer: requests.Response, protocol: str) -> str:
    """The error's code, out of the whole envelope of the protocol."""
    body = answer.json()
    assert body["pisces"]["request_id"] == answer.headers["X-Request-Id"]
    assert body["pisces"].get("cost", "0") == "0"
    error = body["error"]
    assert 0 < len(error["message"]) < 1000
    if protocol == "anthropic":
        assert body["type"] == "error"
        return str(error["details"]["error_code"])
    if protocol == "gemini":
        assert error["code"] == answer.status_code
        return str(error["details"][0]["reason"]).lower()
    assert error.keys() >= {"message", "type", "param", "code"}
    return str(error["code"])


def turns(protocol: str, *messages: Any, **beside: Any) -> bytes:
    """A request with these turns, as the protocol has them."""
    named = {"openai": "messages", "anthropic": "messages", "responses": "input", "gemini": "contents"}[protocol]
    head: Json = {} if protocol == "gemini" else {"model": MODEL.decode()}
    if protocol == "anthropic":
        head["max_tokens"] = 50
    return json.dumps({**head, named: list(messages), **beside}).encode()


def said(protocol: str, text: Any = "Hello") -> Json:
    return {"role": "user", "parts": [{"text": text}]} if protocol == "gemini" else {"role": "user", "content": text}


def with_field(protocol: str, written: bytes) -> bytes:
    """A sound request with this, as it is, as one more field."""
    return turns(protocol, said(protocol))[:-1] + b", " + written + b"}"


# ---- bytes that are no JSON, or too much of it ----------------------------------------------------------------------

DEEP = 5000


def many(values: int, written: bytes) -> bytes:
    return b'"x": [' + b",".join([written] * values) + b"]"


UNREADABLE: dict[str, Callable[[str], bytes]] = {
    "truncated": lambda protocol: turns(protocol, said(protocol))[:-3],
    "not UTF-8": lambda protocol: turns(protocol, said(protocol, "Hxllo")).replace(b"Hxllo", b"\xff\xfe"),
    "not UTF-8 in an unknown field": lambda protocol: with_field(protocol, b'"x": "\xc3("'),
    "half a pair of surrogates": lambda protocol: turns(protocol, said(protocol, "Hxllo")).replace(b"xl", b"\\ud800"),
    "a wrong escape": lambda protocol: turns(protocol, said(protocol, "Hxllo")).replace(b"xl", b"\\x"),
    "NaN": lambda protocol: with_field(protocol, b'"temperature": NaN'),
    "Infinity": lambda protocol: with_field(protocol, b'"temperature": -Infinity'),
    "deep lists": lambda protocol: with_field(protocol, b'"x": ' + b"[" * DEEP + b"]" * DEEP),
    "deep objects": lambda protocol: with_field(protocol, b'"x": ' + b'{"a":' * DEEP + b"1" + b"}" * DEEP),
    "deep without end": lambda protocol: b"[" * 1_000_000,
    "lists without end": lambda protocol: with_field(protocol, many(extent.MOST_VALUES, b"[]")),
    "texts without end": lambda protocol: with_field(protocol, many(extent.MOST_VALUES, b'""')),
    "turns without end": lambda protocol: turns(protocol, *[said(protocol)] * (extent.MOST_TURNS + 1)),
    "no turns": lambda protocol: turns(protocol),
    "turns that are none": lambda protocol: turns(protocol, *[None] * 3),
}


@pytest.mark.parametrize("what", UNREADABLE)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_cannot_be_read_is_a_400(everything: Gateway, stranger: Customer, protocol: str, what: str) -> None:
    body = UNREADABLE[what](protocol)
    for to in ("to-openai", f"to-{protocol}"):
        answer = post(everything, stranger, protocol, body, to=to)
        if what in ("half a pair of surrogates", "a wrong escape") and answer.status_code == 200:
            continue  # the provider of the same protocol got it as it came
        assert answer.status_code == 400, answer.text[:500]
        assert code_of(answer, protocol) in ("invalid_json", "invalid_messages", "invalid_parameter")
    assert everything.spent(stranger) == 0 or what in ("half a pair of surrogates", "a wrong escape")


@pytest.mark.parametrize("depth", [*range(20, extent.DEEPEST - 2, 35), extent.DEEPEST - 2])
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_is_as_deep_as_it_may_be_goes_to_every_provider(
    everything: Gateway, stranger: Customer, protocol: str, depth: int
) -> None:
    schema = b'{"type":"object","properties":{"a":' * (depth // 2 - 4) + b"{}" + b"}}" * (depth // 2 - 4)
    tool = {
        "openai": b'"tools":[{"type":"function","function":{"name":"f","parameters":%s}}]',
        "responses": b'"tools":[{"type":"function","name":"f","parameters":%s}]',
        "anthropic": b'"tools":[{"name":"f","input_schema":%s}]',
        "gemini": b'"tools":[{"functionDeclarations":[{"name":"f","parametersJsonSchema":%s}]}]',
    }[protocol]
    for to in CHATS:
        answer = post(everything, stranger, protocol, with_field(protocol, tool % schema), to=to)
        assert answer.status_code in (200, 400), answer.text[:500]
        assert answer.status_code == 200 or code_of(answer, protocol)


@pytest.mark.parametrize("length", [40, 400, 4000])
def test_a_chain_of_references_goes_to_every_provider_or_is_refused(
    everything: Gateway, stranger: Customer, length: int
) -> None:
    chain = {f"s{n}": {"type": "array", "items": {"$ref": f"#/$defs/s{n + 1}"}} for n in range(length)}
    schema = {"$ref": "#/$defs/s0", "$defs": {**chain, f"s{length}": {"type": "string"}}}
    form = {"type": "json_schema", "json_schema": {"name": "chain", "strict": True, "schema": schema}}
    for to in CHATS:
        answer = post(everything, stranger, "openai", turns("openai", said("openai"), response_format=form), to=to)
        assert answer.status_code in (200, 400), answer.text[:500]


# ---- JSON that makes no sense ---------------------------------------------------------------------------------------


def odd_requests(protocol: str) -> Iterator[tuple[str, bytes]]:
    call, result, thought = HISTORY[protocol]
    yield "a result without its call", turns(protocol, said(protocol), result, said(protocol))
    yield "a result first of all", turns(protocol, result)
    yield "a call without its result", turns(protocol, said(protocol), call, said(protocol))
    yield "a call last of all", turns(protocol, said(protocol), call)
    yield "the same call twice", turns(protocol, said(protocol), call, call, result, result, said(protocol))
    yield "a thought with a forged signature", turns(protocol, said(protocol), thought, said(protocol))
    for signature in FORGED:
        forged = json.loads(json.dumps(thought).replace("SIGNATURE", json.dumps(signature)[1:-1]))
        yield f"a thought with the signature {signature[:20]}", turns(protocol, said(protocol), forged, said(protocol))
    foreign = json.loads(json.dumps([call, result]).replace("call_1", "toolu_01 ÄÖÜ/€ " + "x" * 300))
    yield "ids of another vendor", turns(protocol, said(protocol), *foreign)
    yield "an unknown role", turns(protocol, {**said(protocol), "role": "wizard"})
    yield "no role", turns(protocol, {key: value for key, value in said(protocol).items() if key != "role"})
    yield "an empty text", turns(protocol, said(protocol, ""))
    yield "an empty turn", turns(protocol, {})
    key = "parts" if protocol == "gemini" else "content"
    for name, content in ODD_CONTENT.items():
        yield f"a turn of {name}", turns(protocol, {"role": "user", key: content})
    for name, value in ODD_VALUES.items():
        for field in FIELDS[protocol]:
            yield f"{field} of {name}", with_field(protocol, f'"{field}": {value}'.encode())
    first = b'"contents"' if protocol == "gemini" else b'"model"'
    doubled = turns(protocol, said(protocol)).replace(b"{", b"{" + first + b": null, ", 1)
    yield "a field twice", doubled


HISTORY: dict[str, tuple[Json, Json, Json]] = {
    "openai": (
        {
            "role": "assistant",
            "tool_calls": [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a": [[['}}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
        {
            "role": "assistant",
            "content": "Hm",
            "reasoning_content": "Hm",
            "reasoning_details": [{"type": "reasoning.text", "text": "Hm", "signature": "SIGNATURE"}],
        },
    ),
    "responses": (
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"a": [[['},
        {"type": "function_call_output", "call_id": "call_1", "output": "sunny"},
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "SIGNATURE"},
    ),
    "anthropic": (
        {"role": "assistant", "content": [{"type": "tool_use", "id": "call_1", "name": "f", "input": {}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "call_1", "content": "sunny"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "Hm", "signature": "SIGNATURE"},
                {"type": "redacted_thinking", "data": "SIGNATURE"},
                {"type": "text", "text": "Hm"},
            ],
        },
    ),
    "gemini": (
        {"role": "model", "parts": [{"functionCall": {"id": "call_1", "name": "f", "args": {}}}]},
        {"role": "user", "parts": [{"functionResponse": {"id": "call_1", "name": "f", "response": {"a": 1}}}]},
        {"role": "model", "parts": [{"text": "Hm", "thought": True, "thoughtSignature": "SIGNATURE"}, {"text": "Hm"}]},
    ),
}
FORGED = (
    "",
    "pisces.",
    "pisces.anthropic.AAAA",
    "pisces.gemini.!!",
    "pisces.openai." + "A" * 1000,
    "EqoB%%",
    "\u0000é",
)
ODD_CONTENT: dict[str, Any] = {
    "null": None,
    "a number": 5,
    "an object": {},
    "no parts": [],
    "null parts": [None],
    "numbers": [1, 2.5],
    "lists": [[[]]],
    "a part without a type": [{}],
    "a part of an unknown type": [{"type": "hologram", "hologram": {}}],
    "a part with a type that is none": [{"type": 5, "text": []}],
    "pictures that are none": [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,***"}},
        {"type": "input_image", "image_url": "data:,"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "***"}},
        {"inlineData": {"mimeType": "image/png", "data": "***"}},
    ],
}
ODD_VALUES = {
    "0": "0",
    "-1": "-1",
    "a huge number": "9" * 400,
    "1e999": "1e999",
    "a half": "0.5",
    "a text": '"x"',
    "true": "true",
    "a list": '[[null, {"a": 1}]]',
    "an object": '{"a": {"b": []}}',
}
FIELDS = {
    "openai": (
        "n", "max_tokens", "temperature", "stream", "stop", "tools", "tool_choice", "response_format", "logit_bias",
        "seed", "stream_options", "functions", "reasoning_effort", "top_logprobs", "user", "metadata", "unknown",
    ),
    "responses": (
        "max_output_tokens", "temperature", "stream", "tools", "tool_choice", "text", "reasoning", "store", "include",
        "previous_response_id", "instructions", "metadata", "top_logprobs", "unknown",
    ),
    "anthropic": (
        "max_tokens", "temperature", "top_k", "stream", "stop_sequences", "tools", "tool_choice", "thinking", "system",
        "output_config", "metadata", "unknown",
    ),
    "gemini": ("generationConfig", "tools", "toolConfig", "systemInstruction", "safetySettings", "cachedContent", "x"),
}  # fmt: skip
GENERATION = (
    "candidateCount", "maxOutputTokens", "temperature", "topK", "stopSequences", "responseSchema",
    "responseJsonSchema", "thinkingConfig", "responseMimeType", "seed", "responseLogprobs", "logprobs",
)  # fmt: skip


@pytest.mark.parametrize("to", CHATS)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_what_makes_no_sense_is_answered_or_refused(
    everything: Gateway, stranger: Customer, protocol: str, to: str
) -> None:
    asked = [*odd_requests(protocol)]
    if protocol == "gemini":
        for field in GENERATION:
            for name, value in ODD_VALUES.items():
                written = f'"generationConfig": {{"{field}": {value}}}'.encode()
                asked.append((f"{field} of {name}", with_field(protocol, written)))
    failed = []
    with requests.Session() as session:
        session.headers.update({"Content-Type": "application/json", "Authorization": f"Bearer {stranger.token}"})
        path = PATHS.get(protocol, f"/v1beta/models/{to}:generateContent")
        for name, body in asked:
            answer = session.post(everything.url + path, data=body.replace(MODEL, to.encode()), timeout=60)
            if answer.status_code == 200:
                continue
            if not 400 <= answer.status_code < 500 or not code_of(answer, protocol):
                failed.append((name, answer.status_code, answer.text[:300]))
    assert failed == []


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_idempotency_key_does_not_change_how_bad_bytes_are_refused(
    everything: Gateway, stranger: Customer, protocol: str
) -> None:
    for what, made in UNREADABLE.items():
        headers = {"Idempotency-Key": f"{protocol}-{what}".replace(" ", "-")}
        answer = post(everything, stranger, protocol, made(protocol), to="to-openai", **headers)
        assert answer.status_code in (200, 400), (what, answer.text[:300])


@pytest.mark.parametrize("to", CHATS)
def test_a_prompt_that_google_keeps_is_neither_left_out_nor_looked_up(
    everything: Gateway, stranger: Customer, provider: Upstream, to: str
) -> None:
    """Elsewhere it means nothing; there it is of any size, and whose it is nobody knows."""
    asked = len(provider.exchanges)
    body = with_field("gemini", b'"cachedContent": "cachedContents/a-contract"')
    answer = post(everything, stranger, "gemini", body, to=to)
    assert (answer.status_code, code_of(answer, "gemini")) == (400, "invalid_parameter")
    assert "`cachedContent`" in answer.json()["error"]["message"]
    assert len(provider.exchanges) == asked
    assert post(everything, stranger, "gemini", with_field("gemini", b'"cachedContent": null'), to=to).ok


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
@pytest.mark.parametrize("to", CHATS)
@pytest.mark.parametrize(
    ("field", "code"),
    [
        (b'"thread": {"type": "create"}', "thread_unsupported_request"),
        (b'"thread": {"type": "continue", "previous_message_id": "msg_1"}', "thread_unsupported_request"),
        (b'"messages": [], "thread": {"type": "continue"}', "thread_unsupported_request"),
        (b'"Thread": {"type": "create"}', "invalid_parameter"),
    ],
)
def test_a_conversation_that_anthropic_keeps_is_neither_begun_nor_looked_up(
    everything: Gateway, stranger: Customer, provider: Upstream, to: str, path: str, field: bytes, code: str
) -> None:
    """Whoever may use the gateway's credential there could go on with anybody's."""
    asked = len(provider.exchanges)
    answer = post(everything, stranger, "anthropic", with_field("anthropic", field), to=to, path=path)
    assert (answer.status_code, code_of(answer, "anthropic")) == (400, code)
    assert "hread`" in answer.json()["error"]["message"]
    assert len(provider.exchanges) == asked
    assert post(everything, stranger, "anthropic", with_field("anthropic", b'"thread": null'), to=to, path=path).ok


@pytest.mark.parametrize("given", ["²", "٣", "9" * 5000, "-1", "0", "1e3", "", "5 ", "0x5"])
def test_a_limit_of_a_list_that_is_no_number_is_a_400(everything: Gateway, stranger: Customer, given: str) -> None:
    stored = client.chat(everything.url, stranger.token, path="/v1/responses", model="to-openai", input="Hello").json()
    headers = {"Authorization": f"Bearer {stranger.token}"}
    url, query = f"{everything.url}/v1/responses/{stored['id']}/input_items", {"limit": given}
    answer = requests.get(url, params=query, headers=headers, timeout=30)
    assert given == "" or (answer.status_code, code_of(answer, "openai")) == (400, "invalid_parameter")
    headers["anthropic-version"] = "2023-06-01"
    answer = requests.get(f"{everything.url}/v1/models", params=query, headers=headers, timeout=30)
    assert given == "" or (answer.status_code, code_of(answer, "anthropic")) == (400, "invalid_parameter")


FULL_STOPS = "127\N{IDEOGRAPHIC FULL STOP}0\N{FULLWIDTH FULL STOP}0\N{HALFWIDTH IDEOGRAPHIC FULL STOP}1"


@pytest.mark.parametrize("host", ["127.0.0.1", FULL_STOPS, "\N{CIRCLED DIGIT ONE}27.0.0.1", "localhost", "0x7f.1"])
@pytest.mark.parametrize("protocol", ["openai", "responses"])
def test_a_url_of_the_machine_itself_is_refused_and_not_asked(
    everything: Gateway, stranger: Customer, provider: Upstream, protocol: str, host: str
) -> None:
    url, before = f"http://{host}:{provider.port}/secret", provider.connections
    parts: dict[str, Json] = {
        "openai": {"type": "image_url", "image_url": {"url": url}},
        "responses": {"type": "input_file", "file_url": url},
    }
    answer = post(everything, stranger, protocol, turns(protocol, said(protocol, [parts[protocol]])), to="to-gemini")
    assert (answer.status_code, code_of(answer, protocol)) == (400, "invalid_parameter")
    assert provider.connections == before
