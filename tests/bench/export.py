"""An export in a process of its own: prints rows, bytes, seconds, its peak memory in KiB, and what it added to that."""

import resource
import sys
import time

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
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()
    for part in parts:
        rows, size = rows + part.count("\n"), size + len(part)
    seconds = time.monotonic() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(rows, size, seconds, peak, peak - before)


if __name__ == "__main__":
    main(*sys.argv[1:])
