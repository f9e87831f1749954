"""Errors in Google's envelope (google.rpc.Status as JSON), and what an upstream's error says in ours.

Source: Gemini API, "Troubleshooting"; google.rpc.ErrorInfo, BadRequest and RetryInfo.
"""

from math import ceil
from typing import Any

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import google, refusals

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


class _Error(msgspec.Struct):
    code: int | str | None = None
    message: str | None = None
    status: str | None = None
    details: msgspec.Raw = msgspec.Raw(b"")


class _Envelope(msgspec.Struct):
    error: _Error | str | None = None


_decoder = msgspec.json.Decoder(_Envelope | list[_Envelope])
_error_decoder = msgspec.json.Decoder(_Error | str)


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
    details = google.details(error.details)
    text = error.message or "no reason given"
    if (refused := google.of_account(status, text, details)) is not None:
        return refused
    fields = [violation.field for one in details for violation in one.fieldViolations if violation.field]
    return refusals.of(
        status,
        text,
        param=fields[0][:200] if fields else None,
        provider={"status": error.status} if error.status else None,
        retry_after=retry_after or google.delay(details),
    )


def _found(content: bytes) -> _Error:
    """An array has one where a stream was asked for as an array."""
    try:
        found = _decoder.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _Error()
    envelope = found if isinstance(found, _Envelope) else next(iter(found), _Envelope())
    return _Error(message=envelope.error) if isinstance(envelope.error, str) else envelope.error or _Error()
