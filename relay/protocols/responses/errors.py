"""Errors in OpenAI's envelope (`relay.protocols.envelope`), and those that come inside an answer: in a stream, or in a
response object that has failed."""

from typing import Any

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import envelope, raws, refusals


def encode(error: RelayError, pisces: dict[str, Any]) -> bytes:
    """What all other protocols call messages is the input here, wherever it was refused."""
    told = envelope.body(error, pisces)
    if error.param == "messages":
        told["error"]["param"] = "input"
    return msgspec.json.encode(told)


def encode_event(error: RelayError, number: int, pisces: dict[str, Any]) -> bytes:
    """The `error` event: nested as it is seen on the wire, and flat as the SDK's type has it."""
    inner = envelope.body(error, pisces)["error"]
    flat = {name: inner[name] for name in ("code", "message", "param")}
    event = {"type": "error", "sequence_number": number, **flat, "error": inner, "pisces": pisces}
    return b"event: error\ndata: " + msgspec.json.encode(event) + b"\n\n"


def of_failed(error: RelayError) -> dict[str, str]:
    """The `error` of a failed response object, whose codes are an enumeration. None of them tells a client that it is
    at fault for what broke upstream: it may try again (pitfall 33)."""
    code = {Cause.RATE_LIMITED: "rate_limit_exceeded", Cause.UPSTREAM_REJECTED: "invalid_prompt"}.get(error.cause)
    return {"code": code or "server_error", "message": error.message}


class _Error(msgspec.Struct):
    message: str | None = None
    type: Any = None
    param: Any = None
    code: Any = None


class _Body(msgspec.Struct):
    error: msgspec.Raw = raws.ABSENT


_body_decoder = msgspec.json.Decoder(_Body)
_error_decoder = msgspec.json.Decoder(_Error | str | None)
# The codes of errors that come with status 200, as the statuses that they have otherwise.
_STATUSES = {
    "rate_limit_exceeded": 429,
    "invalid_prompt": 400,
    "bio_policy": 400,
    "misalignment_policy_violation": 400,
    "image_content_policy_violation": 400,
    "context_length_exceeded": 400,
    "server_is_overloaded": 503,
    "slow_down": 503,
    **dict.fromkeys(envelope.UNPAID, 402),
}


def decode_in_band(error: bytes | msgspec.Raw) -> RelayError:
    """What the error of an event, or of a response that failed, means."""
    try:
        found = _as_error(_error_decoder.decode(error))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        found = _Error()
    status = _STATUSES.get(found.code if isinstance(found.code, str) else "", 500)
    if _speaks_of_an_image(found.code):
        status = 400
    if status == 500:
        return RelayError(Cause.UPSTREAM_ERROR, f"The provider failed: {(found.message or 'no reason given')[:500]}")
    return _refusal(status, found)


def of_unreadable(data: bytes) -> RelayError:
    """What an event that is none of the protocol's means: the error in it, where that is all that it has."""
    try:
        error = _body_decoder.decode(data).error
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        error = raws.ABSENT
    if raws.is_given(error):
        return decode_in_band(error)
    return RelayError(Cause.UPSTREAM_ERROR, "The provider sent an event that cannot be read.")


def _speaks_of_an_image(code: Any) -> bool:
    """`invalid_image_url`, `image_too_large`, `failed_to_download_image` …: the request's own fault."""
    return isinstance(code, str) and "image" in code


def _as_error(found: _Error | str | None) -> _Error:
    return _Error(message=found) if isinstance(found, str) else found or _Error()


def _refusal(status: int, found: _Error) -> RelayError:
    provider = {key: value for key in ("type", "code") if isinstance(value := getattr(found, key), str)}
    param = found.param if isinstance(found.param, str) else None
    text = found.message or "no reason given"
    return refusals.of(status, text, param=param, provider=provider)
