"""Errors in Anthropic's envelope, and what an upstream's error says in ours.

Source: Anthropic API, "Errors"; the in-band form is the `error` event of "Streaming".
"""

from typing import Any

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import refusals

# The statuses of errors that come inside a stream, where there is no status line.
_STATUS = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}


def body(error: RelayError, pisces: dict[str, Any]) -> dict[str, Any]:
    """`{"type": "error", "error": {type, message, details}, "request_id", "pisces"}`: `details.error_code` is where the
    SDKs look for more than the type says, and is Anthropic's own where it has given one with its refusal."""
    inner: dict[str, Any] = {"type": error.entry.anthropic, "message": error.message, "details": _details(error)}
    if error.param is not None:
        inner["param"] = error.param
    if error.provider:
        inner["provider"] = error.provider
    return {"type": "error", "error": inner, "request_id": pisces.get("request_id"), "pisces": pisces}


def _details(error: RelayError) -> dict[str, Any]:
    found: dict[str, Any] = {"error_code": (error.provider or {}).get("error_code", error.entry.code)}
    if error.cause is Cause.UNSUPPORTED_THREAD:
        found["unsupported"] = [error.param]
    return found


def encode(error: RelayError, pisces: dict[str, Any]) -> bytes:
    return msgspec.json.encode(body(error, pisces))


def encode_event(error: RelayError, pisces: dict[str, Any]) -> bytes:
    """The in-band form, for a stream that has begun. No `message_stop` follows: the answer is not whole."""
    return b"event: error\ndata: " + encode(error, pisces) + b"\n\n"


# How the text of a 400 begins that speaks of our account: without money, or at the limit that its owner has set for a
# month, for all of it or for one workspace (Claude Console, "Spend limits"). A beginning, because no request's text can
# stand there.
_UNPAID = (
    "Your credit balance is too low", "You have reached your specified API usage limits",
    "You have reached your specified workspace API usage limits",
)  # fmt: skip
# Of a 429: the account's tier allows no more in this month ("Rate limits", monthly spend cap). No wait is told.
_SPENT = "enforced_spend_limit_reached"


class _Details(msgspec.Struct):
    error_code: str | None = None


class _Error(msgspec.Struct):
    type: str = ""
    message: str = ""
    details: _Details | None = None


class _Envelope(msgspec.Struct):
    error: _Error


_decoder = msgspec.json.Decoder(_Envelope)
_error_decoder = msgspec.json.Decoder(_Error)


def decode(status: int, content: bytes, *, retry_after: str | None) -> RelayError:
    """What an upstream's error status and body mean for the caller (DESIGN, section 7)."""
    try:
        found = _decoder.decode(content).error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        found = _Error()
    return _refusal(status, found, retry_after)


def decode_in_band(error: bytes | msgspec.Raw) -> RelayError:
    """What the `error` of an event, or of an answer with status 200, means."""
    try:
        found = _error_decoder.decode(error)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        found = _Error()
    return _refusal(_STATUS.get(found.type, 500), found, None)


def _refusal(status: int, found: _Error, retry_after: str | None) -> RelayError:
    provider = {"type": found.type} if found.type else {}
    if found.details is not None and found.details.error_code:
        provider["error_code"] = found.details.error_code
    text = found.message or "no reason given"
    if (status == 400 and text.startswith(_UNPAID)) or provider.get("error_code") == _SPENT:
        return refusals.of_account(402)
    return refusals.of(status, text, provider=provider, retry_after=retry_after)
