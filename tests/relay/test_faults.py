"""A provider that misbehaves: what the caller is told, what it costs (nothing), who is asked next."""

import asyncio
import json
from typing import Any

import pytest

from tests.kit import client, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.plugin import SECRET
from tests.kit.ports import eventually
from tests.kit.upstream import Exchange, Script, Upstream


def costs_nothing(gateway: Gateway, customer: Customer, *, state: str = "failed") -> dict[str, Any]:
    """The one call is recorded, its hold void, the wallet as it was."""
    (call,) = eventually(lambda: gateway.calls(customer.key))
    (hold,) = gateway.holds(customer.wallet)
    assert (call["state"], call["cost"], call["usage"], call["lines"]) == (state, 0, {}, [])
    assert (hold["state"], hold["charged"]) == ("voided", 0)
    assert gateway.wallet(customer.wallet)["balance"] == 10 * 10**9
    assert gateway.transfers(customer.wallet) == []
    return call


def error_of(answer: Any) -> tuple[int, str, str]:
    assert answer.json().keys() == {"error", "pisces"}
    error = answer.json()["error"]
    assert error.keys() >= {"message", "type", "param", "code"}
    return answer.status_code, error["code"], error["type"]


FAULTS: dict[str, tuple[Script, tuple[int, str, str]]] = {
    "401": (scripts.error(401), (502, "upstream_error", "api_error")),
    "402": (scripts.error(402), (502, "upstream_error", "api_error")),
    "403": (scripts.error(403), (502, "upstream_error", "api_error")),
    "404": (scripts.error(404), (502, "upstream_error", "api_error")),
    "429": (scripts.error(429, Retry_After="7"), (429, "rate_limit_exceeded", "rate_limit_error")),
    "500": (scripts.error(500), (502, "upstream_error", "api_error")),
    "503": (scripts.error(503, Retry_After="9"), (503, "unavailable", "api_error")),
    "529": (scripts.error(529), (503, "unavailable", "api_error")),
    "a redirect": (scripts.body(b"", status=302, headers={"Location": "/v1/x"}), (502, "upstream_error", "api_error")),
    "400": (scripts.error(400, "no such parameter"), (400, "upstream_rejected", "invalid_request_error")),
    "413": (scripts.error(413), (413, "upstream_rejected", "invalid_request_error")),
    "422": (scripts.error(422), (422, "upstream_rejected", "invalid_request_error")),
    "an error page": (scripts.body(b"<html>", status=500), (502, "upstream_error", "api_error")),
    "a hang-up": (scripts.hang_up, (502, "upstream_error", "api_error")),
    "noise": (scripts.noise, (502, "upstream_error", "api_error")),
}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_provider_s_failure_is_a_clear_error_that_costs_nothing(
    gateway: Gateway, customer: Customer, upstream: Upstream, fault: str, streamed: bool
) -> None:
    script, expected = FAULTS[fault]
    answer = client.chat(gateway.url, customer.token, stream=streamed, x_script=upstream.play(script))
    assert error_of(answer) == expected
    call = costs_nothing(gateway, customer)
    assert (call["status"], call["error"]) == expected[:2]
    assert [a["outcome"] for a in call["attempts"]] == [expected[1]]
    assert answer.headers["X-Pisces-Channel"] == "main"


GARBAGE = {
    "nothing": b"",
    "a page": b"<html><body>Welcome</body></html>",
    "a list": b"[]",
    "null": b"null",
    "half an object": b'{"id": "x", "choices": [{"mess',
    "no choices": b'{"id": "x", "object": "chat.completion"}',
    "empty choices": b'{"choices": []}',
    "choices of another type": b'{"choices": "none"}',
    "an error in a 200": json.dumps({"error": {"message": "quota of the provider", "code": 403}}).encode(),
    "an error as text in a 200": b'{"error": "quota of the provider"}',
    "not UTF-8": b'{"id": "\xff", "choices": [{"message": {"content": "a"}}]}',
    "nested without end": b'{"choices":' + b"[" * 200_000,
}


@pytest.mark.parametrize("garbage", GARBAGE)
def test_garbage_with_status_200_is_a_502_that_costs_nothing(
    gateway: Gateway, customer: Customer, upstream: Upstream, garbage: str
) -> None:
    script = upstream.play(scripts.body(GARBAGE[garbage]))
    answer = client.chat(gateway.url, customer.token, x_script=script)
    assert error_of(answer) == (502, "upstream_error", "api_error")
    if "error" in garbage:
        assert "quota of the provider" in answer.json()["error"]["message"]
    costs_nothing(gateway, customer)


def test_a_body_that_breaks_off_is_a_502_that_costs_nothing(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    answer = client.chat(gateway.url, customer.token, x_script=upstream.play(scripts.half_a_body))
    assert error_of(answer) == (502, "upstream_error", "api_error")
    costs_nothing(gateway, customer)


def test_answer_text_that_is_not_utf_8_is_never_passed_on(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    bad = json.dumps(scripts.completion("up-chat", text="MARK")).encode().replace(b"MARK", b"\xff\xfe")
    answer = client.chat(gateway.url, customer.token, x_script=upstream.play(scripts.body(bad)))
    assert error_of(answer) == (502, "upstream_error", "api_error")
    costs_nothing(gateway, customer)


def test_waiting_times_are_passed_on(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    for status, given, told in ((429, "7", "7"), (503, "9", "9"), (429, "soon", "5"), (429, "999999", "3600")):
        script = upstream.play(scripts.error(status, Retry_After=given))
        assert client.chat(gateway.url, customer.token, x_script=script).headers["Retry-After"] == told


def test_a_refusal_of_the_request_keeps_its_text_and_the_provider_s_own_code(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    content = {
        "error": {"message": "'temperature' is too hot", "type": "invalid", "param": "temperature", "code": "hot"}
    }
    script = upstream.play(scripts.body(json.dumps(content).encode(), status=400))
    error = client.chat(gateway.url, customer.token, x_script=script).json()["error"]
    assert (error["message"], error["param"]) == ("'temperature' is too hot", "temperature")
    assert error["provider"] == {"type": "invalid", "code": "hot"}


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("status", [400, 401, 429, 500, 503])
def test_a_provider_that_repeats_our_credential_does_not_give_it_away(
    gateway: Gateway, customer: Customer, upstream: Upstream, status: int, streamed: bool
) -> None:
    script = upstream.play(scripts.error(status, f"Incorrect API key provided: {SECRET}."))
    answer = client.chat(gateway.url, customer.token, stream=streamed, x_script=script)
    assert SECRET not in answer.text
    assert SECRET not in str(gateway.calls(customer.key))


def test_an_error_inside_a_200_does_not_give_the_credential_away(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    content = {"error": {"message": f"bad key {SECRET}"}}
    whole = upstream.play(scripts.body(json.dumps(content).encode()))
    early = upstream.play(scripts.stream([scripts.event(content)]))
    late = upstream.play(scripts.stream([*scripts.chunks("up-chat")[:3], scripts.event(content)]))
    for script, streamed in ((whole, False), (early, True), (late, True)):
        answer = client.chat(gateway.url, customer.token, stream=streamed, x_script=script)
        assert SECRET not in answer.text
        assert "bad key" in answer.text
    assert SECRET not in str(gateway.calls(customer.key))
    assert SECRET not in gateway.servers[0].log()


def test_a_closed_port_is_a_502(gateway: Gateway, customer: Customer) -> None:
    answer = client.chat(gateway.url, customer.token, model="closed-port")
    assert error_of(answer) == (502, "upstream_error", "api_error")
    costs_nothing(gateway, customer)


@pytest.mark.parametrize("model", ["public-only", "public-name"])
def test_a_private_address_is_refused_for_a_channel_that_is_not_private(
    gateway: Gateway, customer: Customer, upstream: Upstream, model: str
) -> None:
    script = upstream.play(scripts.whole())
    answer = client.chat(gateway.url, customer.token, model=model, x_script=script)
    assert error_of(answer) == (502, "upstream_error", "api_error")
    assert "127.0.0.1" not in answer.text
    assert upstream.served(script) == []
    costs_nothing(gateway, customer)


# ---- the next channel -----------------------------------------------------------------------------------------------

PASSED_ON = ["401", "404", "429", "500", "503", "a hang-up", "noise"]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize("fault", PASSED_ON)
def test_the_second_channel_answers_where_the_first_failed_before_its_first_byte(
    gateway: Gateway, customer: Customer, upstream: Upstream, fault: str, streamed: bool
) -> None:
    good = scripts.stream() if streamed else scripts.whole()
    script = upstream.play(scripts.in_turn(FAULTS[fault][0], good))
    answer = client.chat(gateway.url, customer.token, model="two-channels", stream=streamed, x_script=script)
    assert answer.status_code == 200, answer.text
    told = client.events(answer)[-2]["pisces"] if streamed else answer.json()["pisces"]
    assert (told["retries"], told["channel"]) == (1, "second")
    assert answer.headers["X-Pisces-Channel"] == "second"
    first, second = upstream.served(script)
    assert (first.json["model"], second.json["model"]) == ("first-model", "second-model")
    assert first.headers["authorization"] == "Bearer sk-first-0001"
    assert second.headers["authorization"] == "Bearer sk-second-0002"
    assert second.target == "/v1/chat/completions"
    (call,) = gateway.calls(customer.key)
    assert (call["channel"], call["upstream_model"]) == ("second", "second-model")
    assert [a["outcome"] for a in call["attempts"]] == [FAULTS[fault][1][1], "complete"]
    assert gateway.spent(customer) == call["cost"] == 200_000
    assert len(gateway.transfers(customer.wallet)) == 1


def test_an_early_error_event_moves_a_stream_to_the_second_channel(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    bad = scripts.stream([scripts.event({"error": {"message": "overloaded"}})])
    script = upstream.play(scripts.in_turn(bad, scripts.stream()))
    answer = client.chat(gateway.url, customer.token, model="two-channels", stream=True, x_script=script)
    assert client.text(client.events(answer)) == "Hello, world."
    assert gateway.spent(customer) == 200_000


@pytest.mark.parametrize("kind", ["nothing", "a page", "an error in a 200", "half a body"])
def test_a_whole_answer_that_is_none_or_breaks_off_moves_the_call_to_the_second_channel(
    gateway: Gateway, customer: Customer, upstream: Upstream, kind: str
) -> None:
    bad = scripts.half_a_body if kind == "half a body" else scripts.body(GARBAGE[kind])
    script = upstream.play(scripts.in_turn(bad, scripts.whole()))
    answer = client.chat(gateway.url, customer.token, model="two-channels", x_script=script)
    assert answer.status_code == 200, answer.text
    assert (answer.json()["pisces"]["retries"], answer.json()["pisces"]["channel"]) == (1, "second")
    (call,) = gateway.calls(customer.key)
    assert [a["outcome"] for a in call["attempts"]] == ["upstream_error", "complete"]
    assert gateway.spent(customer) == call["cost"] == 200_000
    assert len(gateway.transfers(customer.wallet)) == 1


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_refusal_of_the_request_itself_is_not_tried_elsewhere(
    gateway: Gateway, customer: Customer, upstream: Upstream, status: int
) -> None:
    script = upstream.play(scripts.error(status))
    answer = client.chat(gateway.url, customer.token, model="two-channels", x_script=script)
    assert answer.status_code == status
    assert len(upstream.served(script)) == 1


def test_when_every_channel_fails_the_last_one_s_reason_is_told_and_nothing_is_charged(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    script = upstream.play(scripts.in_turn(scripts.error(500), scripts.error(429, Retry_After="3")))
    answer = client.chat(gateway.url, customer.token, model="two-channels", x_script=script)
    assert error_of(answer)[:2] == (429, "rate_limit_exceeded")
    assert answer.json()["pisces"]["retries"] == 1
    call = costs_nothing(gateway, customer)
    assert [a["outcome"] for a in call["attempts"]] == ["upstream_error", "rate_limit_exceeded"]


def test_nothing_is_tried_again_after_the_client_s_first_byte(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    script = upstream.play(scripts.in_turn(scripts.cut(3), scripts.stream()))
    answer = client.chat(gateway.url, customer.token, model="two-channels", stream=True, x_script=script)
    assert client.events(answer)[-1]["error"]["code"] == "upstream_error"
    assert len(upstream.served(script)) == 1


def test_a_refusal_that_arrives_in_pieces_keeps_its_text(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    content = json.dumps({"error": {"message": "no such tool " + "x" * 500, "type": "t", "code": "c"}}).encode()

    async def script(exchange: Exchange) -> None:
        await exchange.head(400, {"Content-Type": "application/json", "Content-Length": str(len(content))})
        for start in range(0, len(content), 100):
            await exchange.write(content[start : start + 100])
            await asyncio.sleep(0.02)

    answer = client.chat(gateway.url, customer.token, x_script=upstream.play(script))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith("no such tool xxx")


def test_a_refusal_whose_body_does_not_come_is_still_one(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    async def script(exchange: Exchange) -> None:
        kind = {"Content-Type": "application/json", "Content-Length": "1000", "Retry-After": "7"}
        await exchange.head(429, kind)
        await exchange.write(b'{"error": ')
        await asyncio.sleep(3600)

    answer = client.chat(gateway.url, customer.token, x_script=upstream.play(script))
    assert error_of(answer)[:2] == (429, "rate_limit_exceeded")
    assert answer.headers["Retry-After"] == "7"
    call = costs_nothing(gateway, customer)
    assert [attempt["outcome"] for attempt in call["attempts"]] == ["rate_limit_exceeded"]
