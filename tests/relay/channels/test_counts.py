"""Counts of tokens at channels: how long one waits, what is sent, and what a failure does to other calls."""

import time
import uuid
from typing import Any

import pytest
import requests

from tests.kit import client, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.kit.upstream import Exchange, Upstream
from tests.relay.channels.conftest import Make
from tests.relay.channels.made import credentials, row

IMPATIENT = {"connect": 0.5, "first_byte": 0.5, "idle": 0.5, "total": 2.0}


def count(gateway: Gateway, token: str, model: str, **body: Any) -> requests.Response:
    return client.chat(gateway.url, token, path="/v1/messages/count_tokens", model=model, **body)


def anthropic(upstream: Upstream, **fields: Any) -> tuple[str, dict[str, Any]]:
    """A channel to the provider's Anthropic address."""
    return upstream.url.removesuffix("/v1"), {"protocol": "anthropic", **fields}


def test_a_provider_that_hangs_is_waited_for_once_and_as_long_as_its_channel_says(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    model = offer(anthropic(upstream, secret="sk-hangs-0000001", timeouts=IMPATIENT))
    credentials(gateway, model, 0, "sk-hangs-0000002", "sk-hangs-0000003")
    script = upstream.play(scripts.silence)
    began = time.monotonic()
    answer = count(gateway, customer.token, model, x_script=script)
    assert (answer.status_code, answer.json()["input_tokens"] > 0) == (200, True)
    assert time.monotonic() - began < 5
    assert len(upstream.served(script)) == 1


def test_a_credential_that_is_refused_for_a_count_is_disabled(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    model = offer(anthropic(upstream, secret="sk-refused-00001"))
    (only,) = credentials(gateway, model, 0)
    script = upstream.play(scripts.error(401, "no key sk-refused-00001"))
    for _ in range(3):
        assert count(gateway, customer.token, model, x_script=script).status_code in (200, 503)
    assert len(upstream.served(script)) == 1
    eventually(lambda: row(gateway, only)["disabled_at"])
    assert "sk-refused" not in row(gateway, only)["disabled_reason"]


def test_a_breaker_that_counts_have_opened_is_shut_for_counts_too(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    model = offer(anthropic(upstream, breaker={"failures": 2}), (upstream.url, {"priority": 1}))
    script = upstream.play(scripts.error(500))
    for _ in range(4):
        assert count(gateway, customer.token, model, x_script=script).status_code == 200
    assert len(upstream.served(script)) == 2


@pytest.mark.parametrize("status", [403, 404, 405, 429, 501])
def test_an_endpoint_that_is_missing_or_shut_or_busy_says_nothing_of_the_others(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make, status: int
) -> None:
    model = offer(anthropic(upstream, secret="sk-no-counts-0001", breaker={"failures": 2}))
    (only,) = credentials(gateway, model, 0)
    script = upstream.play(scripts.error(status))
    for _ in range(4):
        assert count(gateway, customer.token, model, x_script=script).status_code == 200
    chat = upstream.play(scripts.error(400))
    asked: dict[str, Any] = {"path": "/v1/messages", "model": model, "max_tokens": 9, "x_script": chat}
    assert client.chat(gateway.url, customer.token, **asked).status_code == 400
    assert len(upstream.served(chat)) == 1
    assert row(gateway, only)["disabled_at"] is None


def test_a_count_is_asked_with_the_channel_s_parameters_that_anthropic_s_endpoint_knows(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    thinking = {"type": "enabled", "budget_tokens": 2000}
    script = upstream.play(scripts.value({"input_tokens": 7}))
    parameters = {"thinking": thinking, "temperature": 0.5, "service_tier": "auto", "x_script": script}
    model = offer(anthropic(upstream, parameters=parameters))
    assert count(gateway, customer.token, model).json() == {"input_tokens": 7}
    sent = upstream.one(script).json
    assert sent["thinking"] == thinking
    assert not {"temperature", "service_tier"} & sent.keys()


def test_a_count_is_asked_with_the_channel_s_parameters_inside_of_google_s_request(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    counted = f"counted-{uuid.uuid4().hex}"
    fields = {"protocol": "gemini", "model": counted, "parameters": {"generationConfig": {"topK": 3}}}
    model = offer((upstream.url.removesuffix("/v1"), fields))
    body = {"contents": [{"parts": [{"text": "Hello"}]}], "generationConfig": {"maxOutputTokens": 9}}
    answer = requests.post(
        f"{gateway.url}/v1beta/models/{model}:countTokens",
        json={"generateContentRequest": body},
        headers={"x-goog-api-key": customer.token},
        timeout=30,
    )
    assert answer.status_code == 200, answer.text
    (asked,) = (found for found in upstream.exchanges if found.target.endswith(f"{counted}:countTokens"))
    assert asked.json["generateContentRequest"]["generationConfig"] == {"maxOutputTokens": 9, "topK": 3}


def test_the_prompt_of_a_test_key_goes_to_no_provider_to_be_counted(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    async def never(exchange: Exchange) -> None:
        raise AssertionError("a test key's prompt has left the house")

    script = upstream.play(never)
    model = offer(anthropic(upstream, parameters={"x_script": script}))
    _, token = gateway.issue(customer.team, type="test")
    refused = count(gateway, token, model)
    assert (refused.status_code, refused.json()["error"]["type"]) == (404, "not_found_error")
    assert "demo channel" in refused.json()["error"]["message"]
    assert upstream.served(script) == []
    assert count(gateway, token, "demo-chat").json()["input_tokens"] > 0
