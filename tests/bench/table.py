"""The table that a run prints: Markdown, to be pasted. The bare pass-through's figures stand in brackets."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from tests.bench.measure import Figures

COLUMNS = {
    "What": 34,
    "Load": 28,
    "Calls/s": 15,
    "CPU ms/call, µs/chunk": 21,
    "× bare": 6,
    "Added or gap p50 ms": 19,
    "p99 ms": 19,
    "KiB/stream": 11,
    "Bars": 0,
}


class Bar(NamedTuple):
    """A figure that was promised to be no more than `limit`."""

    label: str
    limit: float
    of: Callable[[Figures], float]

    def verdict(self, figures: Figures) -> str:
        found = self.of(figures)
        return f"{self.label} ≤ {self.limit:g}: " + ("pass" if found <= self.limit else f"over ({found:.4g})")


def head() -> None:
    _line(list(COLUMNS))
    print("|" + " --- |" * len(COLUMNS), flush=True)


def row(what: str, load: str, figures: Figures, bare: Figures, *, streamed: bool, bars: Sequence[Bar]) -> None:
    """`streamed`: the cost is that of a chunk. What was not measured is left out: calls a second, memory, the cost."""
    scale, digits = (1e6, 2) if streamed else (1e3, 3)
    costs = not math.isnan(figures.cost)
    verdicts = [bar.verdict(figures) for bar in bars]
    if figures.errors or bare.errors:
        verdicts.append(f"errors: {figures.errors} (bare {bare.errors})")
    _line([
        what,
        load,
        _pair(figures.rate, bare.rate, 0) if figures.rate else "",
        _pair(figures.cost * scale, bare.cost * scale, digits) if costs else "",
        f"{figures.ratio:.2f}" if costs else "",
        _pair(figures.p50 * 1e3, bare.p50 * 1e3, 2),
        _pair(figures.p99 * 1e3, bare.p99 * 1e3, 2),
        _pair(figures.memory / 1024, bare.memory / 1024, 0) if figures.memory else "",
        "; ".join(verdicts),
    ])  # fmt: skip


def times(what: str, load: str, p50: float, p99: float) -> None:
    """A row of seconds alone, beside which nothing stands."""
    _line([what, load, "", "", "", f"{p50 * 1e3:.2f}", f"{p99 * 1e3:.2f}", "", ""])


def _pair(own: float, bare: float, digits: int) -> str:
    return f"{own:,.{digits}f} ({bare:,.{digits}f})"


def _line(cells: Sequence[str]) -> None:
    padded = [cell.ljust(width) for cell, width in zip(cells, COLUMNS.values(), strict=True)]
    print("| " + " | ".join(padded) + " |", flush=True)
