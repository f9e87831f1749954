"""Streams that end too soon, in every protocol: what was reported by then is charged, and the rest as it is counted."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.kit import scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.plugin import PRICE
from tests.kit.ports import eventually
from tests.kit.upstream import Exchange, Script, Upstream

WIRE = Path(__file__).parents[1] / "wire"
PATHS = {
    "openai": "/v1/chat/completions",
    "completions": "/v1/completions",
    "responses": "/v1/responses",
    "anthropic": "/v1/messages",
    "gemini": "/v1beta/models/{model}:streamGenerateContent?alt=sse",
}
HELLO = [{"role": "user", "content": "Hello"}]


class Stage(Upstream):
    """A provider that plays one script to whoever comes: what is translated keeps no name of one."""

    def __init__(self) -> None:
        super().__init__(scripts.default)
        self.now: Script = scripts.default

    def script_of(self, exchange: Exchange) -> Script:
        return self.now


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    server = Stage()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="module", autouse=True)
def _channels(gateway: Gateway, stage: Stage) -> None:
    """A model for each protocol, served by a channel that speaks it."""
    furnish(gateway, stage)
    headers = {"Authorization": f"Bearer {gateway.customer().token}"}
    eventually(
        lambda: requests.get(f"{gateway.url}/v1/models/of-gemini", headers=headers, timeout=5).status_code == 200
    )


def furnish(gateway: Gateway, stage: Stage) -> None:
    for protocol in ("openai", "responses", "anthropic", "gemini"):
        gateway.model(f"of-{protocol}", PRICE, max_output=1000)
        gateway.channel(f"of-{protocol}", stage.url, {f"of-{protocol}": f"up-{protocol}"}, protocol=protocol)


def opened(gateway: Gateway, customer: Customer, client: str, provider: str) -> requests.Response:
    """A streamed call of a client's protocol to a provider's, its answer unread."""
    model = f"of-{provider}"
    asked: dict[str, Any] = {"model": model, "stream": True}
    match client:
        case "responses":
            asked |= {"input": "Hello", "store": False}
        case "completions":
            asked |= {"prompt": "Hello", "max_tokens": 500}
        case "gemini":
            asked = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}]}
        case _:
            asked |= {"messages": HELLO, "max_tokens": 500}
    headers = {"Authorization": f"Bearer {customer.token}", "anthropic-version": "2023-06-01"}
    url = gateway.url + PATHS[client].format(model=model)
    return requests.post(url, json=asked, headers=headers, stream=True, timeout=30)


def ended(
    gateway: Gateway, customer: Customer, stage: Stage, client: str, provider: str, events: Sequence[bytes], *,
    left: bool, after: bytes = b"",
) -> dict[str, Any]:  # fmt: skip
    """The record of a call whose provider breaks off after these events, or whose client leaves once it has read
    `after`."""
    stage.now = scripts.stalling_after(events) if left else broken_after(events)
    answer = opened(gateway, customer, client, provider)
    received = b""
    for byte in answer.iter_content(1):
        received += byte
        if left and after in received:
            break
    answer.close()
    (call,) = eventually(lambda: gateway.calls(customer.key))
    assert (call["state"], call["status"] == 499) == (("left", True) if left else ("failed", False))
    assert gateway.spent(customer) == call["cost"] <= call["held"]
    return call


def broken_after(events: Sequence[bytes]) -> Script:
    """These events, and then a connection that breaks."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, scripts.SSE)
        for data in events:
            await exchange.chunk(data)
        exchange.abort()

    return script


# ---- what providers send --------------------------------------------------------------------------------------------


def named(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def message_start(**usage: int) -> bytes:
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None,
        "stop_sequence": None, "usage": usage,
    }  # fmt: skip
    return named("message_start", message=message)


def block(*words: str) -> list[bytes]:
    """Anthropic's text, up to the block's end."""
    texts = [named("content_block_delta", index=0, delta={"type": "text_delta", "text": word}) for word in words]
    start = named("content_block_start", index=0, content_block={"type": "text", "text": ""})
    return [start, *texts, named("content_block_stop", index=0)]


def candidate(text: str, usage: dict[str, int] | None = None, finish: str | None = None) -> bytes:
    """One event of Gemini's."""
    found: dict[str, Any] = {"index": 0, "content": {"role": "model", "parts": [{"text": text}]}}
    more = {} if usage is None else {"usageMetadata": usage}
    if finish is not None:
        found["finishReason"] = finish
    return scripts.event({"candidates": [found], "modelVersion": "m", "responseId": "r", **more})


def of_responses() -> list[bytes]:
    """A recorded stream of OpenAI's, up to its first words."""
    events = (WIRE / "responses" / "text.sse").read_bytes().split(b"\n\n")
    first = next(number for number, event in enumerate(events) if b"output_text.delta" in event)
    return [event + b"\n\n" for event in events[: first + 1]]


CACHED = {"input_tokens": 20, "cache_read_input_tokens": 300, "output_tokens": 1}
RUNNING = {"promptTokenCount": 320, "cachedContentTokenCount": 300, "candidatesTokenCount": 7}
CLIENTS = pytest.mark.parametrize("client", ["openai", "completions", "responses", "anthropic", "gemini"])


BEGINNINGS = {
    "openai": scripts.chunks("m")[:3],
    "responses": of_responses(),
    "anthropic": [message_start(**CACHED), *block("Hello", ", ")],
    "gemini": [candidate("Hello", RUNNING)],
}


# ---- leaving --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("provider", BEGINNINGS)
@CLIENTS
def test_a_client_that_leaves_in_mid_answer_is_on_record_as_having_left(
    gateway: Gateway, customer: Customer, stage: Stage, client: str, provider: str
) -> None:
    call = ended(gateway, customer, stage, client, provider, BEGINNINGS[provider], left=True, after=b'"Hello')
    assert (call["state"], call["status"], call["error"]) == ("left", 499, "client_left")
    assert [attempt["outcome"] for attempt in call["attempts"]] == ["client_left"]
    assert call["cost"] > 0
