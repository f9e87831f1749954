"""Which loads a run consists of, and the bars that its figures are held against."""

from functools import partial
from typing import NamedTuple

from tests.bench import measure, table
from tests.bench.measure import Figures
from tests.bench.stage import Stage
from tests.bench.table import Bar
from tests.bench.upstream import EVENTS

CALL = Bar("CPU × bare", 4, lambda figures: figures.ratio)
CHUNK = Bar("CPU × bare", 1.3, lambda figures: figures.ratio)
ERRORS = Bar("errors", 0, lambda figures: figures.errors)
MEMORY = Bar("KiB", 100, lambda figures: figures.memory / 1024)
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
WARM = "paced-10-20"


def run(stage: Stage, size: Size) -> None:
    """Prints the table's rows as they are found."""
    slow, fast = f"paced-{size.length * 10}-100", f"paced-{size.length * 50}-20"
    ways = dict.fromkeys(("whole", "stream"), stage.static) | dict.fromkeys((WARM, slow, fast), stage.paced)
    stage.install(ways)
    table.head()
    _calls(stage, size)
    _held(stage, size, slow, 500, "500 held, 10 tokens/s each", (CHUNK,))
    _held(stage, size, fast, 1000, "1,000 held, 50 tokens/s each", (CHUNK, ERRORS, MEMORY, GAP))


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
