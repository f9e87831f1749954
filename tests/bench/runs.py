"""Which loads a run consists of, and the bars that its figures are held against."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from tests.bench import durable, measure, table
from tests.bench.measure import Figures, Round
from tests.bench.stage import NAMES, Stage, Target
from tests.bench.table import Bar
from tests.bench.upstream import EVENTS

CALL = Bar("CPU × bare", 4, lambda figures: figures.ratio)
CHUNK = Bar("CPU × bare", 1.3, lambda figures: figures.ratio)
ERRORS = Bar("errors", 0, lambda figures: figures.errors)
MEMORY = Bar("KiB", 100, lambda figures: figures.memory / 1024)
TRANSLATED = Bar("CPU × passed", 2, lambda figures: figures.ratio)
MICROSECONDS = Bar("µs a chunk", 60, lambda figures: figures.cost * 1e6)
FIRST = Bar("first token later by ms", 2, lambda figures: figures.p50 * 1e3)
GAP = Bar("gap p99 × bare", 1.5, lambda figures: figures.late)


class Size(NamedTuple):
    """How many rounds of how many seconds; paced streams have a tenth of a second and a fiftieth between tokens."""

    calls: int
    streams: int
    held: int
    seconds: float
    length: int


FULL = Size(calls=5, streams=3, held=3, seconds=1.5, length=7)
QUICK = Size(calls=1, streams=1, held=1, seconds=0.4, length=4)
IN_FLIGHT = (1, 16, 64)
WARM, OTHER_WARM = "paced-10-20", "claude-10-20"
FLOWING, OTHER_FLOWING = "paced-50-20", "claude-50-20"  # a second of 50 tokens/s


def run(stage: Stage, size: Size, *, first_tokens_only: bool = False) -> None:
    """Prints the table's rows as they are found."""
    slow, fast = f"paced-{size.length * 10}-100", f"paced-{size.length * 50}-20"
    other = fast.replace("paced", "claude")
    ways = dict.fromkeys(("whole", "stream", "claude"), stage.static)
    paced = (WARM, OTHER_WARM, FLOWING, OTHER_FLOWING, slow, fast, other)
    stage.install(ways | dict.fromkeys(paced, stage.paced))
    table.head()
    if not first_tokens_only:
        _calls(stage, size)
        _held(stage, size, slow, 500, "500 held, 10 tokens/s each", (CHUNK,))
        _held(stage, size, fast, 1000, "1,000 held, 50 tokens/s each", (CHUNK, ERRORS, MEMORY, GAP))
        _translated(stage, size)
        _translated_streams(stage, size, other)
    _first_tokens(stage, size)
    _unavoidable(stage, size)


def _calls(stage: Stage, size: Size) -> None:
    with stage.targets(stage.static) as targets:
        for way, what, rounds in (
            ("whole", "Whole answers", size.calls),
            ("stream", f"Streams of {EVENTS} chunks", size.streams),
        ):
            for target in targets:
                measure.calls(target, way, connections=16, seconds=size.seconds)  # warm
            for connections in IN_FLIGHT:
                turn = partial(measure.calls, way=way, connections=connections, seconds=size.seconds)
                found = measure.in_turns([stage.direct(stage.static), *targets], rounds, turn)
                bars = (CALL,) if way == "whole" and connections == 64 else ()
                _print(what, f"{connections} in flight", found, streamed=way == "stream", bars=bars)


def _translated(stage: Stage, size: Size) -> None:
    """OpenAI's clients on Anthropic's channels, beside the same server's passed calls, which stand in the brackets."""
    with stage.targets(stage.static) as (_, *targets):
        for target in targets:
            pair = [target._replace(name="bare"), target]
            turn = partial(_either, measure.calls, "whole", "claude", connections=64, seconds=size.seconds)
            measure.in_turns(pair, 1, turn)  # warm
            found = measure.in_turns(pair, size.calls, turn)
            _print("Whole answers, translated", "64 in flight", found, streamed=False, bars=(TRANSLATED, ERRORS))


def _translated_streams(stage: Stage, size: Size, way: str) -> None:
    with stage.targets(stage.paced) as (_, *targets):
        for target in targets:
            pair = [target._replace(name="bare"), target]
            measure.calls(target, WARM, connections=20, seconds=0)
            measure.calls(target, OTHER_WARM, connections=20, seconds=0)
            passed = way.replace("claude", "paced")
            turn = partial(_either, measure.held, passed, way, streams=1000, length=size.length)
            found = measure.in_turns(pair, 1, turn)
            load = "1,000 held, 50 tokens/s each"
            _print("Paced streams, translated", load, found, streamed=True, bars=(MICROSECONDS, ERRORS))


def _first_tokens(stage: Stage, size: Size) -> None:
    """Of translated calls, beside the same server's passed ones; of fresh processes, which have held nothing before."""
    with stage.targets(stage.paced) as (_, *targets):
        for target in targets:
            measure.calls(target, WARM, connections=20, seconds=0)
            measure.calls(target, OTHER_WARM, connections=20, seconds=0)
            straight = [stage.direct(stage.paced), target._replace(name="bare"), target]
            turn = partial(_either, measure.first, FLOWING, OTHER_FLOWING, connections=64, seconds=2 * size.seconds)
            found = measure.in_turns(straight, size.calls, turn)
            _print("First tokens, translated", "64 in flight, 50 tokens/s", found, streamed=True, bars=(FIRST, ERRORS))


def _unavoidable(stage: Stage, size: Size) -> None:
    """What is in the delay of a first token whatever the gateway does: being a proxy, and one durable write."""
    with stage.targets(stage.paced) as (bare, *_):
        turn = partial(measure.first, way=FLOWING, connections=64, seconds=2 * size.seconds)
        found = measure.in_turns([stage.direct(stage.paced), bare], size.calls, turn)["bare"]
        table.times("First tokens, bare pass-through", "64 in flight, 50 tokens/s", found.p50, found.p99)
    for kind in stage.kinds:
        times = durable.writes(kind, int(100 * size.seconds))
        p50, p99 = measure.percentile(times, 0.5), measure.percentile(times, 0.99)
        table.times(f"Smallest durable write, {NAMES[kind]}", "alone, 50 a second", p50, p99)


def _either(measured: Callable[..., Round], passed: str, translated: str, target: Target, **load: Any) -> Round:
    """The passed call for the one whose figures stand in brackets and for the provider itself."""
    return measured(target, passed if target.name in ("bare", "direct") else translated, **load)


def _held(stage: Stage, size: Size, way: str, streams: int, load: str, bars: tuple[Bar, ...]) -> None:
    # Fresh processes, whose memory has not grown yet.
    with stage.targets(stage.paced) as targets:
        for target in targets:
            measure.calls(target, WARM, connections=20, seconds=0)  # one call on each
        turn = partial(measure.held, way=way, streams=streams, length=size.length)
        _print("Paced streams", load, measure.in_turns(targets, size.held, turn), streamed=True, bars=bars)


def _print(what: str, load: str, found: dict[str, Figures], *, streamed: bool, bars: tuple[Bar, ...]) -> None:
    bare = found.pop("bare")
    for name, figures in found.items():
        table.row(f"{what}, {name}", load, figures, bare, streamed=streamed, bars=bars)
