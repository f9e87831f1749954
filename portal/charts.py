"""Geometry of charts that are drawn on the server: SVG in per cent, so that text keeps its size. Pure.

Values are integer nano-units; a coordinate is text such as `12.50%`, which no locale can change.
"""

from collections.abc import Sequence

import msgspec

TICKS = 5
SPARKS = 14


class Rect(msgspec.Struct, frozen=True):
    """`series` is the number of the colour, 0 for the rest."""

    series: int
    x: str
    y: str
    width: str
    height: str


class Bar(msgspec.Struct, frozen=True):
    title: str
    parts: tuple[Rect, ...]


class Mark(msgspec.Struct, frozen=True):
    """A label on an axis."""

    at: str
    text: str


class Stack(msgspec.Struct, frozen=True):
    """A stacked bar chart: bars from left to right, value marks from the bottom, time marks below."""

    bars: tuple[Bar, ...]
    values: tuple[tuple[str, int], ...]
    times: tuple[Mark, ...]


def percent(part: float) -> str:
    return f"{part:.2f}%"


def nice_step(most: int) -> int:
    """The smallest of 1, 2, 2.5, 5 times a power of ten that reaches `most` within the ticks."""
    power = 1
    while True:
        for step in (power, 2 * power, 5 * power // 2, 5 * power):
            if step > 0 and step * TICKS >= most:
                return step
        power *= 10


def decimals_of(step: int) -> int:
    """How many decimals labels need that are multiples of this many nano-units; none for whole units."""
    text = f"{step % 1_000_000_000:09d}".rstrip("0")
    return len(text) if len(text) != 1 else 2


def stack(columns: Sequence[tuple[str, Sequence[tuple[int, int]]]], times: Sequence[tuple[int, str]]) -> Stack:
    """`columns` are titles with `(series, value)` from the bottom up; `times` labels columns by their number."""
    most = max((sum(value for _, value in parts) for _, parts in columns), default=0)
    step = nice_step(max(1, most))
    lines = max(1, -(-most // step))
    top = step * lines
    slot = 100 / max(1, len(columns))
    bars = tuple(
        Bar(title, _parts(parts, left=slot * number + slot * 0.16, width=slot * 0.68, top=top))
        for number, (title, parts) in enumerate(columns)
    )
    values = tuple((percent(100 - 100 * number / lines), step * number) for number in range(lines + 1))
    marks = tuple(Mark(percent(slot * (number + 0.5)), text) for number, text in times)
    return Stack(bars, values, marks)


def _parts(parts: Sequence[tuple[int, int]], *, left: float, width: float, top: int) -> tuple[Rect, ...]:
    found, below = [], 0
    for series, value in parts:
        if value:
            below += value
            height = 100 * value / top
            found.append(Rect(series, percent(left), percent(100 - 100 * below / top), percent(width), percent(height)))
    return tuple(found)


def spark(values: Sequence[float]) -> tuple[Rect, ...]:
    """The last values as small bars, the current one marked by series 1. Empty where there is nothing to see."""
    shown = list(values)[-SPARKS:]
    most = max(shown, default=0)
    if most <= 0 or len(shown) < 2:
        return ()
    slot = 100 / SPARKS
    first = SPARKS - len(shown)
    return tuple(
        Rect(
            1 if number == len(shown) - 1 else 0,
            percent(slot * (first + number)),
            percent(100 - 100 * value / most),
            percent(slot * 0.66),
            percent(100 * value / most),
        )
        for number, value in enumerate(shown)
    )
