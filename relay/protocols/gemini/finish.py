"""Gemini's `finishReason` and `blockReason`, and the ends of the hub. Pure.

Source: Gemini API reference, `FinishReason` and `BlockReason`. STOP also stands where tools are called.
"""

from relay.errors import Cause, RelayError
from relay.protocols.canonical import Finish

_ENDS = {
    "STOP": Finish.STOP,
    "FINISH_REASON_UNSPECIFIED": Finish.STOP,
    "MAX_TOKENS": Finish.LENGTH,
    "CONTINUATION": Finish.PAUSE,
}
_FILTERS = frozenset(
    (
        "SAFETY", "RECITATION", "LANGUAGE", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "OTHER", "IMAGE_SAFETY",
        "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION", "IMAGE_OTHER", "NO_IMAGE", "MODEL_ARMOR", "ESCALATION",
    )
)  # fmt: skip
# The answer cannot be used: it never ends as if it were whole.
_FAILURES = frozenset(
    (
        "MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS", "MISSING_THOUGHT_SIGNATURE",
        "MALFORMED_RESPONSE", "PUP_LIMITED_DISABLED",
    )
)  # fmt: skip


def named(reason: str) -> Finish:
    """The end by its name alone, for an answer that is only passed on."""
    return _ENDS.get(reason, Finish.FILTER)


def decode(reason: str, message: str | None) -> tuple[Finish, str | None]:
    """The end, and what more is known of it. A reason that nobody here knows is no ordinary end. Raises RelayError
    where the model has failed."""
    if reason in _FAILURES:
        said = f"{reason}: {message}" if message else reason
        raise RelayError(Cause.UPSTREAM_ERROR, f"The provider's model failed ({said[:500]}).")
    if (found := _ENDS.get(reason)) is not None:
        return found, None
    return Finish.FILTER, f"{reason}: {message}" if message else reason


def encode(finish: Finish, note: str | None) -> tuple[str, str | None]:
    """`finishReason` and `finishMessage`."""
    match finish:
        case Finish.LENGTH | Finish.CONTEXT | Finish.PAUSE:
            return "MAX_TOKENS", None
        case Finish.FILTER:
            reason, _, message = (note or "").partition(": ")
            return (reason, message or None) if reason in _FILTERS else ("SAFETY", note)
    return "STOP", None
