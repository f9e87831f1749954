"""An upstream that is silent past one of its timeouts: 504, nothing charged, nothing left open."""

import asyncio
import json

import pytest

from tests.kit import client, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.kit.upstream import Exchange, Script, Upstream


def timed_out(gateway: Gateway, customer: Customer, answer: object) -> None:
    error = answer.json()["error"]  # type: ignore[attr-defined]
    assert (error["code"], error["type"]) == ("upstream_timeout", "api_error")
    assert answer.status_code == 504  # type: ignore[attr-defined]
    (call,) = gateway.calls(customer.key)
    assert (call["state"], call["status"], call["cost"]) == ("failed", 504, 0)
    assert gateway.holds(customer.wallet)[0]["state"] == "voided"
    assert gateway.transfers(customer.wallet) == []


def is_let_go(exchange: Exchange) -> bool:
    return bool(eventually(lambda: exchange.closed_at))


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_an_upstream_that_says_nothing_is_a_504(
    gateway: Gateway, customer: Customer, upstream: Upstream, streamed: bool
) -> None:
    script = upstream.play(scripts.silence)
    answer = client.chat(gateway.url, customer.token, model="impatient", stream=streamed, x_script=script)
    timed_out(gateway, customer, answer)
    assert is_let_go(upstream.one(script))


def test_an_upstream_that_does_not_accept_the_connection_is_a_504(gateway: Gateway, customer: Customer) -> None:
    timed_out(gateway, customer, client.chat(gateway.url, customer.token, model="black-hole"))


def test_an_answer_that_stops_in_its_middle_is_a_504(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    script = upstream.play(scripts.stalling_body)
    timed_out(gateway, customer, client.chat(gateway.url, customer.token, model="impatient", x_script=script))
    assert is_let_go(upstream.one(script))


def test_an_answer_that_drips_past_the_total_is_a_504(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    async def drip(exchange: Exchange) -> None:
        await exchange.head(200, {"Content-Type": "application/json", "Content-Length": "1000"})
        for _ in range(1000):
            await exchange.write(b" ")
            await asyncio.sleep(0.1)

    script = upstream.play(drip)
    timed_out(gateway, customer, client.chat(gateway.url, customer.token, model="impatient", x_script=script))
    assert is_let_go(upstream.one(script))


def test_headers_and_comments_alone_do_not_count_as_a_stream_s_answer(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    comments = [b": ping\n\n"] * 100
    script = upstream.play(scripts.stream(comments, pause=0.1))
    answer = client.chat(gateway.url, customer.token, model="impatient", stream=True, x_script=script)
    timed_out(gateway, customer, answer)
    assert is_let_go(upstream.one(script))


@pytest.mark.parametrize("kind", ["idle", "total"])
def test_a_stream_that_stops_or_never_ends_gets_an_error_and_is_charged_for_what_was_seen(
    gateway: Gateway, customer: Customer, upstream: Upstream, kind: str
) -> None:
    script = upstream.play(scripts.stalling_after(3) if kind == "idle" else scripts.endless())
    answer = client.chat(gateway.url, customer.token, model="impatient", stream=True, x_script=script)
    found = client.events(answer)
    assert found[-1]["error"]["code"] == "upstream_timeout"
    assert "[DONE]" not in found
    (call,) = gateway.calls(customer.key)
    assert (call["state"], call["status"], call["usage_source"]) == ("failed", 504, "counted")
    assert 0 < call["cost"] <= call["held"]
    assert is_let_go(upstream.one(script))


@pytest.mark.parametrize("silent", [scripts.silence, scripts.stalling_body], ids=["at once", "in mid-body"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_after_a_silent_channel_the_next_one_answers(
    gateway: Gateway, customer: Customer, upstream: Upstream, streamed: bool, silent: Script
) -> None:
    good = scripts.stream() if streamed else scripts.whole()
    script = upstream.play(scripts.in_turn(silent, good))
    answer = client.chat(gateway.url, customer.token, model="slow-first", stream=streamed, x_script=script)
    assert answer.status_code == 200, answer.text
    told = client.events(answer)[-2]["pisces"] if streamed else answer.json()["pisces"]
    assert (told["retries"], told["channel"]) == (1, "second")
    assert gateway.spent(customer) == 200_000


def test_a_slow_answer_within_its_time_is_an_answer(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    script = upstream.play(scripts.stream(pause=0.1, first_after=0.2))
    answer = client.chat(gateway.url, customer.token, model="impatient", stream=True, x_script=script)
    assert client.text(client.events(answer)) == "Hello, world."
    assert json.loads(json.dumps(gateway.calls(customer.key)[0]["usage"])) == {"input": 100, "output": 50}
