"""What Anthropic spends on summarising a conversation in mid-call, over HTTP: charged as all that it bills."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.kit import scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.kit.upstream import Exchange, Upstream

CARD = {"input": "1", "cache_read": "0.5", "cache_write": "2", "cache_write_1h": "3", "output": "10"}
# Anthropic, "Compaction": the sums have none of it, and the iterations have it beside the answer's own.
SUMMARY = {
    "type": "compaction", "input_tokens": 5000, "output_tokens": 300, "cache_read_input_tokens": 100,
    "cache_creation_input_tokens": 40,
    "cache_creation": {"ephemeral_5m_input_tokens": 40, "ephemeral_1h_input_tokens": 0},
}  # fmt: skip
OWN = {"input_tokens": 200, "output_tokens": 30, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
REPORT = {**OWN, "iterations": [SUMMARY, {**OWN, "type": "message"}]}
USED = {"input": 5200, "cache_read": 100, "cache_write": 40, "output": 330}
COST = 5200 * 1000 + 100 * 500 + 40 * 2000 + 330 * 10_000
BODY = {
    "max_tokens": 1000,
    "messages": [{"role": "user", "content": "Go on."}],
    "context_management": {"edits": [{"type": "compact_20260112"}]},
}


def named(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def message(**fields: Any) -> dict[str, Any]:
    return {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude", "stop_sequence": None, **fields}


async def provider(exchange: Exchange) -> None:
    """Anthropic, which has summarised the conversation before it answers."""
    texts = [{"type": "compaction", "content": "They greeted."}, {"type": "text", "text": "Hello"}]
    if not exchange.json.get("stream"):
        said = message(content=texts, stop_reason="end_turn", usage=REPORT)
        await exchange.answer(200, json.dumps(said).encode())
        return
    begun = message(content=[], stop_reason=None, usage={**OWN, "input_tokens": 0, "output_tokens": 1})
    events = [
        named("message_start", message=begun),
        named("content_block_start", index=0, content_block={"type": "text", "text": ""}),
        named("content_block_delta", index=0, delta={"type": "text_delta", "text": "Hello"}),
        named("content_block_stop", index=0),
        named("message_delta", delta={"stop_reason": "end_turn", "stop_sequence": None}, usage=REPORT),
        named("message_stop"),
    ]
    await scripts.stream(events)(exchange)


@pytest.fixture(scope="module", autouse=True)
def _offers(gateway: Gateway) -> Iterator[None]:
    server = Upstream(provider).start()
    gateway.model("compacts", CARD, max_output=1000)
    gateway.channel("compacts", server.url, {"compacts": "claude-opus-4-6"}, protocol="anthropic")
    headers = {"Authorization": f"Bearer {gateway.customer().token}"}
    eventually(lambda: requests.get(f"{gateway.url}/v1/models/compacts", headers=headers, timeout=5).status_code == 200)
    yield
    server.stop()


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_summary_that_the_provider_makes_is_charged_though_the_sums_have_none_of_it(
    gateway: Gateway, customer: Customer, streamed: bool
) -> None:
    headers = {"Authorization": f"Bearer {customer.token}"}
    body = {"model": "compacts", "stream": streamed, **BODY}
    answer = requests.post(f"{gateway.url}/v1/messages", json=body, headers=headers, timeout=20)
    assert answer.status_code == 200, answer.text
    assert '"iterations"' in answer.text, "the client is told as the provider tells it"
    (call,) = eventually(lambda: gateway.calls(customer.key))
    assert (call["usage"], call["cost"], call["usage_source"]) == (USED, COST, "reported")
    assert gateway.spent(customer) == COST
