"""A chat call from door to door: what goes to the provider, what comes back, what is written down."""

import json
import re
import uuid
from typing import Any

import pytest

from billing import money
from tests.kit import client, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.plugin import PRICE
from tests.kit.ports import eventually
from tests.kit.upstream import Upstream

COST = 100 * 1000 + 50 * 2000  # nano-units of scripts.USAGE at the price of `chat`

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "parameters": {"type": "object", "properties": {"city": {"type": "string", "enum": ["北京", "Oslo"]}}},
            "strict": True,
        },
    }
]
PICTURE = [
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
        ],
    }
]
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "strict": True, "schema": {"type": "object"}}}


def test_a_whole_answer_is_the_upstream_s_with_our_name_and_the_cost(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    script = upstream.play(scripts.whole(extra_field={"kept": [1, 2.50, "三"]}))
    answer = client.chat(gateway.url, customer.token, x_script=script)
    body = answer.json()
    told = body.pop("pisces")
    assert answer.status_code == 200
    assert body == scripts.completion("chat", extra_field={"kept": [1, 2.50, "三"]})
    assert told["cost"] == "0.0002" == answer.headers["X-Pisces-Cost"]
    assert (told["gateway"], told["protocol"], told["channel"]) == ("Pisces", "openai", "main")
    assert (told["retries"], told["dropped"]) == (0, [])
    assert isinstance(told["timestamp"], int)
    assert told["request_id"] == answer.headers["X-Request-Id"]
    assert answer.headers["X-Pisces-Channel"] == "main"
    assert answer.headers["Content-Type"] == "application/json"


def test_the_call_is_in_the_books(gateway: Gateway, customer: Customer) -> None:
    answer = client.chat(gateway.url, customer.token, headers={"X-Request-Id": "mine-17"})
    (call,) = gateway.calls(customer.key)
    (hold,) = gateway.holds(customer.wallet)
    (transfer,) = gateway.transfers(customer.wallet)
    assert answer.headers["X-Request-Id"] == "mine-17"
    assert (call["request_id"], call["state"], call["status"], call["error"]) == ("mine-17", "settled", 200, "")
    assert (call["model"], call["upstream_model"], call["channel"]) == ("chat", "up-chat", "main")
    assert (call["cost"], call["usage_source"]) == (COST, "reported")
    assert call["usage"] == {"input": 100, "output": 50}
    assert [(line["bucket"], line["quantity"], line["rate"], line["amount"]) for line in call["lines"]] == [
        ("input", 100, 10**9, 100_000),
        ("output", 50, 2 * 10**9, 100_000),
    ]
    assert (call["upstream_id"], call["finish"], call["streamed"]) == ("chatcmpl-upstream", "stop", False)
    assert [(a["number"], a["channel"], a["outcome"], a["status"]) for a in call["attempts"]] == [
        (1, "main", "complete", 200)
    ]
    assert call["attempts"][0]["credential"] == "9c41"
    assert (hold["id"], hold["state"], hold["charged"]) == (call["id"], "settled", COST)
    assert (transfer["kind"], transfer["amount"], transfer["reference"]) == ("charge", COST, str(call["id"]))
    assert gateway.wallet(customer.wallet) == {
        "balance": 10 * 10**9 - COST,
        "held": 0,
        "credit_limit": 0,
        "frozen": "",
    }


def test_a_request_without_an_id_gets_the_call_s_own(gateway: Gateway, customer: Customer) -> None:
    answer = client.chat(gateway.url, customer.token)
    (call,) = gateway.calls(customer.key)
    assert uuid.UUID(answer.headers["X-Request-Id"]) == call["id"]
    assert call["id"].version == 7


@pytest.mark.parametrize("given", ["x" * 129, "two words", "caf\xe9", "tab\there"])
def test_a_request_id_that_is_too_long_or_not_visible_ascii_is_replaced(
    gateway: Gateway, customer: Customer, given: str
) -> None:
    answer = client.chat(gateway.url, customer.token, headers={"X-Request-Id": given.encode("latin-1")})
    assert answer.status_code == 200
    assert uuid.UUID(answer.headers["X-Request-Id"]).version == 7


def test_the_longest_request_id_is_kept_and_may_be_used_twice(gateway: Gateway, customer: Customer) -> None:
    label = "!" + "~" * 127
    for _ in range(2):
        assert (
            client.chat(gateway.url, customer.token, headers={"X-Request-Id": label}).headers["X-Request-Id"] == label
        )
    assert [call["request_id"] for call in gateway.calls(customer.key)] == [label, label]


def test_a_request_that_needs_no_change_arrives_byte_for_byte(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    script = upstream.play(scripts.whole())
    content = json.dumps({"model": "same-name", "max_tokens": 7, "messages": client.HELLO, "x_script": script})
    content = content.replace("{", " {\n", 1).replace(": 7", ":  7") + "\n"
    assert client.post(gateway.url, customer.token, content.encode()).status_code == 200
    assert upstream.one(script).body == content.encode()


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("model", ["chat", "same-name"])
def test_tools_vision_schemas_and_unknown_fields_reach_the_upstream_as_they_were_written(
    gateway: Gateway, customer: Customer, upstream: Upstream, streamed: bool, model: str
) -> None:
    script = upstream.play(scripts.stream() if streamed else scripts.whole())
    raw = {
        "messages": json.dumps(PICTURE, ensure_ascii=False).replace(", ", " ,  "),
        "tools": json.dumps(TOOLS, ensure_ascii=False),
        "tool_choice": '{"type":"function",  "function":{"name":"weather"}}',
        "response_format": json.dumps(SCHEMA),
        "temperature": "1.0",
        "top_p": "0.10000000000000000001",
        "seed": "123456789012345678901234567890",
        "logit_bias": '{"50256": -100, "1": 1e2}',
        "vendor_field": '{"\\u4e2d": "\\ud83d\\ude00", "deep": [[[null, true]]]}',
        "max_tokens": "64",
    }
    fields = ", ".join(f'"{name}": {value}' for name, value in raw.items())
    stream = ', "stream": true' if streamed else ""
    content = f'{{"model": "{model}", {fields}{stream}, "x_script": "{script}"}}'
    answer = client.post(gateway.url, customer.token, content.encode())
    assert answer.status_code == 200, answer.text
    sent = upstream.one(script).body.decode()
    for name, value in raw.items():
        assert re.search(rf'"{name}":\s*{re.escape(value)}', sent), name
    assert upstream.one(script).json["model"] == ("up-chat" if model == "chat" else "same-name")


@pytest.mark.parametrize("streamed", [False, True])
def test_models_are_renamed_both_ways(gateway: Gateway, customer: Customer, upstream: Upstream, streamed: bool) -> None:
    name = "[M]vendor/model-1"
    script = upstream.play(scripts.stream() if streamed else scripts.whole())
    answer = client.chat(gateway.url, customer.token, model=name, stream=streamed, x_script=script)
    assert upstream.one(script).json["model"] == "up-1"
    assert "up-1" not in answer.text
    chunks = client.events(answer)[:-1] if streamed else [answer.json()]
    assert {chunk["model"] for chunk in chunks} == {name}


def test_an_answer_s_nested_names_are_left_alone(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    events = [
        scripts.event({"route": {"model": "up-chat"}, **scripts.delta("up-chat", {"content": '"model":"up-chat"'})}),
        scripts.event({"route": {"model": "up-chat"}, **scripts.delta("up-chat", {"content": "b"})}),
        *scripts.chunks("up-chat"),
    ]
    compact = [event.replace(b'": "', b'":"') for event in events]
    answer = client.chat(gateway.url, customer.token, stream=True, x_script=upstream.play(scripts.stream(compact)))
    chunks = client.events(answer)[:-1]
    assert {chunk["model"] for chunk in chunks} == {"chat"}
    assert [chunk["route"]["model"] for chunk in chunks[:2]] == ["up-chat", "up-chat"]
    assert chunks[0]["choices"][0]["delta"]["content"] == '"model":"up-chat"'


def test_tool_calls_come_back_whole(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city":"北京"}'}}
    choice = {"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": [call]}}
    choices = [{**choice, "finish_reason": "tool_calls"}]
    script = upstream.play(scripts.whole(choices=choices))
    answer = client.chat(gateway.url, customer.token, tools=TOOLS, x_script=script)
    assert answer.json()["choices"] == choices
    assert gateway.calls(customer.key)[0]["finish"] == "tool_calls"


# ---- usage ----------------------------------------------------------------------------------------------------------


def test_cached_and_reasoning_tokens_are_priced_once(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    usage = {
        "prompt_tokens": 100,
        "completion_tokens": 50,
        "prompt_tokens_details": {"cached_tokens": 40},
        "completion_tokens_details": {"reasoning_tokens": 20},
    }
    answer = client.chat(gateway.url, customer.token, x_script=upstream.play(scripts.whole(usage=usage)))
    (call,) = gateway.calls(customer.key)
    assert call["usage"] == {"input": 60, "cache_read": 40, "output": 30, "reasoning": 20}
    assert call["cost"] == 60 * 1000 + 40 * 500 + 50 * 2000 == sum(line["amount"] for line in call["lines"])
    assert answer.json()["usage"] == usage


NO_USAGE: list[Any] = [
    None, {}, {"prompt_tokens": -5, "completion_tokens": 1}, "much", [], {"total_tokens": 9}, {"prompt_tokens": 1000},
    {"prompt_tokens": 1000, "completion_tokens": None}, {"prompt_tokens": 1000, "total_tokens": 1500},
]  # fmt: skip


@pytest.mark.parametrize("usage", NO_USAGE)
@pytest.mark.parametrize("streamed", [False, True])
def test_usage_that_is_missing_or_makes_no_sense_is_counted_and_flagged(
    gateway: Gateway, customer: Customer, upstream: Upstream, usage: object, streamed: bool
) -> None:
    play = scripts.stream(usage=usage) if streamed else scripts.whole(usage=usage)
    answer = client.chat(gateway.url, customer.token, stream=streamed, model="gpt-4o", x_script=upstream.play(play))
    (call,) = gateway.calls(customer.key)
    assert answer.status_code == 200
    assert call["usage_source"] == "counted"
    assert 0 < call["cost"] <= call["held"]
    assert call["usage"]["output"] == 5  # the four of "Hello, world.", and the one that ends an answer
    if not streamed:  # where it is told only to a client that asks for it
        told = answer.json()["usage"]
        assert (told["prompt_tokens"], told["completion_tokens"]) == (call["usage"]["input"], call["usage"]["output"])


@pytest.mark.parametrize("streamed", [False, True])
def test_reported_zero_is_believed_and_flagged(
    gateway: Gateway, customer: Customer, upstream: Upstream, streamed: bool
) -> None:
    usage = {"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}
    play = scripts.stream(usage=usage) if streamed else scripts.whole(usage=usage)
    client.chat(gateway.url, customer.token, stream=streamed, x_script=upstream.play(play))
    (call,) = gateway.calls(customer.key)
    assert (call["cost"], call["usage_source"], call["state"]) == (0, "reported", "settled")
    assert call["error"] == "zero_usage"


def test_a_price_per_call_charges_exactly_that_and_holds_exactly_that(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    script = upstream.play(scripts.whole())
    answer = client.chat(gateway.url, customer.token, model="per-call", x_script=script)
    assert answer.headers["X-Pisces-Cost"] == "0.01"
    (call,) = gateway.calls(customer.key)
    assert call["cost"] == call["held"] == 10_000_000
    assert "max_tokens" not in upstream.one(script).json


def test_the_key_s_billing_mode_chooses_where_the_card_offers_both(gateway: Gateway, customer: Customer) -> None:
    _, by_call = gateway.issue(customer.team, billing="per_call")
    assert client.chat(gateway.url, by_call, model="both").headers["X-Pisces-Cost"] == "0.01"
    assert client.chat(gateway.url, customer.token, model="both").headers["X-Pisces-Cost"] == "0.0002"
    assert client.chat(gateway.url, by_call, model="chat").headers["X-Pisces-Cost"] == "0.0002"


def test_a_free_model_is_answered_without_money(gateway: Gateway) -> None:
    poor = gateway.customer(credit="0")
    answer = client.chat(gateway.url, poor.token, model="free")
    assert (answer.status_code, answer.headers["X-Pisces-Cost"]) == (200, "0")
    assert gateway.calls(poor.key)[0]["cost"] == 0
    assert gateway.audit() == []


def test_more_used_than_held_is_charged_and_what_the_wallet_cannot_pay_is_owed(
    gateway: Gateway, upstream: Upstream
) -> None:
    poor = gateway.customer(credit="0.001")
    usage = {"prompt_tokens": 10, "completion_tokens": 1000}
    answer = client.chat(gateway.url, poor.token, x_script=upstream.play(scripts.whole(usage=usage)))
    cost = 10 * 1000 + 1000 * 2000
    assert answer.status_code == 200
    (call,) = gateway.calls(poor.key)
    assert call["cost"] == cost > call["held"]
    wallet = gateway.wallet(poor.wallet)
    assert (wallet["balance"], wallet["held"]) == (0, 0)
    assert str(call["id"]) in wallet["frozen"]
    assert gateway.spent(poor) == 1_000_000
    assert gateway.audit() == []
    refused = client.chat(gateway.url, poor.token)
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, "permission_denied")


# ---- the output limit -----------------------------------------------------------------------------------------------


def sent_limit(gateway: Gateway, upstream: Upstream, token: str, **body: Any) -> dict[str, int]:
    script = upstream.play(scripts.whole())
    answer = client.chat(gateway.url, token, x_script=script, **body)
    assert answer.status_code == 200, answer.text
    sent = upstream.one(script).json
    return {name: sent[name] for name in ("max_tokens", "max_completion_tokens") if name in sent}


def test_a_missing_output_limit_is_set_to_the_model_s(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    assert sent_limit(gateway, upstream, customer.token) == {"max_tokens": 1000}


def test_an_output_limit_that_can_be_paid_is_left_alone(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    assert sent_limit(gateway, upstream, customer.token, max_tokens=77) == {"max_tokens": 77}
    found = sent_limit(gateway, upstream, customer.token, max_completion_tokens=78)
    assert found == {"max_completion_tokens": 78}


@pytest.mark.parametrize(
    "asked",
    [
        {"max_tokens": 100_000, "max_completion_tokens": 16},
        {"max_tokens": 16, "max_completion_tokens": 100_000},
        {"max_tokens": 16, "max_completion_tokens": None},
    ],
    ids=["the older larger", "the newer larger", "the newer null"],
)
@pytest.mark.parametrize("model", ["chat", "renamed"])
def test_a_limit_under_both_of_its_names_is_sent_once_as_it_is_held_for(
    gateway: Gateway, upstream: Upstream, renamed: None, model: str, asked: dict[str, Any]
) -> None:
    poor = gateway.customer(credit="0.01")
    sent = sent_limit(gateway, upstream, poor.token, model=model, **asked)
    assert sent == {"max_tokens": 16}
    assert gateway.calls(poor.key)[0]["held"] < 100_000 * 2000
    assert gateway.wallet(poor.wallet)["frozen"] == ""


@pytest.mark.parametrize(("model", "name"), [("chat", "max_completion_tokens"), ("renamed", "max_tokens")])
def test_an_output_limit_keeps_its_name_beside_the_other_one_without_a_value(
    gateway: Gateway, customer: Customer, upstream: Upstream, renamed: None, model: str, name: str
) -> None:
    asked = {"max_tokens": None, "max_completion_tokens": 16}
    assert sent_limit(gateway, upstream, customer.token, model=model, **asked) == {name: 16}


def test_an_output_limit_that_the_gateway_sets_has_the_name_that_the_upstream_s_model_takes(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    gateway.model("smart", PRICE, max_output=1000)
    gateway.channel("smart", upstream.url, {"smart": "gpt-5"})
    eventually(lambda: client.models(gateway.url, customer.token, "smart").status_code == 200)
    assert sent_limit(gateway, upstream, customer.token, model="smart") == {"max_completion_tokens": 1000}


@pytest.fixture(scope="module")
def renamed(gateway: Gateway, upstream: Upstream) -> None:
    """A channel to a provider that knows the older name only."""
    gateway.model("renamed", PRICE)
    gateway.channel("renamed", upstream.url, {"renamed": "deepseek-chat"}, preset="deepseek")
    token = gateway.customer().token
    eventually(lambda: client.models(gateway.url, token, "renamed").status_code == 200)


def test_an_output_limit_that_cannot_be_paid_is_lowered_to_what_can(gateway: Gateway, upstream: Upstream) -> None:
    poor = gateway.customer(credit="0.001")
    variants: list[dict[str, Any]] = [{}, {"max_tokens": 900}, {"max_completion_tokens": 900}]
    for asked in variants:
        other = gateway.issue(poor.team)[1]
        script = upstream.play(scripts.whole(usage={"prompt_tokens": 0, "completion_tokens": 0}))
        answer = client.chat(gateway.url, other, x_script=script, **asked)
        assert answer.status_code == 200, answer.text
        sent = upstream.one(script)
        (limit,) = {sent.json[name] for name in ("max_tokens", "max_completion_tokens") if name in sent.json}
        assert 16 <= limit < 500  # 0.001 pays for 500 output tokens, less the input's bound
        assert limit * 2000 + 1 <= 1_000_000
    assert gateway.wallet(poor.wallet)["balance"] == 1_000_000


def test_several_answers_are_held_for_each(gateway: Gateway, customer: Customer) -> None:
    client.chat(gateway.url, customer.token, max_tokens=10)
    client.chat(gateway.url, customer.token, max_tokens=10, n=5)
    one, five = (call["held"] for call in gateway.calls(customer.key))
    assert 4 * 10 * 2000 <= five - one <= 4 * 10 * 2000 + 20_000  # and a few bytes of `"n": 5`


def test_a_wallet_that_cannot_pay_for_sixteen_tokens_is_refused_before_anything_is_sent(
    gateway: Gateway, upstream: Upstream
) -> None:
    poor = gateway.customer(credit="0.00001")
    script = upstream.play(scripts.whole())
    answer = client.chat(gateway.url, poor.token, x_script=script)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "insufficient_user_quota")
    assert answer.json()["error"]["type"] == "insufficient_quota"
    assert answer.headers["x-should-retry"] == "false"
    assert upstream.served(script) == []
    assert gateway.holds(poor.wallet) == []


def test_a_report_beyond_all_measure_is_booked_and_not_lost(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    gateway.model("precious", {"input": "9000000", "output": "0"})
    gateway.channel(f"precious-{customer.key}", upstream.url, {"precious": "up-precious"})
    usage = {"prompt_tokens": 2**40 - 1, "completion_tokens": 1}
    script = upstream.play(scripts.whole(usage=usage))
    wallet = gateway.customer(credit="9000")
    eventually(lambda: client.chat(gateway.url, wallet.token, model="precious", x_script=script).status_code == 200)
    (call,) = gateway.calls(wallet.key)
    assert (call["state"], call["cost"]) == ("settled", money.LARGEST_CHARGE)
    assert gateway.wallet(wallet.wallet)["balance"] == 0
    assert gateway.wallet(wallet.wallet)["frozen"]
