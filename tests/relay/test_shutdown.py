"""A server that ends while calls are going: each is told in its own envelope, and paid for what it was given."""

import signal
import socket
import subprocess
import sys
import time

import requests

from tests.kit import client, databases, scripts
from tests.kit.gateway import Gateway
from tests.kit.ports import eventually, free_port
from tests.kit.upstream import Upstream


def test_calls_that_outlast_the_grace_of_a_shutdown_get_an_error_and_leave_the_books_whole(
    breakable: Gateway, upstream: Upstream
) -> None:
    port = free_port()
    command = [sys.executable, "manage.py", "serve", "--port", str(port)]
    variables = {**breakable._variables, "PORT": str(port), "SHUTDOWN_GRACE": "1"}
    with subprocess.Popen(
        command, cwd=databases.ROOT, env=variables, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:
        url = f"http://127.0.0.1:{port}"
        eventually(lambda: is_healthy(url), within=30)
        waiting, streaming = breakable.customer(), breakable.customer()
        silent, endless = upstream.play(scripts.silence), upstream.play(scripts.endless())
        one = client.open_socket(url, waiting.token, {"x_script": silent})
        two = client.open_socket(url, streaming.token, {"stream": True, "x_script": endless})
        upstream.one(silent), upstream.one(endless)
        time.sleep(0.5)
        server.send_signal(signal.SIGTERM)
        whole, stream = read(one), read(two)
        server.wait(timeout=20)
    assert whole.startswith(b"HTTP/1.1 503 ")
    assert b"retry-after: 1" in whole
    assert b'"code":"unavailable"' in whole
    assert b'"code":"unavailable"' in stream
    assert b"[DONE]" not in stream
    (call,) = breakable.calls(waiting.key)
    assert (call["state"], call["status"], call["error"], call["cost"]) == ("failed", 503, "unavailable", 0)
    (call,) = breakable.calls(streaming.key)
    assert (call["state"], call["status"], call["error"]) == ("failed", 503, "unavailable")
    assert 0 < call["cost"] == breakable.spent(streaming)
    assert breakable.audit() == []


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
