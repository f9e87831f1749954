"""Accounts that cannot pay: they rest, the next channel answers, and no caller hears whose money is out."""

import json
from typing import Any

import pytest

from tests.kit import client, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.upstream import Upstream
from tests.relay.channels.conftest import Make

OPENAI_UNPAID = {"type": "insufficient_quota", "param": None, "code": "credit_balance_exhausted"}
OPENAI_SPENT = {"type": "rate_limit_error", "param": None, "code": "project_spend_limit_exceeded"}
OPENROUTER_SPENT = {"code": 403, "metadata": {"limit_source": "openrouter_key_limit", "limit_usd": 5}}
GROQ_SPENT = {"type": "invalid_request_error", "code": "blocked_api_access"}
ANTHROPIC_UNPAID = {"type": "invalid_request_error"}
ANTHROPIC_SPENT = {"type": "rate_limit_error", "details": {"error_code": "enforced_spend_limit_reached"}}
DASHSCOPE_UNPAID = {"type": "Arrearage", "param": None, "code": "Arrearage"}
NEW_API_UNPAID = {"type": "new_api_error", "param": "", "code": "pre_consume_token_quota_failed"}
UNPAID = [
    ("openai", 402, {"type": "unknown_error"}, "Insufficient Balance"),
    ("openai", 429, OPENAI_UNPAID, "You exceeded your current quota, please check your plan and billing details."),
    ("openai", 429, OPENAI_SPENT, "This project has reached its monthly spend limit."),
    ("openai", 400, GROQ_SPENT, "API access has been blocked: the spend limit of your organization is reached."),
    ("openai", 403, OPENROUTER_SPENT, "Budget limit exceeded"),
    ("openai", 400, DASHSCOPE_UNPAID, "Access denied, please make sure your account is in good standing."),
    ("openai", 403, NEW_API_UNPAID, "token quota is not enough, token remain quota: $0.10, need quota: $0.20"),
    ("anthropic", 400, ANTHROPIC_UNPAID, "Your credit balance is too low to access the Anthropic API."),
    ("anthropic", 400, ANTHROPIC_UNPAID, "You have reached your specified API usage limits. You will regain …"),
    ("anthropic", 400, ANTHROPIC_UNPAID, "You have reached your specified workspace API usage limits. You will …"),
    ("anthropic", 429, ANTHROPIC_SPENT, "You have reached your API usage limits: your organization has crossed …"),
]


@pytest.mark.parametrize(("protocol", "status", "error", "message"), UNPAID)
def test_an_account_that_cannot_pay_rests_for_long_whatever_the_status_and_the_caller_does_not_hear_of_it(
    gateway: Gateway,
    customer: Customer,
    upstream: Upstream,
    offer: Make,
    protocol: str,
    status: int,
    error: dict[str, Any],
    message: str,
) -> None:
    content = {"type": "error", "error": {**error, "message": message}}
    parameters = {"x_script": upstream.play(scripts.body(json.dumps(content).encode(), status=status))}
    poor = (upstream.url, {"protocol": protocol, "parameters": parameters})
    alone, helped = offer(poor), offer(poor, (upstream.url, {"priority": 1}))
    answer = client.chat(gateway.url, customer.token, model=helped)
    assert (answer.status_code, answer.json()["pisces"]["retries"]) == (200, 1)
    told = client.chat(gateway.url, customer.token, model=alone)
    assert (told.status_code, told.json()["error"]["code"]) == (502, "upstream_error")
    assert message not in told.text
    assert 250 <= int(client.chat(gateway.url, customer.token, model=alone).headers["Retry-After"]) <= 300


def test_a_provider_that_waits_for_calls_in_flight_rests_no_longer_than_it_says(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    error = {"code": 402, "message": "In-flight budget", "metadata": {"limit_source": "openrouter_in_flight_budget"}}
    content = json.dumps({"error": error}).encode()
    script = upstream.play(scripts.body(content, status=402, headers={"Retry-After": "7"}))
    model = offer((upstream.url, {"parameters": {"x_script": script}}))
    for _ in range(2):
        told = client.chat(gateway.url, customer.token, model=model)
        assert told.status_code in (429, 503)
        assert 1 <= int(told.headers["Retry-After"]) <= 7


TEAM_UNPAID = "Your team 0a1b has either used all available credits or reached its monthly spending limit. To …"


@pytest.mark.parametrize("status", [403, 429])
@pytest.mark.parametrize("said", [TEAM_UNPAID, "Your newly created teams doesn't have any credits yet."])
def test_an_account_of_xai_s_without_money_rests_and_is_not_taken_for_a_bad_key(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make, status: int, said: str
) -> None:
    content = {"code": "The caller does not have permission to execute the specified operation", "error": said}
    script = upstream.play(scripts.body(json.dumps(content).encode(), status=status))
    model = offer((upstream.url, {"preset": "xai"}))
    told = client.chat(gateway.url, customer.token, model=model, x_script=script)
    assert (told.status_code, "team" in told.text) == (502, False)
    assert 250 <= int(client.chat(gateway.url, customer.token, model=model).headers["Retry-After"]) <= 300


def test_alibaba_s_limit_of_tokens_a_minute_is_a_limit_though_its_code_and_words_are_those_of_an_account_without_money(
    gateway: Gateway, customer: Customer, upstream: Upstream, offer: Make
) -> None:
    said = "You exceeded your current quota, please check your plan and billing details. For details, see: "
    said += "https://help.aliyun.com/zh/model-studio/error-code#token-limit"
    content = {"error": {"message": said, "type": "insufficient_quota", "param": None, "code": "insufficient_quota"}}
    script = upstream.play(scripts.body(json.dumps(content).encode(), status=429))
    told = client.chat(gateway.url, customer.token, model=offer((upstream.url, {})), x_script=script)
    assert (told.status_code, told.headers["Retry-After"]) == (429, "5")
