"""Searches that a provider makes by itself, over HTTP: counted from every provider's answers, held for and charged."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.kit import scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.kit.upstream import Exchange, Upstream

WIRE = Path(__file__).parents[1] / "wire"
CARD = {"input": "1", "output": "2", "per_search": "0.01"}
SEARCH = 10**7
ANSWERS = {"anthropic": "search", "responses": "search", "gemini": "grounded"}
PATHS = {
    "anthropic": "/v1/messages",
    "responses": "/v1/responses",
    "gemini": "/v1beta/models/{model}:{verb}",
    "openai": "/v1/chat/completions",
}
HELLO = [{"role": "user", "content": "Hello"}]


async def provider(exchange: Exchange) -> None:
    """Answers as it was recorded, in the protocol that it is asked in; the answer to `breaks` breaks off."""
    protocol = "gemini" if "contents" in exchange.json else "responses" if "input" in exchange.json else "anthropic"
    file = WIRE / protocol / ANSWERS[protocol]
    if not (exchange.json.get("stream") or "streamGenerate" in exchange.target):
        await exchange.answer(200, file.with_suffix(".json").read_bytes())
        return
    blank = b"\r\n\r\n" if b"\r\n\r\n" in file.with_suffix(".sse").read_bytes() else b"\n\n"
    events = [event + blank for event in file.with_suffix(".sse").read_bytes().split(blank) if event.strip()]
    if exchange.json.get("model") != "breaks":
        await scripts.stream(events)(exchange)
        return
    await exchange.head(200, scripts.SSE)
    for event in events[:-2]:
        await exchange.chunk(event)
    exchange.abort()


@pytest.fixture(scope="module", autouse=True)
def _offers(gateway: Gateway, upstream: Upstream) -> Iterator[None]:
    server = Upstream(provider)
    server.start()
    for name in ANSWERS:
        gateway.model(f"searched-{name}", CARD, max_output=1000)
        gateway.channel(f"searched-{name}", server.url, {f"searched-{name}": "up"}, protocol=name)
    gateway.model("searched-chat", CARD, max_output=1000)
    gateway.channel("searched-chat", upstream.url, {"searched-chat": "up"})
    for name, more in (
        ("always", {"parameters": {"web_search_options": {}}}), ("never", {"parameters": {"web_search_options": None}}),
        ("unknown", {"preset": "mistral"}),
    ):  # fmt: skip
        gateway.model(f"searched-{name}", CARD, max_output=1000)
        gateway.channel(f"searched-{name}", upstream.url, {f"searched-{name}": "up"}, **more)
    for name, card in (("breaks", CARD), ("unpriced", {"input": "1", "output": "2"})):
        gateway.model(f"searched-{name}", card, max_output=1000)
        gateway.channel(f"searched-{name}", server.url, {f"searched-{name}": name}, protocol="anthropic")
    headers, last = (
        {"Authorization": f"Bearer {gateway.customer().token}"},
        f"{gateway.url}/v1/models/searched-unpriced",
    )
    eventually(lambda: requests.get(last, headers=headers, timeout=5).status_code == 200)
    yield
    server.stop()


def asked(
    gateway: Gateway, customer: Customer, client: str, name: str, *, streamed: bool = False, **more: Any
) -> dict[str, Any]:
    """The record of a call of this client's protocol to the model of that name."""
    model = f"searched-{name}"
    body: dict[str, Any] = {"model": model, "stream": streamed, **more}
    match client:
        case "gemini":
            body = {"contents": [{"role": "user", "parts": [{"text": "Hello"}]}], **more}
        case "responses":
            body |= {"input": "Hello", "store": False}
        case _:
            body |= {"messages": HELLO, "max_tokens": 500}
    path = PATHS[client].format(model=model, verb="streamGenerateContent?alt=sse" if streamed else "generateContent")
    before = len(gateway.calls(customer.key))
    answer = requests.post(
        gateway.url + path,
        data=json.dumps(body),
        headers={"Authorization": f"Bearer {customer.token}", "Content-Type": "application/json"},
        timeout=20,
    )
    assert answer.status_code == 200, answer.text
    return eventually(lambda: gateway.calls(customer.key)[before:])[0]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("translated", [False, True], ids=["passed", "translated"])
@pytest.mark.parametrize("name", ANSWERS)
def test_a_search_is_charged_whoever_made_it_and_whoever_asked(
    gateway: Gateway, customer: Customer, name: str, translated: bool, streamed: bool
) -> None:
    call = asked(gateway, customer, "openai" if translated else name, name, streamed=streamed)
    assert (call["state"], call["usage_source"], call["usage"]["searches"]) == ("settled", "reported", 1)
    (line,) = (line for line in call["lines"] if line["bucket"] == "searches")
    assert (line["quantity"], line["amount"]) == (1, SEARCH)
    assert sum(line["amount"] for line in call["lines"]) == call["cost"] == gateway.spent(customer)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("usage", [scripts.USAGE, None], ids=["reported", "counted"])
def test_a_chat_that_is_to_search_has_searched_once(
    gateway: Gateway, customer: Customer, upstream: Upstream, usage: Any, streamed: bool
) -> None:
    script = upstream.play(scripts.stream(usage=usage) if streamed else scripts.whole(usage=usage))
    more: dict[str, Any] = {"streamed": streamed, "x_script": script}
    without = asked(gateway, customer, "openai", "chat", **more)
    within = asked(gateway, customer, "openai", "chat", web_search_options={}, **more)
    assert within["usage"] == {**without["usage"], "searches": 1}
    assert within["cost"] == without["cost"] + SEARCH
    assert within["usage_source"] == without["usage_source"]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_chat_has_searched_where_its_provider_was_asked_to(
    gateway: Gateway, customer: Customer, upstream: Upstream, streamed: bool
) -> None:
    """An operator may have every call search, or none, and a provider may not know the field."""
    script = upstream.play(scripts.stream() if streamed else scripts.whole())
    more: dict[str, Any] = {"streamed": streamed, "x_script": script}
    always = asked(gateway, customer, "openai", "always", **more)
    assert always["usage"]["searches"] == 1
    for name in ("never", "unknown"):
        assert "searches" not in asked(gateway, customer, "openai", name, web_search_options={}, **more)["usage"]


def test_searches_of_an_answer_that_breaks_off_are_those_that_were_seen(gateway: Gateway, customer: Customer) -> None:
    call = asked(gateway, customer, "anthropic", "breaks", streamed=True, tools=[{"type": "web_search_20250305"}])
    assert (call["usage_source"], call["usage"]["searches"]) == ("partial", 1)
    assert SEARCH < call["cost"] <= call["held"]


def test_without_a_price_a_search_is_told_and_costs_nothing(gateway: Gateway, customer: Customer) -> None:
    tools = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 100}]
    call = asked(gateway, customer, "anthropic", "unpriced", tools=tools)
    assert call["usage"]["searches"] == 1
    assert call["cost"] == call["usage"]["input"] * 1000 + call["usage"]["output"] * 2000
    assert call["held"] < SEARCH


def test_a_call_holds_for_the_searches_that_it_allows(gateway: Gateway, customer: Customer) -> None:
    tool = {"type": "web_search_20250305", "name": "web_search"}
    none, three, usual = (
        asked(gateway, customer, "anthropic", "anthropic", **more)["held"]
        for more in ({}, {"tools": [{**tool, "max_uses": 3}]}, {"tools": [tool]})
    )
    assert none < SEARCH
    assert 3 * SEARCH < three < 4 * SEARCH
    assert 10 * SEARCH < usual < 11 * SEARCH
    limited = asked(gateway, customer, "responses", "responses", tools=[{"type": "web_search"}], max_tool_calls=2)
    assert 2 * SEARCH < limited["held"] < 3 * SEARCH
    assert 10 * SEARCH < asked(gateway, customer, "openai", "always")["held"] < 11 * SEARCH, "its channel asks for them"
