"""An export in a process of its own: prints rows, bytes, seconds, the process's peak memory while it went on in KiB,
and by how much that is above what was there before."""

import sys
import time
from pathlib import Path

import django
from django.utils import timezone


def main(what: str, team: str, days: str) -> None:
    django.setup()
    from portal import exports, periods
    from relay import selectors

    end = timezone.now()
    wanted = selectors.Wanted(team=int(team), start=end - int(days) * periods.DAY, end=end)
    grouped = exports.grouping(["hour", *exports.DIMENSIONS], "UTC")
    if what.startswith("sums"):
        end = end.replace(minute=0, second=0, microsecond=0)
        wanted = selectors.Wanted(team=int(team), start=end - int(days) * periods.DAY, end=end)
    parts = exports.sums(wanted, grouped) if what.startswith("sums") else exports.calls(wanted)
    rows, size = next(parts).count("\n"), 0
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before, began = _memory("VmRSS"), time.monotonic()
    for part in parts:
        rows, size = rows + part.count("\n"), size + len(part)
    seconds = time.monotonic() - began
    peak = _memory("VmHWM")
    print(rows, size, seconds, peak, peak - before)


def _memory(name: str) -> int:
    """KiB, from the kernel's own account."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


if __name__ == "__main__":
    main(*sys.argv[1:])
