"""HTTP at its edges, over raw sockets: what no library of a client sends, and what many at once could do harm with."""

import contextlib
import json
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from tests.kit import client, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.plugin import PRICE
from tests.kit.ports import eventually
from tests.kit.upstream import Upstream


@pytest.fixture(scope="module")
def gateway(upstream: Upstream) -> Iterator[Gateway]:
    """Served by `manage.py serve` itself, behind one proxy."""
    installation = Gateway("sqlite", TRUSTED_PROXIES="1", SEND_STALL="1.5", HEAD_TIMEOUT="2")
    installation.model("chat", PRICE, max_output=1000)
    installation.channel("chat", upstream.url, {"chat": "up"})
    installation.start((sys.executable, "manage.py", "serve"))
    yield installation
    assert installation.audit() == []
    installation.stop()


def head(token: str, *headers: str, method: str = "POST", version: str = "1.1") -> bytes:
    """A request's head, but for the blank line at its end."""
    lines = [f"{method} /v1/chat/completions HTTP/{version}", "Host: x", f"Authorization: Bearer {token}", *headers]
    return "\r\n".join([*lines, ""]).encode()


def request(token: str, *headers: str, version: str = "1.1", **body: object) -> bytes:
    """A chat call."""
    content = json.dumps({"model": "chat", "messages": client.HELLO, **body}).encode()
    return head(token, *headers, f"Content-Length: {len(content)}", version=version) + b"\r\n" + content


# ---- trailers -------------------------------------------------------------------------------------------------------


def in_chunks(first: bytes, *trailers: str) -> bytes:
    """A chat call in chunks; `first` is its head up to the framing."""
    content = json.dumps({"model": "chat", "messages": client.HELLO}).encode()
    end = "\r\n".join(["0", *trailers, "", ""]).encode()
    return first + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n" % (len(content), content) + end


def test_a_trailer_does_not_say_where_a_call_comes_from(gateway: Gateway, customer: Customer) -> None:
    _, token = gateway.issue(customer.team, networks=["10.0.0.1"])
    for place, status in (("203.0.113.9", b"403"), ("10.0.0.1", b"200")):
        first = head(token, f"X-Forwarded-For: {place}")
        for trailers in ((), ("X-Forwarded-For: 10.0.0.1",), ("X-Forwarded-For: 203.0.113.9",)):
            assert client.send_raw(gateway.url, in_chunks(first, *trailers)).split()[1] == status


def test_a_trailer_is_no_key(gateway: Gateway, customer: Customer) -> None:
    anonymous = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"
    answer = client.send_raw(gateway.url, in_chunks(anonymous, f"Authorization: Bearer {customer.token}"))
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert gateway.calls(customer.key) == []


def test_a_trailer_stays_out_of_a_request_whose_offer_to_upgrade_was_declined(
    gateway: Gateway, customer: Customer
) -> None:
    anonymous = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n"
    answer = client.send_raw(gateway.url, in_chunks(anonymous, f"Authorization: Bearer {customer.token}"))
    assert answer.startswith(b"HTTP/1.1 401 ")


# ---- heads ----------------------------------------------------------------------------------------------------------

MOST = 64 * 1024
TOO_LARGE = b"HTTP/1.1 431 Request Header Fields Too Large\r\n"


def connect(gateway: Gateway, *, room: int | None = None) -> socket.socket:
    """A connection; `room` is for what the client has not read."""
    connection = socket.socket()
    if room is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
    connection.settimeout(20)
    connection.connect(("127.0.0.1", gateway.servers[0].port))
    return connection


def is_let_go(connection: socket.socket) -> bool:
    """Whether the server has closed it, though nothing is read from it."""
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] != 1  # TCP_ESTABLISHED


def rest(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    return b"".join(iter(lambda: connection.recv(65536), b""))


def in_reads(connection: socket.socket, *parts: bytes) -> None:
    """Each so that the server reads it by itself."""
    for part in parts:
        connection.sendall(part)
        time.sleep(0.2)


def test_a_head_has_64_kib_and_the_byte_after_them_is_refused(gateway: Gateway) -> None:
    first = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nX-Long: "
    with connect(gateway) as connection:
        in_reads(connection, first, *[b"x" * 1024] * 5, b"x" * (MOST - len(first) - 5 * 1024))
        connection.sendall(b"x")
        assert rest(connection).startswith(TOO_LARGE)


@pytest.mark.parametrize("long", ["path", "header"])
def test_a_head_of_60_kib_is_read(gateway: Gateway, customer: Customer, long: str) -> None:
    content = request(customer.token, *(["X-Long: " + "x" * 60_000] if long == "header" else []))
    if long == "path":
        content = content.replace(b" HTTP", b"?x=" + b"x" * 60_000 + b" HTTP", 1)
    assert client.send_raw(gateway.url, content).startswith(b"HTTP/1.1 200 ")
    assert client.send_raw(gateway.url, content.replace(b"xxxxx", b"x" * 10_000, 1)).startswith(TOO_LARGE)


def test_a_body_of_any_length_is_no_part_of_its_head(gateway: Gateway, customer: Customer) -> None:
    content = request(customer.token, messages=[{"role": "user", "content": "x" * 500_000}])
    with connect(gateway) as connection:
        connection.sendall(content * 2 + content.replace(b"Host: x", b"Host: x\r\nConnection: close"))
        assert rest(connection).count(b"HTTP/1.1 200 ") == 3


def test_a_request_has_a_hundred_headers_and_no_more(gateway: Gateway, customer: Customer) -> None:
    usual = 3  # Host, Authorization, Content-Length
    for more, expected in ((100 - usual, b"HTTP/1.1 200 "), (101 - usual, TOO_LARGE), (2_000, TOO_LARGE)):
        content = request(customer.token, *[f"X-{number}: a" for number in range(more)])
        assert client.send_raw(gateway.url, content).startswith(expected)
    assert len(gateway.calls(customer.key)) == 1


def test_trailers_have_the_limit_of_a_head(gateway: Gateway, customer: Customer) -> None:
    content = in_chunks(head(customer.token)).removesuffix(b"\r\n")
    with connect(gateway) as connection:
        in_reads(connection, content, b"X-Long: ", *[b"x" * 16 * 1024] * 4)
        assert rest(connection).startswith(TOO_LARGE)
    assert gateway.calls(customer.key) == []


def test_a_head_without_end_keeps_nobody_waiting(gateway: Gateway) -> None:
    with connect(gateway) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"GET / HTTP/1.1\r\nX-Long: ")
        for sent in range(1000):
            assert sent < 100, "MiB of one header were taken"
            connection.sendall(b"x" * (1 << 20))


def test_what_cannot_be_read_is_not_answered_within_another_answer(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    script = upstream.play(scripts.endless())
    with connect(gateway) as connection:
        connection.sendall(request(customer.token, stream=True, x_script=script))
        received = connection.recv(65536)
        connection.sendall(b"no request at all\r\n\r\n")
        received += rest(connection)
    assert received.count(b"HTTP/1.1 ") == 1
    assert not received.endswith(b"0\r\n\r\n")
    (call,) = eventually(lambda: gateway.calls(customer.key))
    assert call["state"] == "left"


# ---- requests behind one another ------------------------------------------------------------------------------------


@pytest.mark.parametrize("waiting", [1, 8])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_hanging_up_with_next_requests_sent_already_is_noticed(
    gateway: Gateway, customer: Customer, upstream: Upstream, streamed: bool, waiting: int
) -> None:
    script = upstream.play(scripts.endless() if streamed else scripts.silence)
    next_ones = upstream.play(scripts.whole())
    with connect(gateway) as connection:
        connection.sendall(request(customer.token, stream=streamed, x_script=script))
        exchange = upstream.one(script)
        in_reads(connection, *[request(customer.token, x_script=next_ones)] * waiting)
    left = time.monotonic()
    assert eventually(lambda: exchange.closed_at or 0.0) - left < 1
    (call,) = eventually(lambda: gateway.calls(customer.key))
    assert (call["state"], call["error"]) == ("left", "client_left")
    assert gateway.spent(customer) == call["cost"] <= call["held"]
    assert upstream.served(next_ones) == []


@pytest.mark.parametrize("length", [10, 200_000])
def test_requests_behind_one_another_are_answered_in_their_order(
    gateway: Gateway, customer: Customer, upstream: Upstream, length: int
) -> None:
    """More than wait where they cost little."""
    names = [f"answer-{number}" for number in range(20)]
    played = [upstream.play(scripts.whole(after=0.05, text=name)) for name in names]
    calls = [request(customer.token, x_script=script, x_filling="x" * length) for script in played]
    with connect(gateway) as connection:
        sender = threading.Thread(target=connection.sendall, args=(b"".join(calls),))
        sender.start()
        received = b""
        while names[-1].encode() not in received:
            received += connection.recv(65536)
        sender.join()
    assert re.findall(rb"answer-\d+", received) == [name.encode() for name in names]


def test_what_waits_behind_a_call_is_not_read_without_end(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    script = upstream.play(scripts.whole(after=2))
    with connect(gateway) as connection:
        connection.sendall(request(customer.token, x_script=script))
        upstream.one(script)
        connection.settimeout(1)
        content, sent = request(customer.token, x_filling="x" * 100_000), 0
        with contextlib.suppress(TimeoutError):
            for _ in range(1000):
                sent += connection.send(content)
        assert sent < 50_000_000


# ---- clients that stand still ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [False, True], ids=["to be closed", "to be kept"])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_client_that_does_not_read_its_answer_is_let_go(
    gateway: Gateway, customer: Customer, upstream: Upstream, streamed: bool, kept: bool
) -> None:
    events = [scripts.event(scripts.delta("up", {"content": "x" * 60_000}))] * 400
    script = upstream.play(scripts.stream(events) if streamed else scripts.whole(text="x" * 24_000_000))
    headers = [] if kept else ["Connection: close"]
    with connect(gateway, room=4096) as connection:
        connection.sendall(request(customer.token, *headers, stream=streamed, max_tokens=5, x_script=script))
        eventually(lambda: gateway.calls(customer.key), within=20)
        eventually(lambda: is_let_go(connection), within=12)


def test_a_client_that_reads_slowly_gets_all_of_its_answer(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    """The pauses are shorter than what is allowed, and longer together."""
    script = upstream.play(scripts.whole(text="x" * 24_000_000))
    with connect(gateway, room=4096) as connection:
        connection.sendall(request(customer.token, "Connection: close", max_tokens=5, x_script=script))
        received = 0
        for _ in range(8):
            time.sleep(0.5)
            for _ in range(100):
                received += len(connection.recv(65536))
        received += len(rest(connection))
    assert received > 24_000_000


HALF = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\n"


def test_a_connection_on_which_nothing_comes_is_closed(gateway: Gateway) -> None:
    with connect(gateway) as connection:
        assert rest(connection) == b""


def test_a_head_that_stops_or_drips_is_not_waited_for_without_end(gateway: Gateway) -> None:
    began = time.monotonic()
    with connect(gateway) as stopped, connect(gateway) as dripping:
        stopped.sendall(HALF)
        with contextlib.suppress(ConnectionError):
            while not is_let_go(dripping):
                assert time.monotonic() - began < 12
                dripping.sendall(HALF[:1] if time.monotonic() - began < 0.1 else b"x")
                time.sleep(0.1)
        assert rest(stopped).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("sent", [HALF, b"\r\n"], ids=["half a head", "a blank line"])
def test_a_next_head_that_does_not_come_is_not_waited_for_either(
    gateway: Gateway, customer: Customer, sent: bytes
) -> None:
    with connect(gateway) as connection:
        connection.sendall(request(customer.token))
        assert client.receive(connection).startswith(b"HTTP/1.1 200 ")
        connection.sendall(sent)
        assert (b"HTTP/1.1 408 " in rest(connection)) == (sent == HALF)


def test_an_idle_connection_a_slow_body_and_a_slow_answer_have_longer_than_a_head(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    slow = request(customer.token, x_script=upstream.play(scripts.whole(after=4.5)))
    content = request(customer.token)
    with connect(gateway) as idle, connect(gateway) as sending, connect(gateway) as waiting:
        for connection, part in ((idle, content), (sending, content[:-1]), (waiting, slow + HALF)):
            connection.sendall(part)
        assert client.receive(idle).startswith(b"HTTP/1.1 200 ")
        assert client.receive(waiting).startswith(b"HTTP/1.1 200 ")
        for connection, part in ((idle, content), (sending, content[-1:])):
            connection.sendall(part)
            assert client.receive(connection).startswith(b"HTTP/1.1 200 ")


# ---- HTTP/1.0 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
def test_a_client_of_http_1_0_gets_no_chunks_and_the_end_of_the_connection(
    gateway: Gateway, customer: Customer, upstream: Upstream, streamed: bool
) -> None:
    script = upstream.play(scripts.stream() if streamed else scripts.whole())
    with connect(gateway) as connection:
        content = request(customer.token, "Connection: keep-alive", version="1.0", stream=streamed, x_script=script)
        connection.sendall(content)
        answered, _, content = rest(connection).partition(b"\r\n\r\n")
    assert answered.startswith(b"HTTP/1.1 200 ")
    assert b"transfer-encoding" not in answered
    assert (b"content-length" in answered) != streamed
    if streamed:
        assert content.startswith(b"data: {")
        assert content.endswith(b"}\n\ndata: [DONE]\n\n")
    else:
        assert json.loads(content)["pisces"]["cost"] == "0.0002"
    assert gateway.calls(customer.key)[0]["state"] == "settled"
    assert "Exception in ASGI" not in gateway.servers[0].log()
