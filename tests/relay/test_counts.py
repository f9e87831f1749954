"""Tokens of a prompt beforehand, over HTTP: an upstream of the caller's protocol knows, and is passed on whole."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.kit import client
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.kit.upstream import Exchange, Upstream

GOOGLE = {
    "totalTokens": 3100,
    "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 100}, {"modality": "DOCUMENT", "tokenCount": 3000}],
    "cachedContentTokenCount": 2048,
}
ANTHROPIC = {"input_tokens": 3100, "context_management": {"original_input_tokens": 9000}}
HELLO: dict[str, Any] = {"contents": [{"parts": [{"text": "Hello"}]}]}


async def told(exchange: Exchange) -> None:
    """By the model that is asked for, not a count at all."""
    answer = GOOGLE if exchange.target.endswith(":countTokens") else ANTHROPIC
    body = b'{"totalTokens": 3100, "input_tokens": 3100, "x": "\xff"}' if b"garbled" in exchange.body else None
    await exchange.answer(200, body or json.dumps(answer).encode())


@pytest.fixture(scope="module")
def counter() -> Iterator[Upstream]:
    server = Upstream(told).start()
    yield server
    server.stop()


@pytest.fixture(autouse=True, scope="module")
def offers(gateway: Gateway, counter: Upstream) -> None:
    for protocol in ("gemini", "anthropic"):
        gateway.model(f"count-{protocol}", {"input": "1", "output": "2"})
        gateway.channel(
            f"count-{protocol}", counter.url.removesuffix("/v1"), {f"count-{protocol}": "up"}, protocol=protocol
        )
    token = gateway.customer().token
    eventually(lambda: client.models(gateway.url, token, "count-anthropic").status_code == 200)


def google(gateway: Gateway, customer: Customer, model: str, body: dict[str, Any] = HELLO) -> Any:
    url, headers = f"{gateway.url}/v1beta/models/{model}:countTokens", {"x-goog-api-key": customer.token}
    answer = requests.post(url, json=body, headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    return answer.json()


def anthropic(gateway: Gateway, customer: Customer, model: str, **body: Any) -> Any:
    answer = client.chat(gateway.url, customer.token, path="/v1/messages/count_tokens", model=model, **body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_what_google_says_of_its_count_reaches_the_client(gateway: Gateway, customer: Customer) -> None:
    found = google(gateway, customer, "count-gemini")
    assert found.pop("pisces")["protocol"] == "gemini"
    assert found == GOOGLE


def test_what_anthropic_says_of_its_count_reaches_the_client(gateway: Gateway, customer: Customer) -> None:
    assert anthropic(gateway, customer, "count-anthropic") == ANTHROPIC


def test_what_no_upstream_of_the_protocol_can_say_is_counted_and_a_number_alone(
    gateway: Gateway, customer: Customer
) -> None:
    assert google(gateway, customer, "count-anthropic").keys() == {"totalTokens", "pisces"}
    assert anthropic(gateway, customer, "count-gemini").keys() == {"input_tokens"}


def test_a_count_that_is_no_text_is_not_passed_on(gateway: Gateway, customer: Customer) -> None:
    garbled = {"contents": [{"parts": [{"text": "garbled"}]}]}
    assert 0 < google(gateway, customer, "count-gemini", garbled)["totalTokens"] < 100
    messages = [{"role": "user", "content": "garbled"}]
    assert 0 < anthropic(gateway, customer, "count-anthropic", messages=messages)["input_tokens"] < 100
