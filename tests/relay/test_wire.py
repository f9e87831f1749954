"""HTTP at its edges, over raw sockets: what no library of a client sends, and what many at once could do harm with."""

import json
import sys
from collections.abc import Iterator

import pytest

from tests.kit import client
from tests.kit.gateway import Customer, Gateway
from tests.kit.plugin import PRICE
from tests.kit.upstream import Upstream


@pytest.fixture(scope="module")
def gateway(upstream: Upstream) -> Iterator[Gateway]:
    """Served by `manage.py serve` itself, behind one proxy."""
    installation = Gateway("sqlite", TRUSTED_PROXIES="1")
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
