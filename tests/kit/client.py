"""Clients of the gateway's HTTP: plain requests, streams read event by event, and sockets for what no library sends."""

import json
import socket
from typing import Any

import requests

HELLO = [{"role": "user", "content": "Hello"}]


def chat(url: str, token: str | None, *, path: str = "/v1/chat/completions", **body: Any) -> requests.Response:
    """One chat call; `body` replaces the usual one's fields. Headers go under `headers`."""
    headers = dict(body.pop("headers", {}))
    if token is not None:
        headers.setdefault("Authorization", f"Bearer {token}")
    content = {"model": "chat", "messages": HELLO, **body}
    return requests.post(url + path, json=content, headers=headers, timeout=30)


def post(url: str, token: str, content: bytes, **headers: str) -> requests.Response:
    """Any bytes as the body of a chat call."""
    named = {"Content-Type": "application/json", "Authorization": f"Bearer {token}", **headers}
    return requests.post(f"{url}/v1/chat/completions", data=content, headers=named, timeout=30)


def events(answer: requests.Response) -> list[Any]:
    """The data of a stream's events: parsed JSON, or the text `[DONE]`."""
    found = []
    for block in answer.content.decode().split("\n\n"):
        if block:
            assert block.startswith("data: "), block
            data = block.removeprefix("data: ")
            found.append(data if data == "[DONE]" else json.loads(data))
    return found


def text(found: list[Any]) -> str:
    """The words of a stream's events."""
    chunks = [chunk for chunk in found if isinstance(chunk, dict) and chunk.get("choices")]
    return "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])


def open_socket(url: str, token: str, body: dict[str, Any], *, headers: dict[str, str] | None = None) -> socket.socket:
    """Sends a chat call over a socket of the test's own and returns it unread, to be hung up."""
    content = json.dumps({"model": "chat", "messages": HELLO, **body}).encode()
    host, _, port = url.removeprefix("http://").partition(":")
    connection = socket.create_connection((host, int(port)), timeout=20)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {token}\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    head += f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
    connection.sendall(head.encode() + content)
    return connection


def send_raw(url: str, data: bytes, *, longest: int = 1 << 20) -> bytes:
    """Sends bytes as they are and returns what comes back until the server closes or has answered."""
    host, _, port = url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        connection.sendall(data)
        return receive(connection, longest=longest)


def receive(connection: socket.socket, *, longest: int = 1 << 20) -> bytes:
    """What comes until the server closes or has answered."""
    received = b""
    while len(received) < longest and not _complete(received):
        part = connection.recv(65536)
        if not part:
            break
        received += part
    return received


def _complete(answer: bytes) -> bool:
    head, found, rest = answer.partition(b"\r\n\r\n")
    if not found:
        return False
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return len(rest) >= int(line.split(b":")[1])
    return False


def models(url: str, token: str, name: str = "") -> requests.Response:
    """The list of models, or one of them."""
    path = f"/v1/models/{name}" if name else "/v1/models"
    return requests.get(url + path, headers={"Authorization": f"Bearer {token}"}, timeout=30)
