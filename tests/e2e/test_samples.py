"""The samples that users were given elsewhere keep working: `requests` with a key in the body, or a bare header."""

import json

import requests

from tests.kit import client
from tests.kit.gateway import Customer, Gateway


def test_requests_with_the_key_in_the_body(gateway: Gateway, customer: Customer) -> None:
    url = gateway.url + "/v1/chat/completions"
    messages = [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": "Hello!"}]
    body = {"messages": messages, "model": "chat", "api_key": customer.token}
    result = requests.post(url, json=body, timeout=30).json()
    assert result["choices"][0]["message"]["content"]
    assert result["usage"]["total_tokens"] == 150


def test_requests_streaming_line_by_line_with_the_key_in_the_body(gateway: Gateway, customer: Customer) -> None:
    messages = [{"role": "user", "content": "写一首关于春天的诗"}]
    body = {"messages": messages, "model": "chat", "api_key": customer.token, "stream": True}
    words = []
    with requests.post(gateway.url + "/v1/chat/completions", json=body, stream=True, timeout=30) as response:
        for line in response.iter_lines():
            if not line:
                continue
            text = line.decode("utf-8")
            assert text.startswith("data: ")
            if text[6:] == "[DONE]":
                break
            words.append(json.loads(text[6:])["choices"][0]["delta"].get("content") or "")
    assert "".join(words) == "Hello, world."


def test_requests_with_a_bare_authorization(gateway: Gateway, customer: Customer) -> None:
    payload = {
        "model": "chat",
        "messages": [
            {"role": "system", "content": "You are a helpful assistant."},
            {"role": "user", "content": "周树人和鲁迅是兄弟吗？"},
        ],
    }
    headers = {
        "Accept": "application/json",
        "Authorization": customer.token,
        "User-Agent": "xxx/1.0.0",
        "Content-Type": "application/json",
    }
    response = requests.post(
        gateway.url + "/v1/chat/completions", headers=headers, data=json.dumps(payload), timeout=30
    )
    assert response.status_code == 200


def test_key_in_header_and_body_at_once(gateway: Gateway, customer: Customer) -> None:
    assert client.chat(gateway.url, customer.token, api_key=customer.token).status_code == 200


def test_a_picture_given_as_a_plain_address(gateway: Gateway, customer: Customer) -> None:
    content = [
        {"type": "text", "text": "这张图片里有什么?"},
        {"type": "image_url", "image_url": "https://example.com/image.jpg"},
    ]
    body = {"messages": [{"role": "user", "content": content}], "model": "chat", "api_key": customer.token}
    assert requests.post(gateway.url + "/v1/chat/completions", json=body, timeout=30).status_code == 200
