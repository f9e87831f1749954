"""How each protocol tells its callers of limits: headers, and a message. Pure.

Sources: OpenAI's guide on rate limits (`x-ratelimit-*`, durations such as 1s or 6m0s), Anthropic's API reference on
rate limits (`anthropic-ratelimit-*`, times in RFC 3339).

A caller is told of its key's and its team's limits, and of each kind of the one that leaves the least. Limits of
channels are the operator's affair and never shown.
"""

import datetime as dt
from collections.abc import Callable, Iterable
from math import ceil

from keys.rates import Kind, Limit, Owner, Reading

Headers = list[tuple[bytes, bytes]]

_UNITS = {
    Kind.REQUESTS: "requests a minute",
    Kind.TOKENS: "tokens a minute",
    Kind.PARALLEL: "calls at once",
}


def of(protocol: str, readings: Iterable[Reading], *, now: dt.datetime | None = None) -> Headers:
    """The protocol's own rate headers; none for one that has none (Gemini), or where no minute is limited."""
    write = _WRITERS.get(protocol)
    if write is None:
        return []
    shown = [reading for reading in readings if reading.limit.owner is not Owner.CHANNEL]
    found: Headers = []
    for kind in (Kind.REQUESTS, Kind.TOKENS):
        if of_kind := [reading for reading in shown if reading.limit.kind is kind]:
            tightest = min(of_kind, key=lambda reading: (reading.remaining, reading.limit.most))
            found += write(kind.value, tightest, now)
    return found


def retry_after(seconds: float) -> Headers:
    """`Retry-After` in whole seconds, never too few."""
    return [(b"retry-after", b"%d" % max(1, ceil(seconds)))]


def message(limit: Limit) -> str:
    """What a caller that was refused is told. Of a channel's limit it learns only that there is one."""
    if limit.owner is Owner.CHANNEL:
        return "All providers of this model are busy."
    return f"The {limit.owner.value}'s limit of {limit.most:,} {_UNITS[limit.kind]} is reached."


def _openai(kind: str, reading: Reading, now: dt.datetime | None) -> Headers:
    values = {"limit": reading.limit.most, "remaining": reading.remaining, "reset": duration(reading.reset)}
    return [(f"x-ratelimit-{name}-{kind}".encode(), str(value).encode()) for name, value in values.items()]


def _anthropic(kind: str, reading: Reading, now: dt.datetime | None) -> Headers:
    """A limit on all tokens is one on the prompt's too, which is what some clients look for."""
    at = (now or dt.datetime.now(dt.UTC)) + dt.timedelta(seconds=ceil(reading.reset))
    values = {"limit": reading.limit.most, "remaining": reading.remaining, "reset": at.strftime("%Y-%m-%dT%H:%M:%SZ")}
    return [
        (f"anthropic-ratelimit-{what}-{name}".encode(), str(value).encode())
        for what in ((kind, "input-tokens") if kind == Kind.TOKENS else (kind,))
        for name, value in values.items()
    ]


_WRITERS: dict[str, Callable[[str, Reading, dt.datetime | None], Headers]] = {
    "openai": _openai,
    "completions": _openai,
    "responses": _openai,
    "anthropic": _anthropic,
}


def duration(seconds: float) -> str:
    """As OpenAI writes it: 20ms, 8.64s, 1m0.5s."""
    milliseconds = ceil(seconds * 1000)
    if 0 < milliseconds < 1000:
        return f"{milliseconds}ms"
    minutes, rest = divmod(milliseconds, 60_000)
    written = f"{rest / 1000:.3f}".rstrip("0").rstrip(".") + "s"
    return f"{minutes}m{written}" if minutes else written
