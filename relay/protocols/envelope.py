"""OpenAI's envelope of errors, the same at all of its endpoints: written for clients, read from upstreams. Pure."""

import re
from typing import Any

import msgspec

from relay.errors import RelayError
from relay.protocols import google, refusals


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
    """`status` and `details` are Google's, whose OpenAI-compatible address answers errors in its own words; `metadata`
    is OpenRouter's."""

    message: str | None = None
    type: Any = None
    param: Any = None
    code: Any = None
    status: Any = None
    details: msgspec.Raw = msgspec.Raw()
    metadata: Any = None


class _Envelope(msgspec.Struct):
    error: _Error | str | None = None


_decoder = msgspec.json.Decoder(_Envelope | list[_Envelope])

# Types and codes of an account that cannot pay, which many providers tell with another status than 402. Sources: the
# lists of error codes of OpenAI (429; the hard limit 400), Moonshot (429), Alibaba's Model Studio (400), Zhipu (429),
# Volcengine Ark (403) and new-api (403), which says the same as this gateway of a user, and another of a key. A limit
# that its owner has set is one too, till the month ends: OpenAI's, whose type only may be that of them all ("Spend
# limits", "Troubleshooting API usage and spend limits"), and Groq's (400, "Spend Limits").
UNPAID = frozenset((
    "insufficient_quota", "billing_not_active", "billing_hard_limit_reached", "exceeded_current_quota_error",
    "credit_balance_exhausted", "organization_spend_limit_exceeded", "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded", "blocked_api_access",
    "Arrearage", "1113", "AccountOverdueError", "insufficient_user_quota", "pre_consume_token_quota_failed",
))  # fmt: skip
# Alibaba's Model Studio has one of these codes, and OpenAI's very words, for its limit of tokens a minute, which most
# calls find free again within that minute: "Error codes", Throttling.AllocationQuota/insufficient_quota, the section
# that its text links to.
_TOKENS_A_MINUTE = "error-code#token-limit"
# xAI has neither types nor codes of its own; it says 400 of a bad key, and the same 403 of one without rights, of an
# account without money (429 too) and of a prompt. How these texts begin, where no request's text can stand.
_TEAM_UNPAID = re.compile(r"your (?:newly created )?teams?\b[^.]{0,100}\bcredits\b", re.IGNORECASE)
_BAD_KEY = "Incorrect API key provided"  # a 400
_AGAINST_GUIDELINES = "Content violates usage guidelines."  # behind it stand our team and the key's id

# OpenRouter says 403, as of a prompt, where a budget is spent that the owner of the key has set, and 402, as of an
# account without money, where the calls that run would together cost more than there is: these end, and a Retry-After
# says when to ask again.
_SPENT = ("openrouter_key_limit", "openrouter_guardrail_budget", "openrouter_workspace_budget")
_IN_FLIGHT = "openrouter_in_flight_budget"


def decode(status: int, content: bytes, *, retry_after: str | None) -> RelayError:
    """What an upstream's error status and body mean for the caller (DESIGN, section 7)."""
    detail = _detail(content)
    text = detail.message or error_text(content)
    provider = {key: value for key in ("type", "code") if isinstance(value := getattr(detail, key), str)}
    if not UNPAID.isdisjoint(provider.values()) and _TOKENS_A_MINUTE not in text:
        return refusals.of_account(402)
    if (said := _of_xai(status, text) or _of_openrouter(detail.metadata, text, retry_after)) is not None:
        return said
    details = google.details(detail.details)
    if isinstance(detail.status, str) and (refused := google.of_account(status, text, details)) is not None:
        return refused
    param = detail.param if isinstance(detail.param, str) else None
    return refusals.of(status, text, param=param, provider=provider, retry_after=retry_after or google.delay(details))


def _of_xai(status: int, text: str) -> RelayError | None:
    """What xAI means by an error whose status says something else."""
    if status == 400 and text.startswith(_BAD_KEY):
        return refusals.of_account(401)
    if status in (403, 429) and _TEAM_UNPAID.match(text):
        return refusals.of_account(402)
    if status == 403 and text.startswith(_AGAINST_GUIDELINES):
        return refusals.of(400, _AGAINST_GUIDELINES)
    return None


def _of_openrouter(metadata: Any, text: str, retry_after: str | None) -> RelayError | None:
    """What OpenRouter means by a limit that it names ("Limits", `limit_source`)."""
    source = metadata.get("limit_source") if isinstance(metadata, dict) else None
    if source in _SPENT:
        return refusals.of_account(402)
    if source == _IN_FLIGHT:
        busy = refusals.of(429, text, retry_after=retry_after)
        busy.meant = 429
        return busy
    return None


def _detail(content: bytes) -> _Error:
    """Google's OpenAI-compatible address puts the envelope into an array."""
    try:
        told = _decoder.decode(content)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return _Error()
    found = (told if isinstance(told, _Envelope) else next(iter(told), _Envelope())).error
    return _Error(message=found) if isinstance(found, str) else found or _Error()


class _Fault(msgspec.Struct):
    """One of what is wrong with a request, as FastAPI lists it."""

    msg: str = ""
    loc: list[str | int] = msgspec.field(default_factory=list)


class _ErrorObject(msgspec.Struct):
    """`detail` is what servers built with FastAPI say (Jina's, and Mistral's with 422), in a message or alone. It is
    read only where it is needed: beside a message others have in it whatever they like."""

    message: "str | _ErrorObject | None" = None
    detail: msgspec.Raw = msgspec.Raw(b"null")


_Said = str | list[_Fault] | _ErrorObject | None


def error_text(raw: bytes | msgspec.Raw) -> str:
    """The text of an error object or string, at most 500 characters."""
    try:
        text = _text_of(msgspec.json.decode(raw, type=_ErrorObject | str))
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return "no reason given"
    return (text or "no reason given")[:500]


def _text_of(said: _Said) -> str:
    """Raises msgspec.DecodeError for a detail that is none of these."""
    if isinstance(said, _ErrorObject):
        return _text_of(said.message) or _text_of(msgspec.json.decode(said.detail, type=_Said))
    if isinstance(said, list):
        return "; ".join(f"{'.'.join(map(str, fault.loc))}: {fault.msg}" for fault in said)
    return said or ""
