"""A client that hangs up: its upstream is let go or read to its end, and what was used is charged, once."""

import json
import socket
import time
from typing import Any

import pytest

from relay.channels import health
from tests.kit import client, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.kit.upstream import Script, Upstream

COST = 100 * 1000 + 50 * 2000
PROMISE = 1.0  # seconds from the hang-up until the upstream is let go


def the_call(gateway: Gateway, customer: Customer, *, holds: int = 1) -> dict[str, Any]:
    (call,) = eventually(lambda: gateway.calls(customer.key))
    assert len(gateway.holds(customer.wallet)) == holds
    return call


def read_until(connection: socket.socket, mark: bytes) -> None:
    received = b""
    while mark not in received:
        received += connection.recv(65536)


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_hanging_up_while_waiting_lets_the_upstream_go_and_costs_nothing(
    gateway: Gateway, customer: Customer, upstream: Upstream, streamed: bool
) -> None:
    script = upstream.play(scripts.silence)
    connection = client.open_socket(gateway.url, customer.token, {"stream": streamed, "x_script": script})
    exchange = upstream.one(script)
    time.sleep(0.2)
    connection.close()
    left = time.monotonic()
    assert eventually(lambda: exchange.closed_at or 0.0) - left < PROMISE
    call = the_call(gateway, customer)
    assert (call["state"], call["error"], call["cost"]) == ("left", "client_left", 0)
    assert gateway.holds(customer.wallet)[0]["state"] == "voided"


def test_hanging_up_as_soon_as_the_upstream_was_asked_is_noticed_too(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    script = upstream.play(scripts.silence)
    connection = client.open_socket(gateway.url, customer.token, {"x_script": script})
    exchange = upstream.one(script)
    connection.close()
    left = time.monotonic()
    assert eventually(lambda: exchange.closed_at or 0.0) - left < PROMISE
    assert the_call(gateway, customer)["cost"] == 0


def test_hanging_up_while_streaming_lets_the_upstream_go_and_charges_what_was_seen(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    script = upstream.play(scripts.endless())
    connection = client.open_socket(gateway.url, customer.token, {"stream": True, "x_script": script})
    read_until(connection, b"word")
    exchange = upstream.one(script)
    time.sleep(0.3)
    connection.close()
    left = time.monotonic()
    assert eventually(lambda: exchange.closed_at or 0.0) - left < PROMISE
    call = the_call(gateway, customer)
    assert (call["state"], call["status"], call["usage_source"]) == ("left", 499, "counted")
    assert 0 < call["cost"] <= call["held"]
    assert gateway.spent(customer) == call["cost"]


def test_hanging_up_while_a_whole_answer_arrives_charges_what_had_arrived(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    script = upstream.play(scripts.stalling_body)
    connection = client.open_socket(gateway.url, customer.token, {"x_script": script})
    exchange = upstream.one(script)
    eventually(lambda: exchange.written > 50)
    time.sleep(0.2)
    connection.close()
    left = time.monotonic()
    assert eventually(lambda: exchange.closed_at or 0.0) - left < PROMISE
    call = the_call(gateway, customer)
    assert (call["state"], call["usage_source"]) == ("left", "counted")
    assert 0 < call["cost"] <= call["held"]


@pytest.mark.parametrize("second", ["half a body", "nothing"])
def test_hanging_up_after_an_answer_that_broke_off_charges_what_the_next_channel_sent_and_no_more(
    gateway: Gateway, customer: Customer, upstream: Upstream, second: str
) -> None:
    turns = scripts.half_a_body, scripts.silence if second == "nothing" else scripts.stalling_body
    script = upstream.play(scripts.in_turn(*turns))
    connection = client.open_socket(gateway.url, customer.token, {"model": "two-channels", "x_script": script})
    eventually(lambda: len(upstream.served(script)) == 2)
    time.sleep(0.3)
    connection.close()
    call = the_call(gateway, customer)
    assert [a["outcome"] for a in call["attempts"]] == ["upstream_error", "client_left"]
    assert (call["cost"] > 0) == (second == "half a body")
    assert gateway.spent(customer) == call["cost"] <= call["held"]


def test_hanging_up_while_waiting_for_a_turn_after_an_answer_that_broke_off_costs_nothing(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    def begun(second: Script) -> tuple[socket.socket, str]:
        script = upstream.play(scripts.in_turn(scripts.half_a_body, second))
        return client.open_socket(gateway.url, customer.token, {"model": "two-channels", "x_script": script}), script

    other, both_fail = gateway.customer(), upstream.play(scripts.error(500))
    assert client.chat(gateway.url, other.token, model="two-channels", x_script=both_fail).status_code == 502
    busy = [begun(scripts.silence) for _ in range(health.Retries.LEAST)]
    eventually(lambda: all(len(upstream.served(script)) == 2 for _, script in busy))
    waiting, script = begun(scripts.whole())
    upstream.one(script)
    time.sleep(0.5)
    waiting.close()
    call = the_call(gateway, customer, holds=4)
    assert (call["state"], call["cost"]) == ("left", 0)
    assert [a["outcome"] for a in call["attempts"]] == ["upstream_error"]
    for connection, _ in busy:
        connection.close()


def test_a_drained_whole_answer_is_read_to_its_end_and_charged_as_reported(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    script = upstream.play(scripts.whole(after=0.6))
    connection = client.open_socket(gateway.url, customer.token, {"model": "drained", "x_script": script})
    exchange = upstream.one(script)
    time.sleep(0.2)
    connection.close()
    call = the_call(gateway, customer)
    assert eventually(lambda: exchange.served_whole)
    assert (call["state"], call["usage_source"], call["cost"]) == ("left", "reported", COST)
    assert gateway.spent(customer) == COST


def test_a_drained_stream_is_read_to_its_end_and_charged_as_reported(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    script = upstream.play(scripts.stream(pause=0.15))
    body = {"model": "drained", "stream": True, "x_script": script}
    connection = client.open_socket(gateway.url, customer.token, body)
    read_until(connection, b"Hello")
    connection.close()
    call = the_call(gateway, customer)
    assert (call["state"], call["usage_source"], call["cost"]) == ("left", "reported", COST)


def test_whoever_hung_up_never_pays_more_than_was_held(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    usage = {"prompt_tokens": 10**6, "completion_tokens": 10**6, "total_tokens": 2 * 10**6}
    script = upstream.play(scripts.stream(pause=0.15, usage=usage))
    connection = client.open_socket(
        gateway.url, customer.token, {"model": "drained", "stream": True, "x_script": script}
    )
    read_until(connection, b"Hello")
    connection.close()
    call = the_call(gateway, customer)
    assert (call["state"], call["usage_source"], call["cost"]) == ("left", "reported", call["held"])


def test_a_drained_upstream_that_fails_after_the_hang_up_is_charged_for_what_was_seen(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    events = scripts.chunks("up-drained")[:4]
    script = upstream.play(scripts.stream(events, pause=0.2))
    body = {"model": "drained", "stream": True, "x_script": script}
    connection = client.open_socket(gateway.url, customer.token, body)
    read_until(connection, b"Hello")
    connection.close()
    call = the_call(gateway, customer)
    assert call["usage_source"] == "counted"
    assert 0 < call["cost"] <= call["held"]


def test_a_client_that_never_finishes_its_body_leaves_nothing(gateway: Gateway, customer: Customer) -> None:
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {customer.token}\r\n"
        connection.sendall(f"{head}Content-Length: 1000\r\n\r\n{{".encode())
        time.sleep(0.2)
    assert client.chat(gateway.url, customer.token).status_code == 200
    assert len(gateway.calls(customer.key)) == 1
    assert len(gateway.holds(customer.wallet)) == 1


def test_a_finished_answer_is_charged_in_full_though_its_client_left_before_reading_it(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    script = upstream.play(scripts.whole())
    connection = client.open_socket(gateway.url, customer.token, {"x_script": script})
    eventually(lambda: upstream.one(script).ended_at)
    connection.close()
    call = the_call(gateway, customer)
    assert gateway.spent(customer) == call["cost"] == COST


def test_a_client_that_reads_nothing_at_all_holds_no_money_and_no_upstream_with_its_next_request(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    """Two requests on one connection: the first answer fills it, so that not even the second one's head can go."""
    large = upstream.play(scripts.whole(text="x" * 24_000_000))
    endless = upstream.play(scripts.endless())
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(request_bytes(customer, {"x_script": large, "max_tokens": 1}))
        connection.sendall(request_bytes(customer, {"stream": True, "max_tokens": 9, "x_script": endless}))
        exchange = upstream.one(endless, within=30)
        assert eventually(lambda: exchange.closed_at or 0.0)
        assert eventually(lambda: [call["state"] for call in gateway.calls(customer.key)] == ["settled", "left"])
        assert gateway.wallet(customer.wallet)["held"] == 0


def test_hanging_up_while_only_comments_have_come_costs_nothing(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    script = upstream.play(scripts.stream([b": PROCESSING\n\n"] * 500, pause=0.02))
    connection = client.open_socket(gateway.url, customer.token, {"stream": True, "x_script": script})
    exchange = upstream.one(script)
    eventually(lambda: exchange.written > 300)
    time.sleep(0.3)
    connection.close()
    call = the_call(gateway, customer)
    assert (call["state"], call["cost"], call["first_byte_ms"]) == ("left", 0, None)


def request_bytes(customer: Customer, body: dict[str, Any]) -> bytes:
    content = json.dumps({"model": "chat", "messages": client.HELLO, **body}).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {customer.token}\r\n"
    return f"{head}Content-Length: {len(content)}\r\n\r\n".encode() + content
