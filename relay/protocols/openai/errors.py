"""Errors in OpenAI's envelope, and what an upstream's error says in ours."""

from typing import Any

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols.openai.response import error_text


def body(error: RelayError, pisces: dict[str, Any]) -> dict[str, Any]:
    """`{"error": {message, type, param, code}, "pisces": …}`: all four keys, as the SDKs expect."""
    inner: dict[str, Any] = {
        "message": error.message,
        "type": error.entry.openai,
        "param": error.param,
        "code": error.entry.code,
    }
    if error.provider:
        inner["provider"] = error.provider
    return {"error": inner, "pisces": pisces}


def encode(error: RelayError, pisces: dict[str, Any]) -> bytes:
    return msgspec.json.encode(body(error, pisces))


def encode_event(error: RelayError, pisces: dict[str, Any]) -> bytes:
    """The in-band form, for a stream that has begun. No `[DONE]` follows: the answer is not whole."""
    return b"data: " + encode(error, pisces) + b"\n\n"


class _Error(msgspec.Struct):
    message: str | None = None
    type: Any = None
    param: Any = None
    code: Any = None


class _Envelope(msgspec.Struct):
    error: _Error | str | None = None


def decode(status: int, content: bytes, *, retry_after: str | None) -> RelayError:
    """What an upstream's error status and body mean for the caller (DESIGN, section 7)."""
    detail = _detail(content)
    text = detail.message or error_text(content)
    provider = {key: value for key in ("type", "code") if isinstance(value := getattr(detail, key), str)}
    if status in (400, 413, 422):
        param = detail.param if isinstance(detail.param, str) else None
        return RelayError(Cause.UPSTREAM_REJECTED, text[:2000], status=status, param=param, provider=provider)
    if status == 429:
        return RelayError(
            Cause.RATE_LIMITED, f"The provider's rate limit is reached: {text[:500]}", retry_after=_seconds(retry_after)
        )
    if status in (503, 529):
        return RelayError(
            Cause.UNAVAILABLE, f"The provider is overloaded: {text[:500]}", retry_after=_seconds(retry_after)
        )
    if status in (401, 402, 403):
        # Its text speaks of our credential, which is not the caller's business.
        return RelayError(Cause.UPSTREAM_ERROR, "The provider refused the gateway's credential.")
    if status == 404:
        return RelayError(Cause.UPSTREAM_ERROR, "The provider does not know the model or the endpoint.")
    return RelayError(Cause.UPSTREAM_ERROR, f"The provider failed with status {status}: {text[:500]}")


def _detail(content: bytes) -> _Error:
    try:
        found = msgspec.json.decode(content, type=_Envelope).error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _Error()
    return _Error(message=found) if isinstance(found, str) else found or _Error()


def _seconds(header: str | None) -> float:
    try:
        return min(3600.0, max(1.0, float(header or "")))
    except ValueError:
        return 5.0
