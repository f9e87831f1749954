"""Bodies that are sent to pages and to the management API, over raw sockets: nobody has signed in yet."""

import time

import pytest

from tests.kit import client
from tests.kit.gateway import Gateway

MOST = 512 * 1024  # the gateway's MAX_BODY_JSON
PATHS = pytest.mark.parametrize("path", ["/accounts/login/", "/api/v1/keys", "/nowhere"])


def head(path: str, *headers: str) -> bytes:
    return "\r\n".join([f"POST {path} HTTP/1.1", "Host: 127.0.0.1", *headers, "", ""]).encode()


@PATHS
def test_a_body_that_says_that_it_is_too_long_is_refused_unread(gateway: Gateway, path: str) -> None:
    answer = client.send_raw(gateway.url, head(path, f"Content-Length: {MOST + 1}"))
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_the_longest_body_is_read(gateway: Gateway) -> None:
    whole = head("/api/v1/keys", f"Content-Length: {MOST}") + b"x" * MOST
    assert client.send_raw(gateway.url, whole).startswith(b"HTTP/1.1 401 ")


@PATHS
def test_a_body_in_chunks_is_read_no_further_than_the_longest(gateway: Gateway, path: str) -> None:
    part = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    endless = head(path, "Transfer-Encoding: chunked") + part * (MOST // 65536) + b"1\r\nx\r\n"
    assert client.send_raw(gateway.url, endless).startswith(b"HTTP/1.1 413 ")


@PATHS
def test_a_body_that_does_not_arrive_is_not_waited_for_without_end(gateway: Gateway, path: str) -> None:
    began = time.monotonic()
    answer = client.send_raw(gateway.url, head(path, "Content-Length: 10") + b"half")
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - began >= 1.4  # BODY_TIMEOUT
