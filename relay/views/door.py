"""The ways in: where a request may carry its key (requirements A1 to A5). One key space, one policy for all of them."""

import base64
import binascii

from keys import tokens
from relay.http import Request
from relay.protocols.openai.request import key_in_body


def protocol_of(request: Request) -> str:
    """What the caller most likely speaks, where the path does not say it. Keys tell nothing: Anthropic's SDKs send
    theirs as OpenAI's do, but no other client names a version of that API."""
    if b"anthropic-version" in request.headers:
        return "anthropic"
    if b"x-goog-api-key" in request.headers or request.path.startswith("/v1beta") or b"key=" in request.query:
        return "gemini"
    return "openai"


def token_in_headers(request: Request, protocol: str) -> str | None:
    """`Authorization` as Bearer, bare or Basic (the key as password); `x-api-key`; `x-goog-api-key`; `?key=`. The first
    of them counts; but Anthropic's API takes `x-api-key` where both are there, and so a key of ours in it."""
    if protocol == "anthropic" and tokens.is_genuine(own := request.header(b"x-api-key").strip()):
        return own
    authorization = request.header(b"authorization").strip()
    if authorization:
        return _from_authorization(authorization)
    for name in (b"x-api-key", b"x-goog-api-key"):
        if value := request.header(name).strip():
            return value
    return request.query_value("key")


def token_in_body(request: Request) -> str | None:
    """`"api_key"` inside the JSON body, which is taken out before anything is forwarded."""
    return key_in_body(request.body)


def _from_authorization(value: str) -> str:
    scheme, _, rest = value.partition(" ")
    if not rest:
        return value
    if scheme.lower() != "basic":
        return rest.strip()
    try:
        _, _, password = base64.b64decode(rest.strip(), validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return rest.strip()
    return password
