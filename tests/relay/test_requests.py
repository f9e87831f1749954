"""Requests that are not what they should be: a clear 400 in the caller's envelope, nothing sent, nothing held."""

import json
from typing import Any

import pytest
import requests

from relay.errors import TABLE
from tests.kit import client, scripts
from tests.kit.gateway import Customer, Gateway
from tests.kit.upstream import Upstream

MANY = 50_000


def refused(gateway: Gateway, customer: Customer, answer: requests.Response, status: int, code: str) -> dict[str, Any]:
    """The answer is this error in the whole envelope; no call was let in."""
    body = answer.json()
    assert (answer.status_code, body["error"]["code"]) == (status, code), answer.text
    assert body["error"].keys() == {"message", "type", "param", "code"}
    entry = next(entry for entry in TABLE.values() if entry.code == code)
    assert (body["error"]["type"], entry.status) == (entry.openai, status)
    assert answer.headers["X-Request-Id"] == body["pisces"]["request_id"]
    assert gateway.holds(customer.wallet) == []
    assert gateway.transfers(customer.wallet) == []
    found: dict[str, Any] = body["error"]
    return found


NOT_JSON = {
    "nothing": b"",
    "spaces": b"   ",
    "half an object": b'{"model": "chat", "messages": [',
    "single quotes": b"{'model': 'chat'}",
    "a trailing comma": b'{"model": "chat",}',
    "two objects": b"{}{}",
    "a list": b"[]",
    "a string": b'"chat"',
    "a number": b"1",
    "null": b"null",
    "not UTF-8": b'{"model": "chat", "messages": [{"role": "user", "content": "\xff\xfe"}]}',
    "UTF-16": '{"model": "chat"}'.encode("utf-16"),
    "NaN": b'{"model": "chat", "temperature": NaN, "messages": []}',
    "a NUL byte": b'{"model": "ch\x00at", "messages": []}',
    "nested lists without end": b'{"model": "chat", "messages": ' + b"[" * MANY + b"]" * MANY + b"}",
    "nested objects without end": b'{"model": "chat", "x": '
    + b'{"a":' * MANY
    + b"1"
    + b"}" * MANY
    + b', "messages": [{}]}',
    "a form": b"model=chat&messages=hello",
}


@pytest.mark.parametrize("body", NOT_JSON)
def test_what_is_no_json_object_is_a_400(gateway: Gateway, customer: Customer, body: str) -> None:
    answer = client.post(gateway.url, customer.token, NOT_JSON[body])
    error = refused(gateway, customer, answer, 400, answer.json()["error"]["code"])
    assert error["code"] in ("invalid_json", "invalid_messages")
    assert len(error["message"]) < 400


WRONG: list[tuple[str, Any, str]] = [
    ("model", 5, "invalid_parameter"),
    ("model", ["chat"], "invalid_parameter"),
    ("model", {}, "invalid_parameter"),
    ("messages", None, "invalid_messages"),
    ("messages", [], "invalid_messages"),
    ("messages", "hello", "invalid_messages"),
    ("messages", {"role": "user"}, "invalid_messages"),
    ("messages", ["hello"], "invalid_messages"),
    ("messages", [None], "invalid_messages"),
    ("messages", [[]], "invalid_messages"),
    ("stream", "yes", "invalid_parameter"),
    ("stream", 1, "invalid_parameter"),
    ("stream_options", "usage", "invalid_parameter"),
    ("stream_options", {"include_usage": "yes"}, "invalid_parameter"),
    ("max_tokens", "many", "invalid_parameter"),
    ("max_tokens", 0, "invalid_parameter"),
    ("max_tokens", -1, "invalid_parameter"),
    ("max_tokens", 1.5, "invalid_parameter"),
    ("max_tokens", 2**63, "invalid_parameter"),
    ("max_tokens", 10**30, "invalid_parameter"),
    ("max_completion_tokens", 0, "invalid_parameter"),
    ("n", 0, "invalid_parameter"),
    ("n", 129, "invalid_parameter"),
    ("n", True, "invalid_parameter"),
]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("field", "value", "code"), WRONG)
def test_a_wrong_type_or_value_names_its_field(
    gateway: Gateway, customer: Customer, field: str, value: Any, code: str, streamed: bool
) -> None:
    body = {"stream": streamed, field: value}
    answer = client.chat(gateway.url, customer.token, **body)
    error = refused(gateway, customer, answer, 400, code)
    assert error["param"] == field
    assert field in error["message"]


def test_a_request_without_messages_or_model_says_what_is_missing(gateway: Gateway, customer: Customer) -> None:
    answer = client.post(gateway.url, customer.token, b'{"model": "chat"}')
    assert refused(gateway, customer, answer, 400, "invalid_messages")["param"] == "messages"
    answer = client.post(gateway.url, customer.token, json.dumps({"messages": client.HELLO}).encode())
    assert refused(gateway, customer, answer, 400, "invalid_parameter")["param"] == "model"


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(
    "model",
    ["unknown", "unpriced", "withdrawn", "no-channel", "not-chat", "up-chat", "CHAT", "x" * 5000, "a\x00b", "模型"],
)
def test_a_model_that_is_not_offered_is_a_404(gateway: Gateway, customer: Customer, model: str, streamed: bool) -> None:
    answer = client.chat(gateway.url, customer.token, model=model, stream=streamed)
    error = refused(gateway, customer, answer, 404, "invalid_model")
    assert error["param"] == "model"
    assert len(error["message"]) < 400


def test_unknown_paths_and_methods_are_told_apart(gateway: Gateway, customer: Customer) -> None:
    headers = {"Authorization": f"Bearer {customer.token}"}
    for path in ("/v1/nothing", "/v1", "/v1/", "/v1/chat", "/v1/chat/completions/x", "/v1/" + "x" * 3000):
        answer = requests.post(gateway.url + path, json={}, headers=headers, timeout=30)
        refused(gateway, customer, answer, 404, "unknown_path")
    for method, path, allowed in (
        ("GET", "/v1/chat/completions", "POST"),
        ("POST", "/v1/models", "GET"),
        ("DELETE", "/v1/models/chat", "GET"),
        ("PUT", "/v1/responses/resp_1", "DELETE, GET"),
    ):
        answer = requests.request(method, gateway.url + path, headers=headers, timeout=30)
        refused(gateway, customer, answer, 405, "method_not_allowed")
        assert answer.headers["Allow"] == allowed


@pytest.mark.parametrize(
    "path",
    [
        "/v1beta/models/chat:predict", "/v1/models/chat:batchGenerateContent", "/models/[M]vendor/model-1:predict",
        "/v1/responses/compact", "/v1/responses/input_tokens",
    ],
)  # fmt: skip
def test_a_verb_that_there_is_none_for_is_an_unknown_path(gateway: Gateway, customer: Customer, path: str) -> None:
    """And not a matter of the method: GET would look for a model or a response of that name (PROTOCOLS 0)."""
    headers = {"Authorization": f"Bearer {customer.token}"}
    answer = requests.post(gateway.url + path, json={}, headers=headers, timeout=30)
    told = answer.json()["error"]
    assert (answer.status_code, told["message"]) == (404, f"There is no endpoint at {path!r}.")
    assert "Allow" not in answer.headers


# ---- size -----------------------------------------------------------------------------------------------------------

LIMIT = 512 * 1024  # of the tests' gateway


def request_head(customer: Customer, *headers: str) -> bytes:
    lines = ["POST /v1/chat/completions HTTP/1.1", "Host: x", f"Authorization: Bearer {customer.token}", *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_content_length_past_the_limit_is_refused_unread(gateway: Gateway, customer: Customer) -> None:
    answer = client.send_raw(gateway.url, request_head(customer, f"Content-Length: {LIMIT + 1}"))
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"request_too_large"' in answer
    assert b"connection: close" in answer.lower()
    assert gateway.holds(customer.wallet) == []


def test_a_chunked_body_is_refused_as_soon_as_it_is_past_the_limit(gateway: Gateway, customer: Customer) -> None:
    head = request_head(customer, "Transfer-Encoding: chunked")
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answer = client.send_raw(gateway.url, head + chunk * (LIMIT // 0x10000 + 1))  # and no last chunk
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'"request_too_large"' in answer


def test_a_body_of_exactly_the_limit_is_read(gateway: Gateway, customer: Customer, upstream: Upstream) -> None:
    script = upstream.play(scripts.whole())
    shell = {"model": "chat", "x_script": script, "messages": [{"role": "user", "content": ""}]}
    room = LIMIT - len(json.dumps(shell))
    shell["messages"][0]["content"] = "x" * room  # type: ignore[index]
    content = json.dumps(shell).encode()
    assert len(content) == LIMIT
    assert client.post(gateway.url, customer.token, content).status_code == 200
    answer = client.post(gateway.url, customer.token, content + b" ")
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
    assert len(upstream.served(script)) == 1


def test_a_chunked_body_within_the_limit_is_read(gateway: Gateway, customer: Customer) -> None:
    content = json.dumps({"model": "chat", "messages": client.HELLO}).encode()
    parts = (content[at : at + 7] for at in range(0, len(content), 7))
    headers = {"Authorization": f"Bearer {customer.token}"}
    answer = requests.post(f"{gateway.url}/v1/chat/completions", data=parts, headers=headers, timeout=30)
    assert answer.status_code == 200


def test_a_key_in_a_body_past_the_limit_is_not_looked_for(gateway: Gateway, customer: Customer) -> None:
    content = json.dumps({"api_key": customer.token, "x": "y" * LIMIT}).encode()
    answer = requests.post(f"{gateway.url}/v1/chat/completions", data=content, timeout=30)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")


@pytest.mark.parametrize("sent", [b"", b"{"], ids=["nothing", "a little"])
def test_a_body_that_does_not_come_is_not_waited_for_without_end(
    gateway: Gateway, customer: Customer, sent: bytes
) -> None:
    answer = client.send_raw(gateway.url, request_head(customer, "Content-Length: 100") + sent)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b"did not arrive in time" in answer
    assert gateway.holds(customer.wallet) == []


def test_the_connection_serves_the_next_request_after_an_error(gateway: Gateway, customer: Customer) -> None:
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {customer.token}"
        url = f"{gateway.url}/v1/chat/completions"
        assert session.post(url, data=b"{", timeout=30).status_code == 400
        assert session.post(url, json={"model": "x", "messages": client.HELLO}, timeout=30).status_code == 404
        assert session.post(url, json={"model": "chat", "messages": client.HELLO}, timeout=30).status_code == 200
