"""What callers are told of their limits, in the words of each protocol."""

import datetime as dt

import pytest

from keys import rates
from keys.limits import headers
from keys.rates import Owner, Reading

NOW = dt.datetime(2026, 11, 21, 10, 0, 0, 500_000, tzinfo=dt.UTC)


def readings(owner: Owner, used: int, reset: float = 59.2, **most: int) -> list[Reading]:
    scope = rates.scope(owner, 1, **most)
    assert scope is not None
    return [Reading(limit, used, 0.0, reset) for limit in scope.limits]


def told(protocol: str, found: list[Reading]) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in headers.of(protocol, found, now=NOW)}


@pytest.mark.parametrize("protocol", ["openai", "responses", "completions"])
def test_openai_has_the_limit_what_remains_and_how_long_until_all_is_back(protocol: str) -> None:
    assert told(protocol, readings(Owner.KEY, 45, rpm=60, tpm=40)) == {
        "x-ratelimit-limit-requests": "60",
        "x-ratelimit-remaining-requests": "15",
        "x-ratelimit-reset-requests": "59.2s",
        "x-ratelimit-limit-tokens": "40",
        "x-ratelimit-remaining-tokens": "0",
        "x-ratelimit-reset-tokens": "59.2s",
    }


def test_anthropic_has_moments_and_says_the_same_of_the_prompt() -> None:
    reset = "2026-11-21T10:01:00Z"
    assert told("anthropic", readings(Owner.TEAM, 1, rpm=60, tpm=1000)) == {
        "anthropic-ratelimit-requests-limit": "60",
        "anthropic-ratelimit-requests-remaining": "59",
        "anthropic-ratelimit-requests-reset": reset,
        "anthropic-ratelimit-tokens-limit": "1000",
        "anthropic-ratelimit-tokens-remaining": "999",
        "anthropic-ratelimit-tokens-reset": reset,
        "anthropic-ratelimit-input-tokens-limit": "1000",
        "anthropic-ratelimit-input-tokens-remaining": "999",
        "anthropic-ratelimit-input-tokens-reset": reset,
    }


def test_the_limit_that_leaves_least_is_told_and_a_channels_never() -> None:
    key, team = readings(Owner.KEY, 10, rpm=60), readings(Owner.TEAM, 95, rpm=100)
    channel = readings(Owner.CHANNEL, 5, rpm=5, tpm=5)
    found = told("openai", key + team + channel)
    assert (found["x-ratelimit-limit-requests"], found["x-ratelimit-remaining-requests"]) == ("100", "5")
    assert "x-ratelimit-limit-tokens" not in found
    assert told("openai", channel) == {}


def test_gemini_has_no_headers_and_parallel_calls_have_none_anywhere() -> None:
    assert told("gemini", readings(Owner.KEY, 1, rpm=60)) == {}
    for protocol in ("openai", "anthropic"):
        assert told(protocol, readings(Owner.KEY, 1, parallel=60)) == {}


@pytest.mark.parametrize(("seconds", "header"), [(0.2, b"1"), (3.0, b"3"), (59.0001, b"60")])
def test_waiting_as_long_as_is_told_is_never_too_short(seconds: float, header: bytes) -> None:
    assert headers.retry_after(seconds) == [(b"retry-after", header)]


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.0, "0s"), (0.02, "20ms"), (0.9991, "1s"), (8.64, "8.64s"), (60.0, "1m0s"), (60.25, "1m0.25s"), (366, "6m6s")],
)
def test_durations_are_written_as_openai_writes_them(seconds: float, written: str) -> None:
    assert headers.duration(seconds) == written


def test_a_channels_limit_stays_a_secret() -> None:
    (limit,) = [reading.limit for reading in readings(Owner.CHANNEL, 1, rpm=12345)]
    assert "12" not in headers.message(limit)
