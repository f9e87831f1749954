"""Pictures that a model draws in a conversation of clients whose answers are text: shown, and read back (C6)."""

import base64
import random
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import requests

from tests.kit import client, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.kit.upstream import Exchange, Upstream
from tests.relay.test_counting_media import png

PICTURE = base64.b64encode(png(1024, 1024) + random.Random(1).randbytes(300_000)).decode()
LARGE = base64.b64encode(random.Random(2).randbytes(12_000_000)).decode()
INPUT = 1000  # nano-units a token


async def drawing(exchange: Exchange) -> None:
    part = {"inlineData": {"mimeType": "image/png", "data": LARGE if "large" in str(exchange.json) else PICTURE}}
    candidate = {"content": {"role": "model", "parts": [{"text": "Here: "}, part]}, "finishReason": "STOP"}
    answer = {"candidates": [candidate], "modelVersion": "up", "responseId": "r"}
    said = scripts.stream([scripts.event(answer)]) if "stream" in exchange.target else scripts.value(answer)
    await said(exchange)


@pytest.fixture(scope="module")
def google() -> Iterator[Upstream]:
    server = Upstream(drawing).start()
    yield server
    server.stop()


@pytest.fixture(autouse=True, scope="module")
def draws(gateway: Gateway, google: Upstream) -> None:
    base = google.url.removesuffix("/v1")
    gateway.channel("draws", base, {"draws": "gemini-2.5-flash-image"}, protocol="gemini")
    gateway.model("draws", {"input": "1", "output": "0"}, max_output=1000)
    token = gateway.customer().token
    eventually(lambda: client.models(gateway.url, token, "draws").status_code == 200)


def in_chat(gateway: Gateway, customer: Customer, messages: list[Any]) -> Any:
    answer = client.chat(gateway.url, customer.token, model="draws", messages=messages)
    return answer.json()["choices"][0]["message"]["content"]


def in_messages(gateway: Gateway, customer: Customer, messages: list[Any]) -> Any:
    fields = {"model": "draws", "messages": messages, "max_tokens": 100}
    return client.chat(gateway.url, customer.token, path="/v1/messages", **fields).json()["content"]


@pytest.mark.parametrize("ask", [in_chat, in_messages])
def test_a_picture_that_was_drawn_is_a_picture_in_the_next_turn_and_costs_one(
    gateway: Gateway, customer: Customer, google: Upstream, ask: Any
) -> None:
    first = {"role": "user", "content": "Draw a cat."}
    shown = ask(gateway, customer, [first])
    assert PICTURE in str(shown)
    ask(gateway, customer, [first, {"role": "assistant", "content": shown}, {"role": "user", "content": "In red."}])
    [_, drawn, _] = google.exchanges[-1].json["contents"]
    assert drawn["parts"] == [{"text": "Here: "}, {"inlineData": {"mimeType": "image/png", "data": PICTURE}}]
    call = max(eventually(lambda: gateway.calls(customer.key)), key=lambda found: found["usage"]["input"])
    assert 258 < call["usage"]["input"] < 4000
    assert call["held"] < 10_000 * INPUT


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages", "/v1beta/models/draws:streamGenerateContent"])
def test_a_picture_of_twelve_megabytes_is_streamed_whole(gateway: Gateway, customer: Customer, path: str) -> None:
    said = "Draw a large cat."
    messages = {"model": "draws", "messages": [{"role": "user", "content": said}], "max_tokens": 100, "stream": True}
    body = {"contents": [{"parts": [{"text": said}]}]} if "Generate" in path else messages
    headers = {"Authorization": f"Bearer {customer.token}"}
    answer = requests.post(f"{gateway.url}{path}?alt=sse", json=body, headers=headers, timeout=30)
    assert answer.status_code == 200
    assert LARGE in answer.text
    (call,) = eventually(lambda: gateway.calls(customer.key))
    assert (call["state"], call["error"]) == ("settled", "")


def test_a_picture_that_takes_longer_than_a_stall_to_be_sent_comes_whole(gateway: Gateway, customer: Customer) -> None:
    body = {"model": "draws", "messages": [{"role": "user", "content": "Draw a large cat."}], "stream": True}
    begun, received, last = time.monotonic(), 0, b""
    with client.open_socket(gateway.url, customer.token, body) as connection:
        while b"data: [DONE]" not in last and (part := connection.recv(400_000, socket.MSG_WAITALL)):
            received, last = received + len(part), (last + part)[-500:]
            time.sleep(0.1)
    assert time.monotonic() - begun > 3, "twice what a client may take nothing for"
    assert received > len(LARGE)
    assert b"data: [DONE]" in last
    (call,) = eventually(lambda: gateway.calls(customer.key))
    assert (call["state"], call["error"]) == ("settled", "")


def test_a_picture_may_be_asked_for_by_the_modalities_of_chat(
    gateway: Gateway, customer: Customer, google: Upstream
) -> None:
    answer = client.chat(gateway.url, customer.token, model="draws", modalities=["image", "text"])
    assert google.exchanges[-1].json["generationConfig"]["responseModalities"] == ["TEXT", "IMAGE"]
    assert answer.json()["pisces"].get("dropped", []) == []


def test_modalities_that_a_model_does_not_have_are_named(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    gateway.channel("sees", upstream.url.removesuffix("/v1"), {"sees": "claude-sonnet-4-5"}, protocol="anthropic")
    gateway.model("sees", {"input": "1"}, max_output=1000)
    eventually(lambda: client.models(gateway.url, customer.token, "sees").status_code == 200)
    strict = {"X-Pisces-Strict": "true"}
    refused = client.chat(gateway.url, customer.token, model="sees", modalities=["image", "text"], headers=strict)
    assert (refused.status_code, "`modalities`" in refused.json()["error"]["message"]) == (400, True)


def test_a_conversation_with_a_picture_goes_on_with_a_model_that_sees_none(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    gateway.channel("writes", upstream.url, {"writes": "deepseek-chat"})
    gateway.model("writes", {"input": "1", "output": "1"}, max_output=1000)
    eventually(lambda: client.models(gateway.url, customer.token, "writes").status_code == 200)
    messages = [
        {"role": "user", "content": "Draw a cat."},
        {"role": "assistant", "content": f"Here: ![image](data:image/png;base64,{PICTURE})"},
        {"role": "user", "content": "Name it."},
    ]
    fields: Any = {"model": "writes", "messages": messages, "max_tokens": 100, "path": "/v1/messages"}
    answer = client.chat(gateway.url, customer.token, **fields).json()
    came = [one.json for one in upstream.exchanges if b'"deepseek-chat"' in one.body][-1]
    assert [(turn["role"], turn["content"]) for turn in came["messages"]] == [
        ("user", "Draw a cat."),
        ("assistant", "Here: "),
        ("user", "Name it."),
    ]
    assert answer["pisces"]["dropped"] == ["image"]
    refused = client.chat(gateway.url, customer.token, headers={"X-Pisces-Strict": "true"}, **fields)
    assert (refused.status_code, "`image`" in refused.json()["error"]["message"]) == (400, True)


def test_an_upstream_of_the_client_s_own_protocol_gets_the_text_as_it_came_and_it_is_held_for(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    """There it is text, and may be counted so."""
    turn = {"role": "assistant", "content": f"Here: ![image](data:image/png;base64,{PICTURE})"}
    messages = [{"role": "user", "content": "x"}, turn, {"role": "user", "content": "y"}]
    script = upstream.play(scripts.whole())
    assert client.chat(gateway.url, customer.token, model="gpt-4o", messages=messages, x_script=script).ok
    assert upstream.one(script).json["messages"] == messages
    [call] = eventually(lambda: gateway.calls(customer.key))
    assert call["held"] > len(PICTURE) * INPUT
