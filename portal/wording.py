"""What stored words mean to a reader, in the reader's language: errors, sources of usage, buckets, states."""

from typing import Any

from django.utils.translation import gettext_lazy as _

from relay.models import CallLog, CallState

# Why a call failed, by the code that is stored with it (`relay.errors.Cause` and what the pipeline adds).
REASONS: dict[str, Any] = {
    "invalid_api_key": _("The key was not valid."),
    "insufficient_user_quota": _("The balance or the quota could not pay for the call."),
    "permission_denied": _("The key may not do this, or not from this address."),
    "invalid_model": _("No model is offered under this name."),
    "invalid_json": _("The body of the request was not a JSON object."),
    "invalid_messages": _("The messages were missing or malformed."),
    "invalid_parameter": _("A parameter had a wrong type or an unsupported value."),
    "thread_unsupported_request": _("The request wanted a provider to keep the conversation."),
    "unknown_path": _("There is no endpoint at this path."),
    "response_not_found": _("There was no stored response with this id."),
    "method_not_allowed": _("The endpoint does not take this method."),
    "request_too_large": _("The request was larger than the gateway accepts."),
    "idempotency_key_in_use": _("A request with the same idempotency key was still running."),
    "idempotency_key_reused": _("The idempotency key had been used for another request."),
    "idempotency_answer_not_stored": _("The request had been answered and paid for before."),
    "rate_limit_exceeded": _("There were too many requests."),
    "upstream_rejected": _("The provider refused the request itself."),
    "upstream_error": _("The provider failed, could not be reached or answered something unusable."),
    "unavailable": _("No channel could serve the model, or the gateway was not ready."),
    "upstream_timeout": _("The provider was silent for too long."),
    "internal_error": _("The gateway itself failed."),
    "client_left": _("The client closed the connection."),
}
SOURCES: dict[str, Any] = {
    "reported": _("reported by the provider"),
    "partial": _("as far as it was reported, the rest counted"),
    "counted": _("counted by the gateway"),
    "none": _("nothing was used"),
}
BUCKETS: dict[str, Any] = {
    "input": _("Input"),
    "cache_read": _("Cache read"),
    "cache_write": _("Cache write"),
    "cache_write_1h": _("Cache write for an hour"),
    "output": _("Output"),
    "reasoning": _("Reasoning"),
    "audio_in": _("Audio in"),
    "audio_out": _("Audio out"),
    "characters": _("Characters"),
    "images": _("Pictures"),
    "seconds": _("Seconds"),
    "searches": _("Searches"),
    "calls": _("Calls"),
    "review": _("Decided by an administrator"),
}
# What a bucket's price buys, where it is not a million tokens.
UNITS: dict[str, Any] = {
    "characters": _("per 1M characters"),
    "images": _("per picture"),
    "seconds": _("per second"),
    "searches": _("per search"),
    "calls": _("per call"),
    "review": _("in all"),
}
# A budget's window, of which one is always running.
WINDOWS: dict[str, Any] = {
    "day": _("Today"),
    "week": _("This week"),
    "month": _("This month"),
    "total": _("In total"),
}
OUTCOMES: dict[str, Any] = {
    "complete": _("Complete"),
    "rate_limit_exceeded": _("Rate limited"),
    "upstream_rejected": _("Request refused"),
    "upstream_error": _("Provider failed"),
    "upstream_timeout": _("No answer in time"),
    "unavailable": _("Not available"),
    "internal_error": _("Gateway failed"),
    "client_left": _("Client left"),
    "lost": _("Lost"),
    "failed": _("Failed"),
}
# The same beside a status, in a word or two.
SHORT: dict[str, Any] = {
    "insufficient_user_quota": _("no quota"),
    "rate_limit_exceeded": _("limited"),
    "upstream_rejected": _("refused"),
    "upstream_error": _("provider failed"),
    "unavailable": _("unavailable"),
    "upstream_timeout": _("timeout"),
    "internal_error": _("gateway failed"),
}
# Tone and icon of a call's state.
LOOKS: dict[str, tuple[str, str]] = {
    CallState.SETTLED: ("ok", "ok"),
    CallState.LEFT: ("off", "pause"),
    CallState.FAILED: ("bad", "bad"),
    CallState.REFUSED: ("warn", "warn"),
    CallState.LOST: ("bad", "bad"),
}


def bucket(name: str) -> str:
    """A bucket's name; for pictures with their size and quality, `Pictures 1024x1024/low`."""
    known, _slash, which = name.partition("/")
    return f"{BUCKETS.get(known, known)} {which}".strip()


def reason(call: CallLog) -> str:
    return str(REASONS.get(call.error, call.error))


def verdict(call: CallLog) -> str:
    """What became of the money, in one sentence, for a call that did not simply end well; else empty."""
    if call.state == CallState.SETTLED:
        return ""
    if call.cost == 0:
        return str(_("Nothing was charged: the hold was given back."))
    if call.state == CallState.LEFT:
        return str(_("What had been produced by then was charged; the rest of the hold was given back."))
    return str(_("What had verifiably been used was charged; the rest of the hold was given back."))
