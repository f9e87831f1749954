"""Errors in Google's envelope (google.rpc.Status as JSON), and what an upstream's error says in ours.

Source: Gemini API, "Troubleshooting"; google.rpc.ErrorInfo, BadRequest and RetryInfo.
"""

import re
from math import ceil
from typing import Any

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import refusals

_TYPES = "type.googleapis.com/google.rpc."
# Statuses of Google that say more than ours of a request that it refused.
_REFUSALS = frozenset(("INVALID_ARGUMENT", "FAILED_PRECONDITION", "OUT_OF_RANGE"))


def encode(error: RelayError, pisces: dict[str, Any]) -> bytes:
    """`error` comes first: clients know an error in a stream by the object's first key."""
    inner: dict[str, Any] = {"code": error.status, "message": error.message, "status": _status(error)}
    if details := list(_details(error)):
        inner["details"] = details
    if error.provider:
        inner["provider"] = error.provider
    return msgspec.json.encode({"error": inner, "pisces": pisces})


def _status(error: RelayError) -> str:
    said = (error.provider or {}).get("status")
    if error.cause is Cause.UPSTREAM_REJECTED and said in _REFUSALS:
        return str(said)
    return error.entry.gemini


def _details(error: RelayError) -> list[dict[str, Any]]:
    reason = "API_KEY_INVALID" if error.cause is Cause.INVALID_API_KEY else error.entry.code.upper()
    found: list[dict[str, Any]] = [{"@type": f"{_TYPES}ErrorInfo", "reason": reason, "domain": "pisces"}]
    if error.param is not None:
        violation = {"field": error.param, "description": error.message}
        found.append({"@type": f"{_TYPES}BadRequest", "fieldViolations": [violation]})
    if error.retry_after is not None:
        found.append({"@type": f"{_TYPES}RetryInfo", "retryDelay": f"{max(1, ceil(error.retry_after))}s"})
    return found


class _Violation(msgspec.Struct):
    field: str = ""


class _Detail(msgspec.Struct):
    reason: str = ""
    retryDelay: str = ""
    fieldViolations: list[_Violation] = msgspec.field(default_factory=list)


class _Error(msgspec.Struct):
    code: int | str | None = None
    message: str | None = None
    status: str | None = None
    details: msgspec.Raw = msgspec.Raw(b"")


class _Envelope(msgspec.Struct):
    error: _Error | str | None = None


_decoder = msgspec.json.Decoder(_Envelope | list[_Envelope])
_error_decoder = msgspec.json.Decoder(_Error | str)
_details_decoder = msgspec.json.Decoder(list[_Detail])
# A 400 that begins so is about the account behind the channel, not about the request. Only that it begins so says it:
# further on, and where a field is named, Google quotes the request.
_OURS = re.compile(
    r"api key (?:not|expired)|user location is not supported|gemini api free tier is not available", re.IGNORECASE
)


def decode(status: int, content: bytes, *, retry_after: str | None) -> RelayError:
    """What an upstream's error status and body mean for the caller (DESIGN, section 7)."""
    return _meant(status, _found(content), retry_after)


def decode_event(raw: msgspec.Raw) -> RelayError:
    """An error in mid-stream: the provider is to blame for it, whatever it calls it."""
    try:
        found = _error_decoder.decode(raw)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        found = _Error()
    error = _Error(message=found) if isinstance(found, str) else found
    if isinstance(error.code, int) and error.code in (429, 503):
        return _meant(error.code, error, None)
    return RelayError(Cause.UPSTREAM_ERROR, f"The provider failed: {(error.message or 'no reason given')[:500]}")


def _meant(status: int, error: _Error, retry_after: str | None) -> RelayError:
    details = _read_details(error.details)
    text = error.message or "no reason given"
    if status == 400 and any(one.reason == "API_KEY_INVALID" for one in details):
        return refusals.of_account(401)  # Google says 400 where others say 401 or 403
    fields = [violation.field for one in details for violation in one.fieldViolations if violation.field]
    if status == 400 and not fields and _OURS.match(text):
        return refusals.of_account()  # not certain enough to disable a credential
    delay = next((one.retryDelay.removesuffix("s") for one in details if one.retryDelay), None)
    provider = {"status": error.status} if error.status else None
    return refusals.of(
        status, text, param=fields[0][:200] if fields else None, provider=provider, retry_after=retry_after or delay
    )


def _found(content: bytes) -> _Error:
    """An array has one where a stream was asked for as an array."""
    try:
        found = _decoder.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _Error()
    envelope = found if isinstance(found, _Envelope) else next(iter(found), _Envelope())
    return _Error(message=envelope.error) if isinstance(envelope.error, str) else envelope.error or _Error()


def _read_details(raw: msgspec.Raw) -> list[_Detail]:
    try:
        return _details_decoder.decode(raw) if bytes(raw) else []
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return []
