"""Limits of requests, tokens and calls at once, as callers meet them; `tests/keys/limits` has how they are counted."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from relay.models import Channel
from tests.kit import client, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.kit.upstream import Exchange, Upstream


def limited(gateway: Gateway, customer: Customer, **rates: int) -> str:
    _, token = gateway.issue(customer.team, **rates)
    return token


def test_a_key_s_requests_a_minute_are_as_many_as_it_has_and_no_more(gateway: Gateway, customer: Customer) -> None:
    token = limited(gateway, customer, rpm=3)
    answers = [client.chat(gateway.url, token) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["x-ratelimit-remaining-requests"] for answer in answers] == ["2", "1", "0", "0"]
    refused = answers[-1]
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(refused.headers["retry-after"]) <= 61
    assert gateway.spent(customer) == 3 * 200_000
    assert client.chat(gateway.url, customer.token).status_code == 200  # another key of the team


def test_tokens_that_were_reserved_and_not_used_are_given_back(gateway: Gateway, customer: Customer) -> None:
    token = limited(gateway, customer, tpm=1500)
    # Each reserves what it may put out, about a thousand, and uses 150.
    assert [client.chat(gateway.url, token).status_code for _ in range(3)] == [200] * 3


def test_tokens_that_were_used_count(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    token = limited(gateway, customer, tpm=1500)
    used = {"prompt_tokens": 1000, "completion_tokens": 480, "total_tokens": 1480}
    script = upstream.play(scripts.whole(usage=used))
    assert client.chat(gateway.url, token, x_script=script, max_tokens=480).status_code == 200
    refused = client.chat(gateway.url, token, max_tokens=100)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "rate_limit_exceeded")
    assert refused.headers["x-ratelimit-limit-tokens"] == "1500"


def test_a_place_is_free_again_when_its_call_has_ended(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    token = limited(gateway, customer, parallel=1)
    slow = upstream.play(scripts.whole(after=1.0))
    found: list[requests.Response] = []
    first = threading.Thread(target=lambda: found.append(client.chat(gateway.url, token, x_script=slow)))
    first.start()
    eventually(lambda: upstream.served(slow))
    assert client.chat(gateway.url, token).status_code == 429
    first.join()
    assert found[0].status_code == 200
    eventually(lambda: client.chat(gateway.url, token).status_code == 200)


def test_whoever_has_read_the_end_of_a_stream_may_call_again_at_once(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    async def lingering(exchange: Exchange) -> None:
        """All is said, and the connection goes on for a while."""
        await exchange.head(200, scripts.SSE)
        await exchange.chunk(b"".join(scripts.chunks(exchange.json["model"])))
        await asyncio.sleep(0.4)
        await exchange.chunk(b"")

    token = limited(gateway, customer, parallel=1)
    script = upstream.play(lingering)
    with client.open_socket(gateway.url, token, {"stream": True, "x_script": script}) as first:
        received = b""
        while b"[DONE]" not in received:
            received += first.recv(65536)
        assert client.chat(gateway.url, token).status_code == 200


def test_a_refused_call_costs_nothing_and_takes_no_place(gateway: Gateway, customer: Customer) -> None:
    token = limited(gateway, customer, rpm=2)
    assert client.chat(gateway.url, token, model="unknown").status_code == 404
    assert client.chat(gateway.url, token, messages=[]).status_code == 400
    assert [client.chat(gateway.url, token).status_code for _ in range(2)] == [200, 200]
    assert gateway.spent(customer) == 2 * 200_000


@pytest.mark.parametrize(
    ("path", "headers", "body"),
    [
        ("/v1/messages", {"anthropic-version": "2023-06-01"}, {"max_tokens": 10}),
        ("/v1/messages/count_tokens", {"anthropic-version": "2023-06-01"}, {}),
    ],
)
def test_anthropic_s_clients_get_their_own_headers_and_errors(
    gateway: Gateway, customer: Customer, path: str, headers: dict[str, str], body: dict[str, Any]
) -> None:
    token = limited(gateway, customer, rpm=1)
    asked = {"model": "chat", "messages": client.HELLO, **body}
    sent = {"x-api-key": token, **headers}
    first, second = (requests.post(gateway.url + path, json=asked, headers=sent, timeout=30) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 429)
    assert first.headers["anthropic-ratelimit-requests-limit"] == "1"
    assert first.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert second.json()["error"]["type"] == "rate_limit_error"


def test_gemini_s_clients_are_told_when_to_come_again(gateway: Gateway, customer: Customer) -> None:
    token = limited(gateway, customer, rpm=1)
    url = f"{gateway.url}/v1beta/models/chat:generateContent"
    asked = {"contents": [{"parts": [{"text": "Hello"}]}]}
    first, second = (requests.post(url, json=asked, headers={"x-goog-api-key": token}, timeout=30) for _ in range(2))
    assert (first.status_code, second.status_code) == (200, 429)
    assert second.json()["error"]["status"] == "RESOURCE_EXHAUSTED"
    assert int(second.headers["retry-after"]) >= 1
    (delay,) = [detail["retryDelay"] for detail in second.json()["error"]["details"] if "retryDelay" in detail]
    assert delay == f"{second.headers['retry-after']}s"


def offer(gateway: Gateway, customer: Customer, name: str, kind: str = "chat", *channels: dict[str, Any]) -> None:
    """A model on channels of its own, which are tried in their order; in force when it returns."""
    with gateway.inside():
        url = Channel.objects.get(name="main").base_url
    for number, rates in enumerate(channels):
        gateway.channel(f"{name}-{number}", url, {name: "up"}, priority=number, **rates)
    # The last, so that whoever knows it knows them all.
    gateway.model(name, {"input": "1", "output": "2"}, kind=kind, max_output=100)
    eventually(lambda: client.models(gateway.url, customer.token, name).status_code == 200)


def test_a_channel_at_its_limit_is_passed_over_and_the_next_one_asked(gateway: Gateway, customer: Customer) -> None:
    name = f"limited-{customer.team}"
    offer(gateway, customer, name, "chat", {"rpm": 1}, {"rpm": 1})
    answers = [client.chat(gateway.url, customer.token, model=name) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert [answer.headers.get("x-pisces-channel") for answer in answers[:2]] == [f"{name}-0", f"{name}-1"]
    assert "busy" in answers[2].json()["error"]["message"]


def test_a_call_that_no_channel_has_room_for_counts_for_its_key_neither(gateway: Gateway, customer: Customer) -> None:
    name = f"full-{customer.team}"
    offer(gateway, customer, name, "chat", {"rpm": 1})
    token = limited(gateway, customer, rpm=3, tpm=100_000)
    answers = [client.chat(gateway.url, token, model=name) for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200, 429, 429, 429, 429]
    assert {answer.json()["error"]["message"] for answer in answers[1:]} == {"All providers of this model are busy."}
    other = client.chat(gateway.url, token)
    assert (other.status_code, other.headers["x-ratelimit-remaining-requests"]) == (200, "1")


def test_a_call_that_its_channel_failed_counts_for_its_key(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    token = limited(gateway, customer, rpm=2)
    failing = upstream.play(scripts.error(500))
    assert [client.chat(gateway.url, token, x_script=failing).status_code for _ in range(3)] == [502, 502, 429]


def test_calls_that_put_no_tokens_out_reserve_none(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    """Of the key's limit and of the channel's, while another call is under way."""
    name = f"embedding-{customer.team}"
    offer(gateway, customer, name, "embedding", {"tpm": 1500})
    token = limited(gateway, customer, tpm=1500)

    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(1.0)
        await scripts.value(scripts.embeddings("up"))(exchange)

    def embed(**body: Any) -> requests.Response:
        headers, asked = {"Authorization": f"Bearer {token}"}, {"model": name, "input": "Hello", **body}
        return requests.post(f"{gateway.url}/v1/embeddings", json=asked, headers=headers, timeout=30)

    script = upstream.play(slow)
    with ThreadPoolExecutor() as pool:
        answers = list(pool.map(lambda _: embed(x_script=script), range(3)))
    assert [answer.status_code for answer in answers] == [200] * 3
    assert all(int(answer.headers["x-ratelimit-remaining-tokens"]) > 1300 for answer in answers)


def test_legacy_completions_have_the_headers_too(gateway: Gateway, customer: Customer) -> None:
    token = limited(gateway, customer, rpm=50)
    answer = client.chat(gateway.url, token, path="/v1/completions", prompt="Hello")
    assert (answer.status_code, answer.headers["x-ratelimit-remaining-requests"]) == (200, "49")
