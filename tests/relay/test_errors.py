"""The one family of errors: what its answers tell a client to do."""

import pytest

from relay.errors import Cause, RelayError


@pytest.mark.parametrize(("seconds", "told"), [(0.1, b"1"), (1.0, b"1"), (2.4, b"3"), (60.097, b"61")])
def test_whoever_waits_as_long_as_it_is_told_has_waited_long_enough(seconds: float, told: bytes) -> None:
    error = RelayError(Cause.RATE_LIMITED, "Too many requests.", retry_after=seconds)
    assert (b"retry-after", told) in error.headers()
