"""The long forms: how much of each, and the figures that they leave behind.

`make soak` sets SOAK=1; without it tests marked `soak` are not even selected. A count is set by `SOAK_NAME=…`.
"""

import os

MINUTE = 60

_figures: list[tuple[str, str]] = []


def on() -> bool:
    return os.environ.get("SOAK") == "1"


def count(name: str, usual: int) -> int:
    """How many of something a long form does: `SOAK_<name>` in the environment, else as many as were promised."""
    return int(os.environ.get(f"SOAK_{name}", usual))


def note(what: str, figure: object) -> None:
    """A line for the table at the end of the run."""
    _figures.append((what, str(figure)))


def table() -> list[str]:
    width = max((len(what) for what, _ in _figures), default=0)
    return [f"{what:<{width}}  {figure}" for what, figure in _figures]
