"""The matrix as a table, for whoever runs it."""

import contextlib
from collections import Counter
from collections.abc import Iterator

_passed: Counter[tuple[str, str]] = Counter()
_tried: Counter[tuple[str, str]] = Counter()
_failed: list[str] = []


@contextlib.contextmanager
def cell(client: str, upstream: str, case: str, *, stream: bool) -> Iterator[None]:
    """Counts what happens inside."""
    _tried[client, upstream] += 1
    try:
        yield
    except BaseException:
        _failed.append(f"{client} → {upstream}: {case}, {'streamed' if stream else 'whole'}")
        raise
    _passed[client, upstream] += 1


def lines() -> list[str]:
    """Rows are clients, columns upstreams: passed of tried."""
    if not _tried:
        return []
    clients = list(dict.fromkeys(client for client, _ in _tried))
    upstreams = list(dict.fromkeys(upstream for _, upstream in _tried))
    found = [f"{'client → upstream':<20}" + "".join(f"{name:>14}" for name in upstreams)]
    for client in clients:
        cells = [f"{_passed[client, name]}/{_tried[client, name]}" for name in upstreams]
        found.append(f"{client:<20}" + "".join(f"{cell:>14}" for cell in cells))
    passed, tried = sum(_passed.values()), sum(_tried.values())
    return [*found, f"{passed} of {tried}: {100 * passed / tried:.1f} %", *(f"failed: {line}" for line in _failed)]
