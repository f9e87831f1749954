"""Tokens where nobody reports them: bounds before a call, counts after one, what reports teach. Pure.

OpenAI's families are counted with their own vocabularies, all others from those with what their reports have taught
(`calibration`). Nothing here needs a network. Counting is done in threads unless the text is short; bytes stay the
first and fastest bound, because no vocabulary that falls back to bytes makes more tokens than there are bytes.
"""

import asyncio
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import structlog

from billing.usage import Usage
from relay.counting import families, prompt, tokenizer
from relay.counting.calibration import Side, reports
from relay.counting.output import Output
from relay.counting.prompt import Prompt

__all__ = ["Output", "Prompt", "estimate", "learn", "prompt_tokens", "tighter_bound", "usage", "warm"]

log = structlog.get_logger(__name__)

# Text that is counted at once on the event loop, in bytes: 50 microseconds of prose.
SHORT = 2048
# Calls that may wait to be compared, and the longest prompt that is worth it, in bytes.
_MOST_WAITING, _LONGEST_SAMPLE = 16, 1 << 18
# Bytes of a prompt that are counted for nothing but to see whether the money reaches.
_LONGEST_BOUND = 1 << 21
_room = threading.BoundedSemaphore(_MOST_WAITING)
_threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="counting")


class Asked(Protocol):
    """A decoded request of any protocol. `text_bytes` is the size of its text, `prompt` reads it."""

    @property
    def text_bytes(self) -> int: ...

    def prompt(self) -> Prompt: ...

    def input_bound(self, *upstream_models: str) -> int: ...


def warm(upstream_models: Iterable[str]) -> None:
    """Loads the vocabularies that these models need, which takes a moment: not for the event loop."""
    for vocabulary in {families.of(model).vocabulary for model in upstream_models}:
        tokenizer.warm(vocabulary)


def estimate(size: int, upstream_model: str = "") -> int:
    """Tokens that this many bytes of text most likely were, where the text itself is gone."""
    return reports.per_byte(upstream_model, size)


async def usage(asked: Asked, seen: Output | int, upstream_model: str) -> Usage:
    """What a call used that nobody reported: its prompt, and the output that was seen (or how many bytes of one, where
    no more is known). Thoughts that the upstream did not show are not in it."""
    waiting = seen.waiting if isinstance(seen, Output) else 0
    if asked.text_bytes + waiting <= SHORT and tokenizer.is_loaded(families.of(upstream_model).vocabulary):
        return _usage(asked, seen, upstream_model)
    return await asyncio.get_running_loop().run_in_executor(_threads, _usage, asked, seen, upstream_model)


def _usage(asked: Asked, seen: Output | int, model: str) -> Usage:
    put_out = seen.tokens(reports) if isinstance(seen, Output) else estimate(seen, model)
    searches = (seen.searches or None) if isinstance(seen, Output) else None
    if asked.text_bytes > prompt.LONGEST_TEXT:
        return Usage(input=estimate(asked.text_bytes, model), output=put_out, searches=searches)
    return Usage(input=prompt.count(asked.prompt(), model, reports), output=put_out, searches=searches)


async def prompt_tokens(asked: Asked, upstream_model: str) -> int:
    """The tokens of a prompt that the upstream most likely counts; by its bytes where it is too long to be counted."""
    if asked.text_bytes > prompt.LONGEST_TEXT:
        return estimate(asked.text_bytes, upstream_model)
    return await asyncio.get_running_loop().run_in_executor(_threads, _prompt_tokens, asked, upstream_model)


def _prompt_tokens(asked: Asked, model: str) -> int:
    return prompt.count(asked.prompt(), model, reports)


async def tighter_bound(asked: Asked, *upstream_models: str) -> int | None:
    """Input tokens that none of these models reports more than, found by counting; never above the bound by bytes.
    None for a prompt that is too long to be worth counting."""
    if asked.text_bytes > _LONGEST_BOUND:
        return None
    return await asyncio.get_running_loop().run_in_executor(_threads, _tighter, asked, upstream_models)


def _tighter(asked: Asked, models: tuple[str, ...]) -> int:
    read = asked.prompt()
    counted = max(prompt.bound(read, model, reports) for model in models)
    return min(counted, asked.input_bound(*models))


def learn(asked: Asked, seen: Callable[[], Output], upstream_model: str, reported: Usage) -> None:
    """Compares a complete answer's report with our count, for the first calls of a model and a few of the later ones.
    Costs the call an addition: the work is done in a thread, and left out where too much of it waits."""
    if not reports.wants(upstream_model) or asked.text_bytes > _LONGEST_SAMPLE:
        return
    if _room.acquire(blocking=False):
        _threads.submit(_learn, asked, seen, upstream_model, reported)


def _learn(asked: Asked, seen: Callable[[], Output], model: str, reported: Usage) -> None:
    try:
        _compare(asked.prompt(), seen(), model, reported)
    except Exception:  # the call has long been answered
        log.exception("counting.not_compared", model=model)
    finally:
        _room.release()


def _compare(read: Prompt, put_out: Output, model: str, reported: Usage) -> None:
    """Only what can be compared: text without tools and media, answers without calls and thoughts."""
    if read.plain:
        counted = prompt.baseline(read, families.of(model))
        reports.learn(model, Side.INPUT, counted, reported.tokens_in, wide=read.wide)
    if not (reported.reasoning or reported.audio_out or put_out.calls or put_out.thought):
        counted = put_out.baseline()
        reports.learn(model, Side.OUTPUT, counted, reported.tokens_out, wide=put_out.wide)
