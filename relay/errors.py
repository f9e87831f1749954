"""One error family and its table. The envelopes, the docs and `/api/public/spec` are drawn from `TABLE`.

Nothing else crosses a layer of the relay: what a library raises is turned into a RelayError where it is called.
"""

from collections.abc import Iterable
from enum import StrEnum
from math import ceil
from typing import Any

import msgspec


class Cause(StrEnum):
    """Why a call was not answered; a row of the table each."""

    INVALID_API_KEY = "invalid_api_key"
    INSUFFICIENT_QUOTA = "insufficient_user_quota"
    PERMISSION_DENIED = "permission_denied"
    INVALID_MODEL = "invalid_model"
    INVALID_JSON = "invalid_json"
    INVALID_MESSAGES = "invalid_messages"
    INVALID_PARAMETER = "invalid_parameter"
    UNSUPPORTED_THREAD = "thread_unsupported_request"
    UNKNOWN_PATH = "unknown_path"
    UNKNOWN_RESPONSE = "response_not_found"
    WRONG_METHOD = "method_not_allowed"
    TOO_LARGE = "request_too_large"
    IDEMPOTENCY_IN_USE = "idempotency_key_in_use"
    IDEMPOTENCY_REUSED = "idempotency_key_reused"
    IDEMPOTENCY_NOT_STORED = "idempotency_answer_not_stored"
    RATE_LIMITED = "rate_limit_exceeded"
    UPSTREAM_REJECTED = "upstream_rejected"
    UPSTREAM_ERROR = "upstream_error"
    UNAVAILABLE = "unavailable"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    INTERNAL = "internal_error"


class Entry(msgspec.Struct, frozen=True):
    """How a cause looks from outside. `retry` is whether the same call may succeed later."""

    status: int
    code: str
    openai: str
    anthropic: str
    gemini: str
    retry: bool
    description: str


TABLE: dict[Cause, Entry] = {
    Cause.INVALID_API_KEY: Entry(
        401, "invalid_api_key", "authentication_error", "authentication_error", "UNAUTHENTICATED", False,
        "No API key, or one that is unknown, paused, revoked or expired.",
    ),
    Cause.INSUFFICIENT_QUOTA: Entry(
        403, "insufficient_user_quota", "insufficient_quota", "billing_error", "PERMISSION_DENIED", False,
        "The wallet or the quota of the key cannot pay for the call.",
    ),
    Cause.PERMISSION_DENIED: Entry(
        403, "permission_denied", "permission_error", "permission_error", "PERMISSION_DENIED", False,
        "This key may not use the model or the endpoint, or not from this address; or the account is frozen.",
    ),
    Cause.INVALID_MODEL: Entry(
        404, "invalid_model", "invalid_request_error", "not_found_error", "NOT_FOUND", False,
        "No model is offered under this name.",
    ),
    Cause.UNKNOWN_PATH: Entry(
        404, "unknown_path", "invalid_request_error", "not_found_error", "NOT_FOUND", False,
        "There is no endpoint at this path.",
    ),
    Cause.UNKNOWN_RESPONSE: Entry(
        404, "response_not_found", "invalid_request_error", "not_found_error", "NOT_FOUND", False,
        "No stored response of this team has this id, or it has expired or was deleted.",
    ),
    Cause.WRONG_METHOD: Entry(
        405, "method_not_allowed", "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT", False,
        "The endpoint exists, but not with this method.",
    ),
    Cause.INVALID_JSON: Entry(
        400, "invalid_json", "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT", False,
        "The body is not a JSON object.",
    ),
    Cause.INVALID_MESSAGES: Entry(
        400, "invalid_messages", "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT", False,
        "The messages are missing or malformed.",
    ),
    Cause.INVALID_PARAMETER: Entry(
        400, "invalid_parameter", "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT", False,
        "A parameter has a wrong type or a value that is not supported.",
    ),
    Cause.UNSUPPORTED_THREAD: Entry(
        400, "thread_unsupported_request", "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT", False,
        "A provider would have to keep the conversation (`thread`); send the whole of it without a thread.",
    ),
    Cause.TOO_LARGE: Entry(
        413, "request_too_large", "invalid_request_error", "request_too_large", "INVALID_ARGUMENT", False,
        "The body is larger than the gateway accepts.",
    ),
    Cause.IDEMPOTENCY_IN_USE: Entry(
        409, "idempotency_key_in_use", "idempotency_error", "conflict_error", "ABORTED", True,
        "The call that this Idempotency-Key stands for is still running; ask again after Retry-After.",
    ),
    Cause.IDEMPOTENCY_REUSED: Entry(
        422, "idempotency_key_reused", "idempotency_error", "invalid_request_error", "INVALID_ARGUMENT", False,
        "This Idempotency-Key stands for another request; a key is for one request, sent again unchanged.",
    ),
    Cause.IDEMPOTENCY_NOT_STORED: Entry(
        409, "idempotency_answer_not_stored", "idempotency_error", "conflict_error", "ABORTED", False,
        "The call that this Idempotency-Key stands for was paid for, and its answer could not be kept.",
    ),
    Cause.RATE_LIMITED: Entry(
        429, "rate_limit_exceeded", "rate_limit_error", "rate_limit_error", "RESOURCE_EXHAUSTED", True,
        "Too many requests; wait as long as Retry-After says.",
    ),
    Cause.UPSTREAM_REJECTED: Entry(
        400, "upstream_rejected", "invalid_request_error", "invalid_request_error", "INVALID_ARGUMENT", False,
        "The provider refused the request itself; its status (400, 413 or 422) and its text are passed on.",
    ),
    Cause.UPSTREAM_ERROR: Entry(
        502, "upstream_error", "api_error", "api_error", "UNAVAILABLE", True,
        "The provider failed, could not be reached, refused our credential or answered something unusable.",
    ),
    Cause.UNAVAILABLE: Entry(
        503, "unavailable", "api_error", "overloaded_error", "UNAVAILABLE", True,
        "No channel can serve the model now, or the gateway is not ready; wait as long as Retry-After says.",
    ),
    Cause.UPSTREAM_TIMEOUT: Entry(
        504, "upstream_timeout", "api_error", "timeout_error", "DEADLINE_EXCEEDED", True,
        "The provider was silent for too long.",
    ),
    Cause.INTERNAL: Entry(
        500, "internal_error", "api_error", "api_error", "INTERNAL", True,
        "A fault of the gateway; nothing was charged for it.",
    ),
}  # fmt: skip


class RelayError(Exception):
    """An answer to the caller. `message` is shown; `status` and `code` replace the table's where a provider's count.

    `retry_after` is seconds. `provider` is what the provider itself said, kept for clients that match on it. `meant` is
    the status that its error stands for, where that concerns our account with it: not all say so by their answer's.
    `allow` are the methods that the path takes, where another one was tried.
    """

    def __init__(
        self,
        cause: Cause,
        message: str,
        *,
        status: int | None = None,
        param: str | None = None,
        retry_after: float | None = None,
        provider: dict[str, Any] | None = None,
        meant: int | None = None,
        allow: Iterable[str] = (),
    ) -> None:
        super().__init__(message)
        self.cause = cause
        self.entry = TABLE[cause]
        self.message = message
        self.status = status or self.entry.status
        self.param = param
        self.retry_after = retry_after
        self.provider = provider
        self.meant = meant
        self.allow = allow

    def headers(self) -> list[tuple[bytes, bytes]]:
        """`Retry-After` where waiting helps, `x-should-retry: false` where retrying would only cost (openai SDKs), and
        `Allow`, which a 405 must have (RFC 9110, 15.5.6)."""
        found: list[tuple[bytes, bytes]] = []
        if self.retry_after is not None:
            found.append((b"retry-after", str(max(1, ceil(self.retry_after))).encode()))
        if self.allow:
            found.append((b"allow", ", ".join(self.allow).encode()))
        if self.cause in (Cause.INSUFFICIENT_QUOTA, Cause.IDEMPOTENCY_NOT_STORED):  # SDKs repeat every 409
            found.append((b"x-should-retry", b"false"))
        return found
