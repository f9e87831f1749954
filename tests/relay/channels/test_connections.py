"""Connections to providers that are kept, closed at a bad moment, or not read from."""

import contextlib
import datetime as dt
import json
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import brotli
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.kit import client, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.plugin import PRICE, SHORT
from tests.kit.ports import eventually
from tests.relay.channels.conftest import Make

ESTABLISHED = 1  # tcp(7), `tcpi_state`


class Provider:
    """One that looks after its connections by itself, each in a thread; `serve` gets a connection and its number."""

    def __init__(self, serve: Callable[[socket.socket, int], None]) -> None:
        self._serve = serve
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.connections: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}/v1"

    def _accept(self) -> None:
        while True:
            try:
                found, _ = self._listening.accept()
            except OSError:
                return
            self.connections.append(found)
            threading.Thread(target=self._serve, args=(found, len(self.connections)), daemon=True).start()

    def stop(self) -> None:
        for found in (self._listening, *self.connections):
            found.close()


@pytest.fixture
def provider() -> Iterator[Callable[[Callable[[socket.socket, int], None]], Provider]]:
    made: list[Provider] = []

    def make(serve: Callable[[socket.socket, int], None]) -> Provider:
        made.append(Provider(serve))
        return made[-1]

    yield make
    for one in made:
        one.stop()


Providing = Callable[[Callable[[socket.socket, int], None]], Provider]


def read(connection: socket.socket) -> bytes:
    """A whole request; nothing where the peer has closed."""
    found = b""
    while b"\r\n\r\n" not in found:
        piece = connection.recv(65536)
        if not piece:
            return b""
        found += piece
    head, _, body = found.partition(b"\r\n\r\n")
    length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
    while len(body) < length:
        body += connection.recv(65536)
    return body


def answer(status: bytes = b"200 OK", body: object = None) -> bytes:
    content = json.dumps(scripts.completion("up") if body is None else body).encode()
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (
        status, len(content), content,
    )  # fmt: skip


def closing_at_the_next(connection: socket.socket, number: int) -> None:
    """Its time for a next request ends just as that comes."""
    read(connection)
    connection.sendall(answer())
    connection.recv(1)
    connection.close()


def test_a_kept_connection_that_closes_as_the_next_request_goes_out_fails_no_call(
    gateway: Gateway, customer: Customer, provider: Providing, offer: Make
) -> None:
    there = provider(closing_at_the_next)
    model = offer((there.url, {}))
    assert [client.chat(gateway.url, customer.token, model=model).status_code for _ in range(4)] == [200] * 4
    assert len(there.connections) == 4
    calls = eventually(lambda: found if len(found := gateway.calls(customer.key)) == 4 else [])
    assert {(call["state"], len(call["attempts"])) for call in calls} == {("settled", 1)}


def test_where_nothing_may_be_repeated_after_a_connection_that_broke_this_is_not_either(
    gateway: Gateway, customer: Customer, provider: Providing, offer: Make
) -> None:
    there = provider(closing_at_the_next)
    model = offer((there.url, {"retry_on": ["server"]}))
    assert [client.chat(gateway.url, customer.token, model=model).status_code for _ in range(4)] == [200, 502] * 2


def test_a_new_connection_that_closes_without_an_answer_is_a_failure_at_once(
    gateway: Gateway, customer: Customer, provider: Providing, offer: Make
) -> None:
    def closing(connection: socket.socket, number: int) -> None:
        read(connection)
        connection.close()

    there = provider(closing)
    model = offer((there.url, {}))
    assert client.chat(gateway.url, customer.token, model=model).status_code == 502
    assert len(there.connections) == 1


@pytest.mark.parametrize(
    "unasked",
    [
        answer(body=scripts.completion("up", text="somebody else's")),
        b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{",
        b"{}",
    ],
    ids=["a whole answer", "a refusal", "half an answer", "no answer"],
)
def test_what_comes_on_a_kept_connection_that_nobody_asked_for_is_nobody_s_answer(
    gateway: Gateway, customer: Customer, provider: Providing, offer: Make, unasked: bytes
) -> None:
    def saying_more(connection: socket.socket, number: int) -> None:
        for call in range(3):
            if not read(connection):
                return
            connection.sendall(answer(body=scripts.completion("up", text=f"{number}.{call}")))
            time.sleep(0.1)
            connection.sendall(unasked if number == 1 else b"")

    there = provider(saying_more)
    model = offer((there.url, {}))
    found = []
    for _ in range(3):
        told = client.chat(gateway.url, customer.token, model=model)
        found.append(told.json()["choices"][0]["message"]["content"])
        time.sleep(0.3)
    assert found == ["1.0", "2.0", "2.1"]
    assert len(there.connections) == 2


def certificate(folder: Path, *, name: str, days: int) -> ssl.SSLContext:
    """A server's, signed by itself, for a name, until so many days from now."""
    key, now = ec.generate_private_key(ec.SECP256R1()), dt.datetime.now(dt.UTC)
    whose = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder(whose, whose, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=30))
        .not_valid_after(now + dt.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    (folder / "server.pem").write_bytes(secret + made.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "server.pem")
    return context


@pytest.mark.parametrize(("name", "days"), [("localhost", 1), ("localhost", -1), ("elsewhere.example", 1)])
def test_a_certificate_that_nobody_vouches_for_is_named_as_what_is_wrong(
    gateway: Gateway, customer: Customer, provider: Providing, offer: Make, tmp_path: Path, name: str, days: int
) -> None:
    secure = certificate(tmp_path, name=name, days=days)

    def shaking_hands(connection: socket.socket, number: int) -> None:
        with contextlib.suppress(OSError):
            secure.wrap_socket(connection, server_side=True)

    there = provider(shaking_hands)
    model = offer((there.url.replace("http://127.0.0.1", "https://localhost"), {}))
    told = client.chat(gateway.url, customer.token, model=model)
    assert (told.status_code, told.json()["error"]["code"]) == (502, "upstream_error")
    (call,) = gateway.calls(customer.key)
    assert call["attempts"][0]["detail"] == "The provider's certificate cannot be trusted for its address."


def test_a_provider_that_speaks_no_tls_is_named_as_what_is_wrong(
    gateway: Gateway, customer: Customer, provider: Providing, offer: Make
) -> None:
    def plain(connection: socket.socket, number: int) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    there = provider(plain)
    model = offer((there.url.replace("http://", "https://"), {}))
    assert client.chat(gateway.url, customer.token, model=model).status_code == 502
    (call,) = gateway.calls(customer.key)
    assert call["attempts"][0]["detail"] == "No TLS could be agreed on with the provider."


def packed(*pieces: bytes) -> list[bytes]:
    """Each piece as it stands in one compressed body."""
    packer = brotli.Compressor()
    return [packer.process(piece) + packer.flush() for piece in pieces]


@pytest.mark.parametrize("begun", [False, True], ids=["at the beginning", "in mid-answer"])
def test_a_few_compressed_bytes_that_stand_for_many_keep_no_call_longer_than_its_time(
    gateway: Gateway, customer: Customer, provider: Providing, offer: Make, begun: bool
) -> None:
    """Three hundred megabytes of comments, in five kilobytes that come at once with the rest of the answer."""
    events = scripts.chunks("up")
    comments = b": nothing yet\n\n" * 70_000
    first, one, again, last = packed(b"".join(events[:begun]), comments, comments, b"".join(events[begun:]))
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Encoding: br\r\n\r\n"

    def packing(connection: socket.socket, number: int) -> None:
        read(connection)
        connection.sendall(head + first + one + again * 300 + last)
        connection.close()

    there = provider(packing)
    model = offer((there.url, {"timeouts": SHORT}))
    told = client.chat(gateway.url, customer.token, model=model, stream=True)
    assert told.status_code == (200 if begun else 504)
    found = client.events(told)[-1] if begun else told.json()
    assert found["error"]["code"] == "upstream_timeout"
    assert client.models(gateway.url, customer.token, model).status_code == 200


LONG = [{"role": "user", "content": "x" * (8 << 20)}]


@contextmanager
def taking_long_bodies(url: str, **fields: Any) -> Iterator[tuple[Gateway, Customer]]:
    """An installation that takes bodies as large as they may be, with a channel to this provider."""
    gateway = Gateway("sqlite")
    try:
        gateway.model("chat", PRICE, max_output=10)
        gateway.channel("early", url, {"chat": "up"}, **fields)
        gateway.start()
        yield gateway, gateway.customer("1000")
    finally:
        gateway.stop()


def test_a_provider_that_answers_and_reads_no_more_of_a_request_is_let_go(provider: Providing) -> None:
    def early(connection: socket.socket, number: int) -> None:
        connection.recv(1000)
        refusal = answer(b"413 Payload Too Large", {"error": {"message": "too large"}})
        connection.sendall(refusal if number == 1 else answer())

    there = provider(early)
    with taking_long_bodies(there.url) as (gateway, customer):
        found = [client.chat(gateway.url, customer.token, messages=LONG).status_code for _ in range(2)]
        assert found == [413, 200]
        eventually(lambda: {state(connection) for connection in there.connections} & {ESTABLISHED} == set())


def test_a_provider_that_neither_reads_a_request_nor_answers_is_let_go(provider: Providing) -> None:
    def silent(connection: socket.socket, number: int) -> None:
        connection.recv(1000)

    there = provider(silent)
    with taking_long_bodies(there.url, timeouts=SHORT) as (gateway, customer):
        assert client.chat(gateway.url, customer.token, messages=LONG).status_code == 504
        eventually(lambda: [state(connection) != ESTABLISHED for connection in there.connections] == [True])


def test_a_provider_that_answers_before_it_has_read_the_request_and_breaks_off_is_what_has_failed(
    provider: Providing,
) -> None:
    def breaking_off(connection: socket.socket, number: int) -> None:
        connection.recv(1000)
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 100000\r\n\r\n")
        connection.sendall(b"".join(scripts.chunks("up")[:3]))
        time.sleep(0.3)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()

    there = provider(breaking_off)
    with taking_long_bodies(there.url) as (gateway, customer):
        told = client.chat(gateway.url, customer.token, messages=LONG, stream=True)
        assert client.events(told)[-1]["error"]["code"] == "upstream_error"
        (call,) = eventually(lambda: gateway.calls(customer.key))
        assert [one["outcome"] for one in call["attempts"]] == ["upstream_error"]
        assert "Traceback" not in gateway.servers[0].log()


def state(connection: socket.socket) -> int:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
