"""The one family of errors: what its answers tell a client to do."""

from typing import Any

import pytest

from relay.errors import Cause, RelayError
from relay.protocols import refusals


@pytest.mark.parametrize(("seconds", "told"), [(0.1, b"1"), (1.0, b"1"), (2.4, b"3"), (60.097, b"61")])
def test_whoever_waits_as_long_as_it_is_told_has_waited_long_enough(seconds: float, told: bytes) -> None:
    error = RelayError(Cause.RATE_LIMITED, "Too many requests.", retry_after=seconds)
    assert (b"retry-after", told) in error.headers()


@pytest.mark.parametrize(
    ("text", "provider"),
    [
        ("The encrypted content gAAA...== could not be verified.", {}),
        ("The encrypted content for item rs_1 could not be verified. Reason: it could not be parsed.", {}),
        ("reasoning `encrypted_content` was not issued to this caller", {}),
        ("no reason given", {"code": "invalid_encrypted_content"}),
        ("messages.1.content.0: Invalid `signature` in `thinking` block", {}),
        ("messages.1.content.0: Invalid signature in thinking block", {}),
        ("messages.3: `thinking` or `redacted_thinking` blocks in the latest turn cannot be modified.", {}),
        ("Corrupted thought signature.", {}),
        ("Unable to submit request because Thought signature is not valid.. Learn more: x", {}),
        ("Function call is missing a thought_signature in functionCall parts.", {}),
    ],
)
def test_what_vendors_say_of_thoughts_that_they_cannot_read_is_known(text: str, provider: dict[str, Any]) -> None:
    assert refusals.is_of_state(refusals.of(400, text, provider=provider))
    assert not refusals.is_of_state(refusals.of(500, text, provider=provider))


@pytest.mark.parametrize(
    "text", ["Invalid signature.", "`thinking` is not supported by this model.", "The content could not be verified."]
)
def test_other_refusals_are_not_taken_for_it(text: str) -> None:
    assert not refusals.is_of_state(refusals.of(400, text))
