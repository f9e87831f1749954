"""A server that ends while calls are going: each is told in its own envelope, and paid for what it was given."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import requests

from tests.kit import client, databases, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually, free_port
from tests.kit.upstream import Upstream


@contextmanager
def serving(installation: Gateway) -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """The address of a server by `manage.py serve`, whose calls get a second when it ends, and its process."""
    port = free_port()
    command = [sys.executable, "manage.py", "serve", "--port", str(port)]
    variables = {**installation._variables, "PORT": str(port), "SHUTDOWN_GRACE": "1"}
    with subprocess.Popen(
        command, cwd=databases.ROOT, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: is_healthy(url), within=30)
        yield url, server
        server.wait(timeout=20)


def test_calls_that_outlast_the_grace_of_a_shutdown_get_an_error_and_leave_the_books_whole(
    breakable: Gateway, upstream: Upstream
) -> None:
    with serving(breakable) as (url, server):
        waiting, streaming = breakable.customer(), breakable.customer()
        silent, endless = upstream.play(scripts.silence), upstream.play(scripts.endless())
        one = client.open_socket(url, waiting.token, {"x_script": silent})
        two = client.open_socket(url, streaming.token, {"stream": True, "x_script": endless})
        upstream.one(silent), upstream.one(endless)
        time.sleep(0.5)
        server.send_signal(signal.SIGTERM)
        whole, stream = read(one), read(two)
    assert whole.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in whole
    assert b'"code":"unavailable"' in whole
    assert b'"code":"unavailable"' in stream
    assert b"[DONE]" not in stream
    (call,) = breakable.calls(waiting.key)
    assert (call["state"], call["status"], call["error"], call["cost"]) == ("failed", 503, "unavailable", 0)
    assert_paid(breakable, streaming)
    assert breakable.audit() == []


def test_a_call_whose_tokens_take_long_to_count_is_counted_and_paid_before_its_server_ends(
    breakable: Gateway, upstream: Upstream
) -> None:
    payer = breakable.customer("100")
    long = [{"role": "user", "content": "some words 漢字 and " * 200_000}]
    with serving(breakable) as (url, server):
        endless = upstream.play(scripts.endless())
        reading = client.open_socket(url, payer.token, {"stream": True, "x_script": endless, "messages": long})
        upstream.one(endless)
        server.send_signal(signal.SIGTERM)
        stream = read(reading)
    assert b'"code":"unavailable"' in stream
    assert_paid(breakable, payer)
    assert breakable.audit() == []


def assert_paid(installation: Gateway, payer: Customer) -> None:
    """Its only call is on record as broken off by the server's end, and paid."""
    (call,) = installation.calls(payer.key)
    assert (call["state"], call["status"], call["error"]) == ("failed", 503, "unavailable")
    assert 0 < call["cost"] == installation.spent(payer)


def is_healthy(url: str) -> bool:
    try:
        return requests.get(f"{url}/healthz", timeout=2).status_code == 200
    except requests.ConnectionError:
        return False


def read(connection: socket.socket) -> bytes:
    with connection:
        received = b""
        while part := connection.recv(65536):
            received += part
    return received
