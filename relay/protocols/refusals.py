"""What a provider's error status means for the caller (DESIGN, section 7): one policy for every protocol."""

import math
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any

from relay.errors import Cause, RelayError

LONGEST_WAIT = 3600.0  # seconds that a provider's Retry-After is heeded at most
USUAL_WAIT = 5.0  # seconds after a 429 that does not say how long


def of(
    status: int,
    text: str,
    *,
    param: str | None = None,
    provider: dict[str, Any] | None = None,
    retry_after: str | None = None,
) -> RelayError:
    """`text` is what the provider said, found by the protocol's own envelope. `provider` is kept for clients that match
    on it. `retry_after` is the header as it came."""
    if status in (400, 413, 422):
        return RelayError(Cause.UPSTREAM_REJECTED, text[:2000], status=status, param=param, provider=provider)
    if status == 429:
        return RelayError(
            Cause.RATE_LIMITED, f"The provider's rate limit is reached: {text[:500]}", retry_after=seconds(retry_after)
        )
    if status in (503, 529):
        return RelayError(
            Cause.UNAVAILABLE, f"The provider is overloaded: {text[:500]}", retry_after=seconds(retry_after)
        )
    if status in (401, 402, 403):
        return of_account(status)
    if status == 404:
        return RelayError(Cause.UPSTREAM_ERROR, "The provider does not know the model or the endpoint.")
    return RelayError(Cause.UPSTREAM_ERROR, f"The provider failed with status {status}: {text[:500]}")


def of_account(meant: int | None = None) -> RelayError:
    """Our credential, or the account behind it: refused (`meant` is 401), without money (402), forbidden (403); None
    where that is not certain enough to act on. What the provider says of it is not the caller's business."""
    return RelayError(Cause.UPSTREAM_ERROR, "The provider refused the gateway's credential.", meant=meant)


# What OpenAI, Anthropic and Google say of state that they have not given to this account, or not to this model.
_OF_STATE = re.compile(
    r"signature`? in `?thinking|thinking.*blocks.*cannot be modified|thought.?signature"
    r"|encrypted.content.*(?:could not be|was not issued)",
    re.IGNORECASE | re.DOTALL,
)


def is_of_state(error: RelayError) -> bool:
    """Whether the provider refused what it had once told a client to bring back: thoughts, signed or encrypted, that
    another account of ours or another model of its has written (pitfall 18)."""
    if error.cause is not Cause.UPSTREAM_REJECTED:
        return False
    code = (error.provider or {}).get("code")
    return code == "invalid_encrypted_content" or _OF_STATE.search(error.message) is not None


def seconds(header: str | None) -> float:
    """How long a `Retry-After` asks to wait, between a second and an hour; 5 where it says nothing of use."""
    wait = waiting(header, time.time())
    return USUAL_WAIT if wait is None else max(1.0, wait)


def waiting(header: str | None, now: float) -> float | None:
    """The seconds that a Retry-After asks for: a number or a date. None where it says nothing of use."""
    if not header:
        return None
    try:
        found = float(header)
    except ValueError:
        try:
            found = parsedate_to_datetime(header).timestamp() - now
        except (ValueError, TypeError, OverflowError):
            return None
    return min(LONGEST_WAIT, max(0.0, found)) if math.isfinite(found) else None
