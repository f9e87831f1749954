"""Three hundred ways for an upstream to end badly, and what each costs: the one table (`all_endings`).

What a call costs is one of four things:

- `Reported(amount)`: the provider's own usage, whatever else went wrong;
- `COUNTED`: it gave no usage that makes sense, so what was seen was counted, at most what was held;
- `FREE`: there was no output, or no answer that could be told from an error;
- and whether the client got a whole answer is told apart from that.
"""

import asyncio
import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from tests.kit import scripts
from tests.kit.upstream import Exchange, Script

COST = 200_000  # of scripts.USAGE: 100 tokens in at 1,000 nano-units, 50 out at 2,000
WORDS = len(scripts.WORDS)
FINISHED = WORDS + 2  # events of a usual stream up to the finish, and with it
USED = FINISHED + 1  # and with usage


class Price(NamedTuple):
    """What a call costs. `amount` is None where it is counted."""

    source: str
    amount: int | None = 0


class Ending(NamedTuple):
    """`whole` says whether the client gets an answer that is complete. `model` may have short timeouts."""

    name: str
    script: Script
    streamed: bool
    price: Price
    whole: bool
    model: str = "chat"
    include_usage: bool = False


def reported(amount: int = COST) -> Price:
    return Price("reported", amount)


COUNTED = Price("counted", None)
FREE = Price("none")

# ---- usage ----------------------------------------------------------------------------------------------------------

_GOOD = scripts.USAGE
_ABSENT = object()
USAGES: dict[str, tuple[Any, Price]] = {
    "missing": (_ABSENT, COUNTED),
    "null": (None, COUNTED),
    "zero": ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, reported(0)),
    "empty": ({}, COUNTED),
    "a text": ("150", COUNTED),
    "a number": (150, COUNTED),
    "a list": ([100, 50], COUNTED),
    "true": (True, COUNTED),
    "numbers as texts": ({**_GOOD, "prompt_tokens": "100", "completion_tokens": "50"}, COUNTED),
    "negative in": ({**_GOOD, "prompt_tokens": -1}, COUNTED),
    "negative out": ({**_GOOD, "completion_tokens": -50}, COUNTED),
    "a broken float": ({**_GOOD, "prompt_tokens": 100.5}, COUNTED),
    "a whole float": ({**_GOOD, "prompt_tokens": 100.0}, COUNTED),
    "huge": ({**_GOOD, "prompt_tokens": 2**40}, COUNTED),
    "beyond 64 bits": ({**_GOOD, "completion_tokens": 10**30}, COUNTED),
    "true as a number": ({**_GOOD, "prompt_tokens": True}, COUNTED),
    "no input": ({"completion_tokens": 50, "total_tokens": 150}, COUNTED),
    "no output": ({"prompt_tokens": 100, "total_tokens": 150}, COUNTED),
    "null input": ({**_GOOD, "prompt_tokens": None}, COUNTED),
    "null output": ({**_GOOD, "completion_tokens": None}, COUNTED),
    "only a total": ({"total_tokens": 150}, COUNTED),
    "a total that is no sum": ({**_GOOD, "total_tokens": 7}, reported()),
    "unknown fields": ({**_GOOD, "queue_time": 0.3, "details": [{"deep": {"er": [1]}}]}, reported()),
    "details of another type": ({**_GOOD, "prompt_tokens_details": "cached"}, COUNTED),
    "details null": ({**_GOOD, "prompt_tokens_details": None, "completion_tokens_details": None}, reported()),
    "cached": ({**_GOOD, "prompt_tokens_details": {"cached_tokens": 40}}, reported(COST - 40 * 500)),
    "cached beyond the input": ({**_GOOD, "prompt_tokens_details": {"cached_tokens": 4000}}, reported(150_000)),
    "cached negative": ({**_GOOD, "prompt_tokens_details": {"cached_tokens": -1}}, COUNTED),
    "reasoning beyond the output": (
        {**_GOOD, "completion_tokens_details": {"reasoning_tokens": 999}}, reported(),
    ),
    "nested": ({**_GOOD, "prompt_tokens": {"value": 100}}, COUNTED),
}  # fmt: skip


def _usage_endings() -> Iterator[Ending]:
    for name, (usage, price) in USAGES.items():
        extra = {} if usage is _ABSENT else {"usage": usage}
        yield Ending(f"usage {name}", _whole(extra), False, price, True)
        for include in (False, True):
            end = [] if usage is _ABSENT else [_used(usage)]
            yield Ending(
                f"usage {name}, at the end", _events(_words(), _finish(), *end, scripts.DONE), True, price, True,
                include_usage=include,
            )  # fmt: skip
        if usage is not _ABSENT:
            on_finish = lambda model, usage=usage: scripts.event(scripts.delta(model, {}, "stop", usage=usage))  # noqa: E731
            yield Ending(f"usage {name}, on the finish", _events(_words(), on_finish, scripts.DONE), True, price, True)
            yield Ending(
                f"usage {name}, then a good one",
                _events(_words(), _finish(), _used(usage), _used(_GOOD), scripts.DONE), True, reported(), True,
            )  # fmt: skip
            # The last one that makes sense counts.
            later = reported() if price is COUNTED else price
            yield Ending(
                f"a good usage, then {name}",
                _events(_words(), _finish(), _used(_GOOD), _used(usage), scripts.DONE), True, later, True,
            )  # fmt: skip


def _late_usage() -> Iterator[Ending]:
    yield Ending("usage after [DONE]", _events(_words(), _finish(), scripts.DONE, _used(_GOOD)), True, COUNTED, True)
    soon = _paced([_words(), _finish(), 0.7, _used(_GOOD), scripts.DONE])
    yield Ending("usage late, but not too late", soon, True, reported(), True)
    late = _paced([_words(), _finish(), 2.6, _used(_GOOD), scripts.DONE])
    yield Ending("usage later than anybody waits", late, True, COUNTED, True)


# ---- breaking off ---------------------------------------------------------------------------------------------------


def _seen(events: int) -> Price:
    """The price of a stream of which so many events have come."""
    if events >= USED:
        return reported()
    return COUNTED if events >= 2 else FREE  # the first one has no text


def _cuts() -> Iterator[Ending]:
    """Broken off, or ended as if all were well, after each event."""
    for include in (False, True):
        for events in range(USED + 2):
            whole = events > USED
            yield Ending(
                f"cut after {events} events", scripts.cut(events), True, _seen(events), whole, include_usage=include
            )
            price = _seen(events)
            yield Ending(
                f"a clean end after {events} events", scripts.cut(events, clean=True), True, price,
                events >= FINISHED, include_usage=include,
            )  # fmt: skip
            yield Ending(
                f"silent after {events} events", scripts.stalling_after(events), True, price, events >= FINISHED,
                model="impatient", include_usage=include,
            )  # fmt: skip


_TROUBLE: dict[str, bytes] = {
    "half an event": b'data: {"choices": [{"del\n\n',
    "a number": b"data: 5\n\n",
    "a list": b"data: []\n\n",
    "a text": b'data: "hello"\n\n',
    "choices of another type": b'data: {"choices": 7}\n\n',
    "bytes that are no text": b'data: {"id": "\xff\xfe"}\n\n',
    "an error object": scripts.event({"error": {"message": "overloaded", "code": 503}}),
    "an error text": scripts.event({"error": "overloaded"}),
    "NaN": b'data: {"choices": [], "usage": {"prompt_tokens": NaN}}\n\n',
    "a page": b"data: <html><body>502</body></html>\n\n",
}


def _troubles() -> Iterator[Ending]:
    """Something that is no chunk after each event."""
    for name, trouble in _TROUBLE.items():
        for events in range(USED + 1):
            yield Ending(
                f"{name} after {events} events", _events(_first(events), trouble, scripts.DONE), True, _seen(events),
                False,
            )  # fmt: skip


# ---- whole answers --------------------------------------------------------------------------------------------------


def _whole_endings() -> Iterator[Ending]:
    for share in range(10):
        yield Ending(f"a body cut at {share} tenths", _cut_body(share / 10), False, FREE, False)
        yield Ending(
            f"a body silent at {share} tenths", _cut_body(share / 10, silent=True), False, FREE, False, "impatient"
        )
    message = {"role": "assistant", "content": "Hello, world."}
    for name, extra, price, whole in (
        ("an error beside choices", {"error": {"message": "no"}}, FREE, False),
        ("an error that is null", {"error": None}, reported(), True),
        ("an error that is a text", {"error": "no"}, FREE, False),
        ("no choices", {"choices": []}, FREE, False),
        ("choices null", {"choices": None}, FREE, False),
        ("a choice without a message", {"choices": [{"index": 0, "finish_reason": "stop"}]}, reported(), True),
        ("no finish reason", {"choices": [{"index": 0, "message": message}]}, reported(), True),
        ("content null", {"choices": [{"message": {"content": None}, "finish_reason": "stop"}]}, reported(), True),
        ("an id of another type", {"id": 5}, FREE, False),
        ("no text and no usage", {"choices": [{"message": {"content": ""}}], "usage": None}, COUNTED, True),
    ):
        yield Ending(name, _whole({"usage": _GOOD, **extra}), False, price, whole)
    for name, body in (
        ("nothing", b""), ("spaces", b"   "), ("null", b"null"), ("a list", b"[]"), ("a number", b"1"),
        ("a page", b"<html>"),
        ("two answers", b"{}{}"), ("bytes that are no text", b'{"id": "\xff"}'), ("a lone brace", b"{"),
        ("nested without end", b'{"choices":' + b"[" * 100_000),
    ):  # fmt: skip
        yield Ending(f"{name} in a 200", scripts.body(body), False, FREE, False)
        yield Ending(f"{name} in a 200, to a stream", scripts.body(body), True, FREE, False)


def _types() -> Iterator[Ending]:
    """What a provider says that it sends does not matter; what it sends does."""
    for kind in ("text/html", "text/plain; charset=latin-1", "application/octet-stream", "", "image/png", "nonsense"):
        headers = {"Content-Type": kind}
        yield Ending(f"a whole answer as {kind!r}", _whole({"usage": _GOOD}, headers), False, reported(), True)
        yield Ending(f"a stream as {kind!r}", _stream_as(kind), True, reported(), True)
    yield Ending("a stream where a whole answer was asked for", scripts.stream(), False, FREE, False)
    yield Ending("a whole answer where a stream was asked for", _whole({"usage": _GOOD}), True, FREE, False)


def _statuses() -> Iterator[Ending]:
    for status in (201, 204, 206, 302, 304, 400, 401, 402, 403, 404, 408, 409, 418, 429, 451, 500, 502, 503, 504, 529):
        for streamed in (False, True):
            yield Ending(f"status {status}", scripts.error(status), streamed, FREE, False)


def _nothing() -> Iterator[Ending]:
    for streamed in (False, True):
        yield Ending("a hang-up", scripts.hang_up, streamed, FREE, False)
        yield Ending("noise", scripts.noise, streamed, FREE, False)
        yield Ending("silence", scripts.silence, streamed, FREE, False, "impatient")


def all_endings() -> list[Ending]:
    return [
        *_usage_endings(), *_late_usage(), *_cuts(), *_troubles(), *_whole_endings(), *_types(), *_statuses(),
        *_nothing(),
    ]  # fmt: skip


# ---- how they are played --------------------------------------------------------------------------------------------

Piece = bytes | float | Callable[[str], bytes]


def _words() -> Callable[[str], bytes]:
    return _first(WORDS + 1)


def _first(events: int) -> Callable[[str], bytes]:
    return lambda model: b"".join(scripts.chunks(model)[:events])


def _finish() -> Callable[[str], bytes]:
    return lambda model: scripts.event(scripts.delta(model, {}, "stop"))


def _used(usage: Any) -> Callable[[str], bytes]:
    return lambda model: scripts.event(scripts.usage_chunk(model, usage))


def _events(*pieces: Piece) -> Script:
    return _paced(list(pieces))


def _paced(pieces: Sequence[Piece]) -> Script:
    """Bytes one after another, numbers are seconds between them."""

    async def script(exchange: Exchange) -> None:
        await exchange.head(200, scripts.SSE)
        for piece in pieces:
            if isinstance(piece, float):
                await asyncio.sleep(piece)
            elif data := piece if isinstance(piece, bytes) else piece(exchange.json["model"]):
                await exchange.chunk(data)
        await exchange.write(b"0\r\n\r\n")

    return script


def _whole(extra: dict[str, Any], headers: dict[str, str] | None = None) -> Script:
    async def script(exchange: Exchange) -> None:
        content = scripts.completion(exchange.json["model"])
        del content["usage"]
        await exchange.answer(200, json.dumps({**content, **extra}).encode(), headers)

    return script


def _cut_body(share: float, *, silent: bool = False) -> Script:
    async def script(exchange: Exchange) -> None:
        content = json.dumps(scripts.completion(exchange.json["model"])).encode()
        await exchange.head(200, {"Content-Type": "application/json", "Content-Length": str(len(content))})
        await exchange.write(content[: int(len(content) * share)])
        if silent:
            await asyncio.sleep(3600)
        exchange.abort()

    return script


def _stream_as(kind: str) -> Script:
    async def script(exchange: Exchange) -> None:
        await exchange.head(200, {"Transfer-Encoding": "chunked", **({"Content-Type": kind} if kind else {})})
        for data in scripts.chunks(exchange.json["model"]):
            await exchange.chunk(data)
        await exchange.write(b"0\r\n\r\n")

    return script
