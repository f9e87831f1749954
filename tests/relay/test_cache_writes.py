"""What Anthropic writes to its cache for an hour, over HTTP: held for where it is asked for, told and charged apart."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from billing import money
from tests.kit import scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.kit.upstream import Exchange, Upstream

CARD = {"input": "4", "cache_read": "0.4", "cache_write": "5", "cache_write_1h": "8", "output": "20"}
PLAIN = {name: price for name, price in CARD.items() if name != "cache_write_1h"}
WRITTEN = {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 300}
INPUT = {
    "input_tokens": 20, "cache_read_input_tokens": 50, "cache_creation_input_tokens": 400, "cache_creation": WRITTEN,
}  # fmt: skip
USED = {"input": 20, "cache_read": 50, "cache_write": 100, "cache_write_1h": 300, "output": 7}
COST = 20 * 4000 + 50 * 400 + 100 * 5000 + 300 * 8000 + 7 * 20_000
TEXT = "Keep this in mind. " * 50


def message(**fields: Any) -> dict[str, Any]:
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "content": [], "stop_reason": None,
        "stop_sequence": None, **fields,
    }  # fmt: skip


def named(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


BEGUN = [
    named("message_start", message=message(usage={**INPUT, "output_tokens": 1})),
    named("content_block_start", index=0, content_block={"type": "text", "text": ""}),
    named("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hello, dear world"}),
]
ENDED = [
    named("content_block_stop", index=0),
    # As Anthropic has it: the end tells no lifetimes any more.
    named(
        "message_delta",
        delta={"stop_reason": "end_turn", "stop_sequence": None},
        usage={"cache_creation_input_tokens": 400, "output_tokens": 7},
    ),
    named("message_stop"),
]


async def provider(exchange: Exchange) -> None:
    """Anthropic, whose answer to a model of that name breaks off."""
    if not exchange.json.get("stream"):
        said = message(
            content=[{"type": "text", "text": "Hello"}], stop_reason="end_turn", usage={**INPUT, "output_tokens": 7}
        )
        await exchange.answer(200, json.dumps(said).encode())
    elif exchange.json["model"] == "breaks":
        await exchange.head(200, scripts.SSE)
        for event in BEGUN:
            await exchange.chunk(event)
        exchange.abort()
    else:
        await scripts.stream([*BEGUN, *ENDED])(exchange)


@pytest.fixture(scope="module", autouse=True)
def _offers(gateway: Gateway) -> Iterator[None]:
    server = Upstream(provider)
    server.start()
    for name, card in (("keeps", CARD), ("breaks", CARD), ("plain", PLAIN), ("always", CARD)):
        gateway.model(f"it-{name}", card, max_output=1000)
        added = {"cache_control": {"type": "ephemeral", "ttl": "1h"}} if name == "always" else {}
        gateway.channel(f"it-{name}", server.url, {f"it-{name}": name}, protocol="anthropic", parameters=added)
    headers = {"Authorization": f"Bearer {gateway.customer().token}"}
    eventually(
        lambda: requests.get(f"{gateway.url}/v1/models/it-always", headers=headers, timeout=5).status_code == 200
    )
    yield
    server.stop()


def marked(ttl: str | None) -> list[dict[str, Any]]:
    mark = {"cache_control": {"type": "ephemeral", "ttl": ttl}} if ttl else {}
    return [{"role": "user", "content": [{"type": "text", "text": TEXT, **mark}]}]


def asked(gateway: Gateway, customer: Customer, path: str, body: dict[str, Any] | str, **fields: Any) -> Any:
    headers = {"Authorization": f"Bearer {customer.token}", "Content-Type": "application/json"}
    data = body if isinstance(body, str) else json.dumps({**body, **fields})
    answer = requests.post(gateway.url + path, data=data, headers=headers, timeout=20)
    assert answer.status_code == 200, answer.text
    return answer


def messages(gateway: Gateway, customer: Customer, model: str, ttl: str | None = "1h", **fields: Any) -> Any:
    body = {"model": f"it-{model}", "max_tokens": 100, "messages": marked(ttl)}
    return asked(gateway, customer, "/v1/messages", body, **fields)


def events(answer: requests.Response) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def settled(gateway: Gateway, customer: Customer) -> dict[str, Any]:
    """The record of the customer's call, whose charge is in the books once and whose lines say for what."""
    (call,) = eventually(lambda: gateway.calls(customer.key))
    assert (call["usage"], call["cost"], call["usage_source"]) == (USED, COST, "reported")
    assert {line["bucket"]: line["rate"] for line in call["lines"]} == {
        name: money.parse(CARD[name]) for name in USED
    }  # fmt: skip
    assert sum(line["amount"] for line in call["lines"]) == COST == gateway.spent(customer)
    assert call["held"] >= COST
    return call


# ---- what is told and charged ---------------------------------------------------------------------------------------


def test_a_write_for_an_hour_is_charged_at_its_own_price_and_told_as_it_came(
    gateway: Gateway, customer: Customer
) -> None:
    answer = messages(gateway, customer, "keeps").json()
    assert answer["usage"] == {**INPUT, "output_tokens": 7}
    assert answer["pisces"]["cost"] == money.to_text(COST)
    settled(gateway, customer)


def test_in_a_stream_the_lifetimes_of_its_beginning_count_to_its_end(gateway: Gateway, customer: Customer) -> None:
    begin, *_, stop = events(messages(gateway, customer, "keeps", stream=True))
    assert begin["message"]["usage"]["cache_creation"] == WRITTEN
    assert stop["pisces"]["cost"] == money.to_text(COST)
    settled(gateway, customer)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_other_clients_are_told_the_sum_of_both_lifetimes(gateway: Gateway, customer: Customer, streamed: bool) -> None:
    body = {"model": "it-keeps", "max_tokens": 100, "messages": marked("1h"), "stream": streamed}
    answer = asked(gateway, customer, "/v1/chat/completions", body | {"stream_options": {"include_usage": True}})
    usage = (events(answer)[-1] if streamed else answer.json())["usage"]
    assert usage["prompt_tokens"] == 470
    assert usage["prompt_tokens_details"] == {"cached_tokens": 50, "cache_write_tokens": 400, "audio_tokens": 0}
    settled(gateway, customer)


def test_a_stream_that_breaks_off_is_charged_for_what_it_had_written_for_an_hour(
    gateway: Gateway, customer: Customer
) -> None:
    messages(gateway, customer, "breaks", stream=True)
    (call,) = eventually(lambda: gateway.calls(customer.key))
    output = call["usage"].pop("output")
    assert (call["usage"], call["usage_source"]) == ({name: USED[name] for name in USED if name != "output"}, "partial")
    assert call["cost"] == COST + (output - 7) * 20_000 == gateway.spent(customer)


def test_a_card_without_a_price_for_an_hour_charges_that_of_any_other_write(
    gateway: Gateway, customer: Customer
) -> None:
    messages(gateway, customer, "plain")
    (call,) = eventually(lambda: gateway.calls(customer.key))
    assert (call["usage"], call["cost"]) == (USED, COST - 300 * 3000)


# ---- what is held ---------------------------------------------------------------------------------------------------


def held(gateway: Gateway, customer: Customer) -> list[int]:
    return [call["held"] for call in gateway.calls(customer.key)]


def test_only_a_call_that_asks_for_an_hour_holds_for_one(gateway: Gateway, customer: Customer) -> None:
    for model in ("keeps", "plain"):
        for ttl in (None, "5m", "1h"):
            messages(gateway, customer, model, ttl)
    without, minutes, hour, *plain = held(gateway, customer)
    assert [without, minutes] == plain[:2], "the price of an hour changes nothing for others"
    assert plain[1] == plain[2]
    assert hour - minutes >= len(TEXT) * 3000


def test_an_hour_that_is_written_with_escapes_or_asked_for_by_the_channel_is_held_for(
    gateway: Gateway, customer: Customer
) -> None:
    body = json.dumps({"model": "it-keeps", "max_tokens": 100, "messages": marked("1h")})
    asked(gateway, customer, "/v1/messages", body)
    asked(gateway, customer, "/v1/messages", body.replace('"ttl": "1h"', '"\\u0074tl" : "\\u0031h"'))
    messages(gateway, customer, "always", None)
    messages(gateway, customer, "keeps", None)
    plain, escaped, always, never = held(gateway, customer)
    assert escaped >= plain
    assert always - never >= len(TEXT) * 3000


def test_words_about_an_hour_hold_for_none(gateway: Gateway, customer: Customer) -> None:
    said = {"role": "user", "content": json.dumps({"ttl": "1h"})}
    asked(gateway, customer, "/v1/messages", {"model": "it-keeps", "max_tokens": 100, "messages": [said]})
    asked(gateway, customer, "/v1/messages", {"model": "it-plain", "max_tokens": 100, "messages": [said]})
    words, plain = held(gateway, customer)
    assert words == plain
