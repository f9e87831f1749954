"""Streams: what passes, what is hidden, what the last event says, and what is charged before it."""

import json
import time
from typing import Any

import pytest
import requests

from tests.kit import client, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.kit.scripts import DONE, USAGE, delta, event, usage_chunk
from tests.kit.upstream import Upstream

COST = 100 * 1000 + 50 * 2000


def streamed(gateway: Gateway, customer: Customer, upstream: Upstream, script: Any, **body: Any) -> list[Any]:
    answer = client.chat(gateway.url, customer.token, stream=True, x_script=upstream.play(script), **body)
    assert answer.status_code == 200, answer.text
    assert answer.headers["Content-Type"].startswith("text/event-stream")
    return client.events(answer)


def test_a_stream_ends_with_its_cost_and_done(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    found = streamed(gateway, customer, upstream, scripts.stream())
    assert client.text(found) == "Hello, world."
    assert found[-1] == "[DONE]"
    last = found[-2]
    assert last["choices"][0]["finish_reason"] == "stop"
    assert (last["pisces"]["cost"], last["pisces"]["retries"]) == ("0.0002", 0)
    assert not any("pisces" in chunk for chunk in found[:-2])
    (call,) = gateway.calls(customer.key)
    assert (call["cost"], call["usage_source"], call["streamed"], call["finish"]) == (COST, "reported", True, "stop")
    assert call["first_byte_ms"] > 0


def test_without_include_usage_no_usage_and_no_empty_choices_are_shown(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    variants: list[dict[str, Any]] = [{}, {"stream_options": None}, {"stream_options": {}}]
    for options in (*variants, {"stream_options": {"include_usage": False}}):
        found = streamed(gateway, customer, upstream, scripts.stream(), **options)
        assert all(chunk["choices"] and "usage" not in chunk for chunk in found[:-1])
        assert upstream.exchanges[-1].json["stream_options"]["include_usage"] is True


def test_a_character_that_was_cut_into_two_escapes_arrives_whole(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    words = [event(delta("up-chat", {"content": half})) for half in ("a\ud83d", "\ude00b")]
    ending = [event(delta("up-chat", {}, "stop")), event(usage_chunk("up-chat", USAGE)), DONE]
    found = streamed(gateway, customer, upstream, scripts.stream([*words, *ending]))
    assert client.text(found) == "a😀b"
    assert gateway.spent(customer) == COST


def test_null_usage_in_every_chunk_is_hidden_too(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    events = [event(delta("up-chat", {"content": "a"}, usage=None)), event(delta("up-chat", {}, "stop", usage=None))]
    compact = [line.replace(b": ", b":").replace(b", ", b",") for line in events]
    for variant in (events, [b"data: " + line[5:] for line in compact]):
        ending = [event(usage_chunk("up-chat", USAGE)), DONE]
        found = streamed(gateway, customer, upstream, scripts.stream([*variant, *ending]))
        assert not any(chunk.get("usage") for chunk in found[:-1])
        assert all(chunk["choices"] for chunk in found[:-1])


def test_with_include_usage_the_usage_chunk_is_the_last_and_carries_the_cost(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    options = {"include_usage": True, "vendor_option": [1]}
    found = streamed(gateway, customer, upstream, scripts.stream(), stream_options=options)
    last = found[-2]
    assert (last["choices"], last["usage"], last["pisces"]["cost"]) == ([], USAGE, "0.0002")
    assert found[-3]["choices"][0]["finish_reason"] == "stop"
    assert upstream.exchanges[-1].json["stream_options"] == options


def test_bytes_may_be_cut_anywhere_with_crlf_and_comments(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    found = streamed(gateway, customer, upstream, scripts.byte_by_byte())
    assert client.text(found) == "Hello, world."
    assert gateway.calls(customer.key)[0]["cost"] == COST


def test_a_stream_without_done_is_whole_when_it_finished(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    found = streamed(gateway, customer, upstream, scripts.stream(scripts.chunks("up-chat")[:-1]))
    assert found[-1] == "[DONE]"
    assert found[-2]["pisces"]["cost"] == "0.0002"


def test_a_last_event_without_its_blank_line_counts(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    events = scripts.chunks("up-chat")[:-1]
    events[-1] = events[-1].rstrip()
    assert streamed(gateway, customer, upstream, scripts.stream(events))[-2]["pisces"]["cost"] == "0.0002"


def test_usage_twice_counts_the_last(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    early = event(delta("up-chat", {"content": "x"}, usage={"prompt_tokens": 1, "completion_tokens": 1}))
    streamed(gateway, customer, upstream, scripts.stream([early, *scripts.chunks("up-chat")]))
    (call,) = gateway.calls(customer.key)
    assert (call["cost"], call["usage_source"]) == (COST, "reported")


def test_usage_in_the_finishing_chunk_counts(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    events = [event(delta("up-chat", {"content": "x"})), event(delta("up-chat", {}, "stop", usage=USAGE)), DONE]
    found = streamed(gateway, customer, upstream, scripts.stream(events))
    assert found[-2]["pisces"]["cost"] == "0.0002"
    assert "usage" not in found[-2]


def test_usage_after_done_is_too_late(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    events = [*scripts.chunks("up-chat", usage=None), event(usage_chunk("up-chat", USAGE))]
    found = streamed(gateway, customer, upstream, scripts.stream(events))
    assert found[-1] == "[DONE]"
    assert gateway.calls(customer.key)[0]["usage_source"] == "counted"


def test_a_choice_s_text_may_say_data_and_done(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    words = ["data: [DONE]\n\n", '"usage":null', "\u2028", "\x00", "😀"]
    found = streamed(gateway, customer, upstream, scripts.stream(words=words))
    assert client.text(found) == "".join(words)


def test_several_choices_pass_and_the_books_wait_for_the_end(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    def of(index: int, content: dict[str, Any], finish: str | None = None) -> bytes:
        chunk = delta("up-chat", content, finish)
        chunk["choices"][0]["index"] = index
        return event(chunk)

    events = [of(0, {"content": "a"}), of(0, {}, "stop"), of(1, {"content": "b"}), of(1, {}, "length")]
    events += [event(usage_chunk("up-chat", USAGE)), DONE]
    found = streamed(gateway, customer, upstream, scripts.stream(events), n=2)
    assert [c["choices"][0]["index"] for c in found[:-1]] == [0, 0, 1, 1]
    assert "pisces" in found[-2]
    assert gateway.calls(customer.key)[0]["cost"] == COST


def test_the_first_words_arrive_before_the_last_are_written(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    script = upstream.play(scripts.stream(pause=0.1))
    with client.open_socket(gateway.url, customer.token, {"stream": True, "x_script": script}) as connection:
        received = b""
        while b"Hello" not in received:
            received += connection.recv(65536)
        assert upstream.one(script).ended_at is None
        while b"[DONE]" not in received:
            received += connection.recv(65536)


def test_the_charge_is_durable_before_the_last_event(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    script = upstream.play(scripts.stream())
    with client.open_socket(gateway.url, customer.token, {"stream": True, "x_script": script}) as connection:
        received = b""
        while b'"pisces"' not in received:
            received += connection.recv(65536)
        (call,) = gateway.calls(customer.key)
        assert call["cost"] == COST


def test_the_connection_of_a_finished_stream_is_used_again(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    streamed(gateway, customer, upstream, scripts.stream())
    before = upstream.connections
    for _ in range(8):
        streamed(gateway, customer, upstream, scripts.stream())
    assert upstream.connections - before <= 2


# ---- streams that go wrong ------------------------------------------------------------------------------------------


def ended_badly(found: list[Any]) -> dict[str, Any]:
    """The in-band error that a broken stream ends with."""
    assert "[DONE]" not in found
    assert found[-1].keys() == {"error", "pisces"}
    error: dict[str, Any] = found[-1]["error"]
    return error


@pytest.mark.parametrize("clean", [False, True], ids=["torn", "ended"])
def test_half_a_stream_never_looks_whole_and_costs_what_was_seen(
    gateway: Gateway, customer: Customer, upstream: Upstream, clean: bool
) -> None:
    found = streamed(gateway, customer, upstream, scripts.cut(3, clean=clean))
    error = ended_badly(found)
    assert (error["code"], error["type"]) == ("upstream_error", "api_error")
    assert client.text(found) == "Hello, "
    (call,) = gateway.calls(customer.key)
    assert (call["state"], call["usage_source"]) == ("failed", "counted")
    assert 0 < call["cost"] <= call["held"]
    assert found[-1]["pisces"]["cost"]


@pytest.mark.parametrize("events", [0, 1])
def test_half_a_stream_without_a_word_costs_nothing(
    gateway: Gateway, customer: Customer, upstream: Upstream, events: int
) -> None:
    script = upstream.play(scripts.cut(events))
    answer = client.chat(gateway.url, customer.token, stream=True, x_script=script)
    if answer.status_code == 200:
        ended_badly(client.events(answer))
    else:
        assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
    assert gateway.spent(customer) == 0
    assert gateway.calls(customer.key)[0]["state"] == "failed"


def test_an_error_in_a_stream_that_has_begun_ends_it(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    events = [*scripts.chunks("up-chat")[:3], event({"error": {"message": "the model fell over", "code": 500}}), DONE]
    error = ended_badly(streamed(gateway, customer, upstream, scripts.stream(events)))
    assert "the model fell over" in error["message"]
    assert error["code"] == "upstream_error"


BAD_STARTS = {
    "an error event": [event({"error": {"message": "the model fell over"}}), DONE],
    "an error that is a string": [event({"error": "the model fell over"}), DONE],
    "garbage": [b"data: <html>\n\n"],
    "a list": [b"data: [1]\n\n"],
    "a JSON error without a stream": [b'{"error": {"message": "the model fell over"}}'],
    "only comments": [b": ping\n\n", b": ping\n\n"],
    "nothing but done": [DONE],
    "only usage": [event(usage_chunk("up-chat", USAGE)), DONE],
    "an event past its limit": [b"data: " + b"x" * (3 * 1024 * 1024)],
    "bytes that are not UTF-8": [b'data: {"id": "\xff\xfe", "choices": [{"delta": {"content": "a"}}]}\n\n'],
    "a word that is not UTF-8": [b'data: {"id": "x", "choices": [{"delta": {"content": "\xff"}}]}\n\n'],
    "nesting without end": [b"data: " + b'{"choices":' * 100_000 + b"\n\n"],
}


@pytest.mark.parametrize("start", BAD_STARTS)
def test_a_stream_that_fails_before_its_first_word_is_a_plain_502_and_costs_nothing(
    gateway: Gateway, customer: Customer, upstream: Upstream, start: str
) -> None:
    script = upstream.play(scripts.stream(BAD_STARTS[start]))
    answer = client.chat(gateway.url, customer.token, stream=True, x_script=script)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error"), answer.text
    assert gateway.spent(customer) == 0
    (hold,) = gateway.holds(customer.wallet)
    assert hold["state"] == "voided"


def test_an_event_past_its_limit_ends_a_stream_that_has_begun(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    events = [*scripts.chunks("up-chat")[:3], b"data: " + b"x" * (3 * 1024 * 1024), b"\n\n", DONE]
    assert ended_badly(streamed(gateway, customer, upstream, scripts.stream(events)))["code"] == "upstream_error"


def test_a_whole_answer_to_a_streamed_request_is_an_error(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    script = upstream.play(scripts.whole())
    answer = client.chat(gateway.url, customer.token, stream=True, x_script=script)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_error")
    assert gateway.spent(customer) == 0


def test_a_large_event_within_the_limit_passes(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    words = ["y" * (1024 * 1024)]
    found = streamed(gateway, customer, upstream, scripts.stream(words=words))
    assert client.text(found) == words[0]
    assert json.dumps(found[-2]["pisces"])


def test_a_stream_that_is_finished_but_never_ends_is_ended_for_its_client(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    events = scripts.chunks("up-chat")
    found = streamed(gateway, customer, upstream, scripts.stalling_after(events[:-1]))
    assert found[-1] == "[DONE]"
    assert "pisces" in found[-2]
    (call,) = gateway.calls(customer.key)
    assert (call["state"], call["usage_source"], call["cost"]) == ("settled", "reported", COST)


def test_a_translated_stream_that_is_finished_but_never_ends_is_ended_too(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    """A decoder tells the finish along with the usage: the wait for a usage must not hang upon what was told."""
    name = f"endless-{customer.team}"
    script = upstream.play(scripts.stalling_after(scripts.chunks("up-chat")[:-2]))
    gateway.channel(name, upstream.url, {name: "up-chat"}, parameters={"x_script": script})
    gateway.model(name, {"input": "1", "output": "2"}, max_output=100)
    known, headers = f"{gateway.url}/v1/models/{name}", {"Authorization": f"Bearer {customer.token}"}
    eventually(lambda: requests.get(known, headers=headers, timeout=30).status_code == 200)
    began = time.monotonic()
    answer = client.chat(
        gateway.url, customer.token, path="/v1/messages", model=name, max_tokens=50, stream=True,
        headers={"anthropic-version": "2023-06-01"},
    )  # fmt: skip
    assert answer.status_code == 200, answer.text
    assert "event: message_stop" in answer.text
    assert time.monotonic() - began < 30  # seconds; the channel would wait for 60
    (call,) = gateway.calls(customer.key)
    assert (call["state"], call["usage_source"]) == ("settled", "counted")


def test_of_two_answers_one_that_is_unfinished_makes_the_stream_a_half_one(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    events = [event(delta("up-chat", {"content": "a"})), event(delta("up-chat", {}, "stop"))]
    found = streamed(gateway, customer, upstream, scripts.stream(events), n=2)
    assert found[-1]["error"]["code"] == "upstream_error"
    assert "[DONE]" not in found


# Far more than the kernel's buffers take on the two ways from the upstream to a client that does not read.
LONG = [f"{number} " + "x" * 24_000 for number in range(2000)]


def test_a_slow_client_slows_its_upstream_and_gets_every_byte(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    script = upstream.play(scripts.stream(words=LONG))
    with client.open_socket(gateway.url, customer.token, {"stream": True, "x_script": script}) as connection:
        exchange = upstream.one(script)
        parts = [connection.recv(100)]
        eventually(lambda: exchange.written > 100_000)
        time.sleep(0.4)  # less than a client may stand still
        assert exchange.written < 40_000_000
        while b"[DONE]" not in parts[-1][-100:]:
            parts.append(connection.recv(1 << 20))
    received = b"".join(parts)
    assert all(word.encode() in received for word in LONG[::200])
    (call,) = eventually(lambda: gateway.calls(customer.key))
    assert (call["state"], call["usage_source"]) == ("settled", "reported")


def test_a_client_that_stops_reading_ends_its_upstream_and_pays_for_what_was_seen(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    script = upstream.play(scripts.stream(words=LONG, usage=None))
    with client.open_socket(gateway.url, customer.token, {"stream": True, "x_script": script}):
        exchange = upstream.one(script)
        assert eventually(lambda: exchange.closed_at or 0.0, within=15)
        (call,) = eventually(lambda: gateway.calls(customer.key))
    assert (call["state"], call["error"], call["usage_source"]) == ("left", "client_left", "counted")
    assert 0 < call["cost"] <= call["held"]
