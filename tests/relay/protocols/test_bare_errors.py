"""An error that a provider sends with status 200 as a body of JSON, where a stream was asked for."""

import json
from typing import Any

import pytest

from tests.kit import scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.upstream import Upstream
from tests.relay.channels.conftest import Make, offer
from tests.relay.channels.made import ask

__all__ = ["offer"]

WHY = "this model is being moved"
TOLD: dict[str, Any] = {
    "openai": {"error": {"message": WHY, "type": "server_error", "code": "moving"}},
    "responses": {"error": {"message": WHY, "type": "server_error", "code": "moving"}},
    "anthropic": {"type": "error", "error": {"type": "api_error", "message": WHY}},
    "gemini": {"error": {"code": 500, "message": WHY, "status": "INTERNAL"}},
}
TURN = {"role": "user", "content": "Hello"}
ASKED: dict[str, tuple[str, dict[str, Any]]] = {
    "openai": ("/v1/chat/completions", {"messages": [TURN]}),
    "responses": ("/v1/responses", {"input": "Hello"}),
    "anthropic": ("/v1/messages", {"messages": [TURN], "max_tokens": 10}),
    "gemini": (
        "/v1beta/models/{model}:streamGenerateContent?alt=sse",
        {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]},
    ),
}


@pytest.mark.parametrize("client", ASKED)
@pytest.mark.parametrize("provider", TOLD)
@pytest.mark.parametrize("indent", [None, 2], ids=["one line", "many lines"])
def test_its_reason_reaches_the_caller(
    gateway: Gateway, customer: Customer, offer: Make, client: str, provider: str, indent: int | None
) -> None:
    there = Upstream(scripts.body(json.dumps(TOLD[provider], indent=indent).encode())).start()
    try:
        model = offer((there.url, {"protocol": provider}))
        path, body = ASKED[client]
        named = {} if client == "gemini" else {"model": model, "stream": True}
        told = ask(gateway, customer, path.format(model=model), **body, **named)
    finally:
        there.stop()
    assert told.status_code >= 500, told.text
    assert WHY in told.json()["error"]["message"]
    (call,) = gateway.calls(customer.key)
    assert (call["state"], call["cost"]) == ("failed", 0)
