"""Offers to go on with another protocol, which the server declines: the request is answered as any other."""

import json
import socket
import sys
import time
from collections.abc import Iterator

import pytest

from tests.kit import client
from tests.kit.gateway import Customer, Gateway
from tests.kit.plugin import PRICE
from tests.kit.upstream import Upstream


@pytest.fixture(scope="module")
def gateway(upstream: Upstream) -> Iterator[Gateway]:
    """Served by `manage.py serve` itself."""
    installation = Gateway("sqlite")
    installation.model("chat", PRICE, max_output=1000)
    installation.channel("chat", upstream.url, {"chat": "up"})
    installation.start((sys.executable, "manage.py", "serve"))
    yield installation
    installation.stop()


H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABk\r\n"
WEBSOCKET = b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
BODY = json.dumps({"model": "chat", "messages": client.HELLO}).encode()
FRAMED = {
    "by its length": b"Content-Length: %d\r\n\r\n%s" % (len(BODY), BODY),
    "in chunks": b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
}


def head(customer: Customer) -> bytes:
    token = customer.token.encode()
    return b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n" % token


@pytest.mark.parametrize("framed", FRAMED)
@pytest.mark.parametrize("offer", [H2C, WEBSOCKET], ids=["h2c", "websocket"])
def test_an_offer_to_upgrade_is_declined_and_the_request_answered(
    gateway: Gateway, customer: Customer, offer: bytes, framed: str
) -> None:
    """RFC 9110, 7.8. Java's client makes such an offer by itself."""
    answer = client.send_raw(gateway.url, head(customer) + offer + FRAMED[framed])
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b"Hello, world." in answer
    (call,) = gateway.calls(customer.key)
    assert call["state"] == "settled"


def test_offers_may_come_in_pieces_and_one_after_the_other(gateway: Gateway, customer: Customer) -> None:
    request = head(customer) + H2C + FRAMED["by its length"]
    host, _, port = gateway.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        for at in range(0, len(request), 40):
            connection.sendall(request[at : at + 40])
            time.sleep(0.005)
        connection.sendall(request + request)
        found = b""
        while found.count(b"Hello, world.") < 3:
            part = connection.recv(65536)
            assert part, found
            found += part
    assert found.count(b"HTTP/1.1 200 ") == 3
    assert len(gateway.calls(customer.key)) == 3


def test_nobody_is_connected_through(gateway: Gateway) -> None:
    answer = client.send_raw(gateway.url, b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
