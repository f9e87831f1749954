"""What Google says of an error beside its text (google.rpc.Status as JSON), at the Gemini API's own address and at the
one where it speaks as OpenAI does. Pure.

Source: Gemini API, "Troubleshooting"; google.rpc.ErrorInfo, BadRequest and RetryInfo.
"""

import re
from collections.abc import Sequence

import msgspec

from relay.errors import Cause, RelayError
from relay.protocols import refusals


class Violation(msgspec.Struct):
    field: str = ""


class Detail(msgspec.Struct):
    """One of an error's `details`, whichever it is."""

    reason: str = ""
    retryDelay: str = ""
    fieldViolations: list[Violation] = msgspec.field(default_factory=list)


_decoder = msgspec.json.Decoder(list[Detail])
# A 400 that begins so is about the account behind the channel, not about the request. Only that it begins so says it:
# further on, and where a field is named, Google quotes the request.
_OURS = re.compile(
    r"api key (?:not|expired)|user location is not supported|gemini api free tier is not available", re.IGNORECASE
)
# A 403 that begins so is about a file that the request names: files are those of one project, and whoever names one of
# another project's, or none at all, is told this (googleapis/python-genai#1218).
_FILE = "You do not have permission to access the File"


def details(raw: msgspec.Raw) -> list[Detail]:
    """None of what cannot be read."""
    try:
        return _decoder.decode(raw) if bytes(raw) else []
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return []


def of_account(status: int, text: str, found: Sequence[Detail]) -> RelayError | None:
    """What a 400 means that is about our account there, or a 403 that is not; None for any other error."""
    if status == 403 and text.startswith(_FILE):
        return RelayError(Cause.UPSTREAM_ERROR, "The provider does not know a file that the request names.", meant=404)
    if status == 400 and any(one.reason == "API_KEY_INVALID" for one in found):
        return refusals.of_account(401)  # Google says 400 where others say 401 or 403
    if status == 400 and not any(one.fieldViolations for one in found) and _OURS.match(text):
        return refusals.of_account()  # not certain enough to disable a credential
    return None


def delay(found: Sequence[Detail]) -> str | None:
    """How long to wait, as a `Retry-After` would say it: Google sends none."""
    return next((one.retryDelay.removesuffix("s") for one in found if one.retryDelay), None)
