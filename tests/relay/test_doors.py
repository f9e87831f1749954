"""The ways in: every place where a key may stand, and what a wrong one gets (requirements A1 to A5, A7, A8)."""

import base64
import json
import string
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import requests

from keys import tokens
from tests.kit import client
from tests.kit.gateway import Customer, Gateway
from tests.kit.ports import eventually
from tests.kit.scripts import body, whole
from tests.kit.upstream import Upstream


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


WAYS: dict[str, Callable[[str], dict[str, str]]] = {
    "a bearer token": lambda token: {"Authorization": f"Bearer {token}"},
    "a bearer token in lower case": lambda token: {"authorization": f"bearer {token}"},
    "a bare Authorization": lambda token: {"Authorization": token},
    "x-api-key": lambda token: {"x-api-key": token},
    "x-goog-api-key": lambda token: {"x-goog-api-key": token},
    "Basic with the key as password": lambda token: {"Authorization": basic("", token)},
    "Basic with a user name": lambda token: {"Authorization": basic("someone", token)},
}


@pytest.mark.parametrize("way", WAYS)
def test_a_key_is_taken_from_each_header(gateway: Gateway, customer: Customer, way: str) -> None:
    answer = client.chat(gateway.url, None, headers=WAYS[way](customer.token))
    assert answer.status_code == 200, answer.text


def test_a_key_in_the_query_opens_the_door_and_is_in_no_log(gateway: Gateway, customer: Customer) -> None:
    url = f"{gateway.url}/v1/chat/completions?key={customer.token}"
    answer = requests.post(url, json={"model": "chat", "messages": client.HELLO}, timeout=30)
    assert answer.status_code == 200
    wrong = customer.token[:-1] + ("0" if customer.token[-1] != "0" else "1")
    refused = requests.get(f"{gateway.url}/v1/models?key={wrong}", timeout=30)
    assert refused.status_code == 401
    log = gateway.servers[0].log()
    for secret in (customer.token, wrong, customer.token[11:40]):
        assert secret not in log
        assert secret not in refused.text


def test_a_key_in_the_query_is_in_no_log_of_a_talkative_server(gateway: Gateway, customer: Customer) -> None:
    server = gateway.start(LOG_LEVEL="DEBUG")
    try:
        url = f"{server.url}/v1/chat/completions?key={customer.token}"
        assert requests.post(url, json={"model": "chat", "messages": client.HELLO}, timeout=30).status_code == 200
        requests.get(f"{server.url}/no/such/page?key={customer.token}", timeout=30)
        assert client.chat(server.url, None, api_key=customer.token).status_code == 200
    finally:
        gateway.servers.remove(server)
        server.stop()
    assert customer.token[11:40] not in server.log()


@pytest.mark.parametrize("streamed", [False, True])
def test_a_key_in_the_body_is_taken_out_before_anything_is_forwarded(
    gateway: Gateway, customer: Customer, upstream: Upstream, streamed: bool
) -> None:
    script = upstream.play(whole()) if not streamed else ""
    answer = client.chat(gateway.url, None, api_key=customer.token, stream=streamed, x_script=script)
    assert answer.status_code == 200, answer.text
    sent = upstream.one(script) if script else upstream.exchanges[-1]
    assert customer.token.encode() not in sent.body
    assert "api_key" not in sent.json
    assert customer.token not in str(sent.headers)


def test_a_key_in_the_body_is_taken_out_where_the_header_had_one_too(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    script = upstream.play(whole())
    answer = client.chat(gateway.url, customer.token, model="same-name", api_key=customer.token, x_script=script)
    assert answer.status_code == 200
    assert b"api_key" not in upstream.one(script).body


def test_the_header_s_key_counts_where_header_and_body_have_one(gateway: Gateway, customer: Customer) -> None:
    wrong = tokens.new()
    assert client.chat(gateway.url, wrong, api_key=customer.token).status_code == 401
    assert client.chat(gateway.url, customer.token, api_key=wrong).status_code == 200


ANTHROPIC: dict[str, Any] = {"path": "/v1/messages", "max_tokens": 10}
WIRE = Path(__file__).parents[1] / "wire" / "anthropic"


@pytest.mark.parametrize("other", ["Bearer sk-of-something-else", "Basic %%%", f"Bearer {tokens.new()}"], ids=range(3))
def test_at_anthropic_s_door_a_key_in_x_api_key_counts_before_another_authorization(
    gateway: Gateway, customer: Customer, other: str
) -> None:
    """As its API has it (PROTOCOLS 0); at the other doors it is no more than another place."""
    headers = {"x-api-key": customer.token, "Authorization": other}
    assert client.chat(gateway.url, None, headers=headers, **ANTHROPIC).status_code == 200
    assert client.chat(gateway.url, None, headers=headers).status_code == 401
    named = {**headers, "anthropic-version": "2023-06-01"}
    assert requests.get(f"{gateway.url}/v1/models", headers=named, timeout=30).status_code == 200


def test_a_vendor_s_key_in_x_api_key_does_not_hide_ours_in_authorization(gateway: Gateway, customer: Customer) -> None:
    headers = {"x-api-key": "sk-ant-api03-of-the-vendor"}
    assert client.chat(gateway.url, customer.token, headers=headers, **ANTHROPIC).status_code == 200


def test_anthropic_s_clients_find_the_request_s_id_where_they_look(gateway: Gateway, customer: Customer) -> None:
    for token, status in ((customer.token, 200), (tokens.new(), 401)):
        answer = client.chat(gateway.url, token, headers={"X-Request-Id": "label-2"}, **ANTHROPIC)
        assert (answer.status_code, answer.headers["request-id"]) == (status, "label-2")
    assert "request-id" not in client.chat(gateway.url, customer.token).headers


def test_betas_in_several_headers_all_reach_anthropic(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    """HTTP lets a list be written in several lines."""
    name = f"betas-{customer.team}"
    gateway.model(name, {"input": "1", "output": "2"}, max_output=100)
    gateway.channel(name, upstream.url.removesuffix("/v1"), {name: "up-betas"}, protocol="anthropic")
    eventually(lambda: client.models(gateway.url, customer.token, name).status_code == 200)
    script = upstream.play(body((WIRE / "text.json").read_bytes()))
    asked = {"model": name, "max_tokens": 10, "messages": client.HELLO, "x_script": script}
    content = json.dumps(asked).encode()
    head = (
        f"POST /v1/messages HTTP/1.1\r\nHost: gateway\r\nx-api-key: {customer.token}\r\n"
        "anthropic-beta: files, context\r\nContent-Type: application/json\r\nAnthropic-Beta: fast\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    assert client.send_raw(gateway.url, head.encode() + content).startswith(b"HTTP/1.1 200")
    assert upstream.one(script).headers["anthropic-beta"] == "files, context, fast"


def test_the_proxies_before_us_may_each_write_a_line_of_their_own(gateway: Gateway, customer: Customer) -> None:
    _, token = gateway.issue(customer.team, networks=["203.0.113.9"])
    server = gateway.start(TRUSTED_PROXIES="2")
    try:
        head = f"GET /v1/models HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n"
        for hops, status in (
            (("203.0.113.9", "10.0.0.7"), b"200"),
            (("203.0.113.9", "198.51.100.1", "10.0.0.7"), b"403"),
        ):
            lines = "".join(f"X-Forwarded-For: {hop}\r\n" for hop in hops)
            assert client.send_raw(server.url, f"{head}{lines}\r\n".encode()).split()[1] == status
    finally:
        gateway.servers.remove(server)
        server.stop()


def test_the_upstream_sees_the_channel_s_credential_and_nothing_of_the_caller(
    gateway: Gateway, customer: Customer, upstream: Upstream
) -> None:
    script = upstream.play(whole())
    headers = {"Cookie": "session=1", "X-Forwarded-For": "203.0.113.9", "x-api-key": customer.token}
    assert client.chat(gateway.url, customer.token, x_script=script, headers=headers).status_code == 200
    sent = upstream.one(script)
    assert sent.headers["authorization"] == "Bearer sk-upstream-secret-7f3a9c41"
    assert customer.token not in str(sent.headers)
    assert not {"cookie", "x-forwarded-for", "x-api-key"} & sent.headers.keys()


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/chat/completions", "/v1/chat/completions/"])
def test_chat_works_with_and_without_the_version(gateway: Gateway, customer: Customer, path: str) -> None:
    assert client.chat(gateway.url, customer.token, path=path).status_code == 200


@pytest.mark.parametrize("path", ["/v1/models", "/models", "/v1/models/chat", "/models/chat"])
def test_models_work_with_and_without_the_version(gateway: Gateway, customer: Customer, path: str) -> None:
    answer = requests.get(gateway.url + path, headers={"Authorization": f"Bearer {customer.token}"}, timeout=30)
    assert answer.status_code == 200


def test_a_missing_key_is_a_401_that_says_how(gateway: Gateway) -> None:
    answer = client.chat(gateway.url, None)
    error = answer.json()["error"]
    assert answer.status_code == 401
    assert (error["code"], error["type"]) == ("invalid_api_key", "authentication_error")
    assert "Authorization: Bearer" in error["message"]


WRONG = [
    tokens.new(),
    "pisces-" + "a" * 40,
    "sk-" + string.ascii_letters,
    "x",
    "Bearer",
    "pisces-é" + "a" * 39,
    "pisces-" + "a" * 10_000,
]


@pytest.mark.parametrize("token", WRONG, ids=range(len(WRONG)))
def test_a_wrong_key_is_a_401_that_shows_it_masked(gateway: Gateway, token: str) -> None:
    answer = client.chat(gateway.url, None, headers={"Authorization": f"Bearer {token}".encode()})
    error = answer.json()["error"]
    assert answer.status_code == 401
    assert (error["code"], error["type"]) == ("invalid_api_key", "authentication_error")
    if len(token) > 20:
        assert token not in answer.text
        assert "…" in error["message"]
        assert len(error["message"]) < 200


@pytest.mark.parametrize(
    "body", [b"", b"{", b'{"api_key": 5}', b'{"api_key": null}', b'{"api_key": ""}', b"[]", b'"api_key"', b"\xff"]
)
def test_a_body_without_a_key_is_a_401_whatever_else_is_wrong_with_it(gateway: Gateway, body: bytes) -> None:
    answer = requests.post(f"{gateway.url}/v1/chat/completions", data=body, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")


def test_basic_that_is_not_base64_is_a_401(gateway: Gateway) -> None:
    for value in ("Basic %%%", "Basic " + base64.b64encode(b"\xff\xfe").decode(), "Basic"):
        answer = client.chat(gateway.url, None, headers={"Authorization": value})
        assert answer.status_code == 401


def test_errors_of_every_kind_carry_the_envelope(gateway: Gateway) -> None:
    answer = client.chat(gateway.url, None, headers={"X-Request-Id": "label-1"})
    body = answer.json()
    assert body.keys() == {"error", "pisces"}
    assert body["error"].keys() == {"message", "type", "param", "code"}
    assert body["pisces"]["request_id"] == "label-1" == answer.headers["X-Request-Id"]
    assert body["pisces"]["gateway"] == "Pisces"
    assert "cost" not in body["pisces"]
    assert json.loads(answer.text) == body
