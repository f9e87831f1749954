"""`make bench`: Pisces beside the bare pass-through of the same libraries, in one run, with the ledger on.

Prints one table, a row for each load and database: calls a second, CPU for each call over all processes, PostgreSQL's
too, and the latency that is added; for streams the CPU of a forwarded chunk, the memory of a held stream and the gaps
between its tokens. The bare pass-through's figure stands in brackets. Single times on a shared machine mean little; the
ratios are what counts. The load generator and the provider are not counted.
"""

import argparse
import os
import platform
import shutil
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
CALLS, QUICK_CALLS = 10_000_000, 50_000  # over which reports are measured


def main() -> int:
    parser = argparse.ArgumentParser(prog="make bench", description="Pisces beside a bare pass-through.")
    parser.add_argument("--quick", action="store_true", help="one short round of each: that it works, not how fast")
    parser.add_argument("--ledger", action="store_true", help="only the ledger's writer on one hot wallet")
    parser.add_argument("part", nargs="?", choices=["first", "reports"], help="only first tokens, or reports")
    parser.add_argument("--calls", type=int, help="over how many calls reports are measured")
    parser.add_argument("--explain", action="store_true", help="print the plans of slow queries of pages")
    chosen = parser.parse_args()
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda number, _: sys.exit(128 + number))
    with ExitStack() as stack:
        try:
            _run(stack, chosen)
        except KeyboardInterrupt:
            print("\nstopped", file=sys.stderr)
            return 130
        finally:
            # While the stack ends what was started, another Ctrl-C would leave some of it running.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    return 0


def _run(stack: ExitStack, chosen: argparse.Namespace) -> None:
    folder = Path(tempfile.mkdtemp(prefix="pisces-bench-"))
    stack.callback(shutil.rmtree, folder, ignore_errors=True)
    _settle_in(folder)
    # Only now: these read the settings.
    from tests.bench import ledger, reports, runs
    from tests.bench.stage import Stage

    quick: bool = chosen.quick
    calls = chosen.calls or (QUICK_CALLS if quick else CALLS)
    if chosen.part == "reports":
        print(_machine(), flush=True)
        reports.run(calls, explain=chosen.explain)
        return
    stage = Stage(stack, folder)
    print(_machine(), *stage.notes(), "", sep="\n", flush=True)
    if chosen.part == "first":
        runs.run(stage, runs.QUICK if quick else runs.FULL, first_tokens_only=True)
        return
    ledger.run(stage.kinds, quick=quick)  # before PostgreSQL has to clean up after other loads
    if not chosen.ledger:
        print(flush=True)
        runs.run(stage, runs.QUICK if quick else runs.FULL)
    if not chosen.ledger and "postgres" in stage.kinds:
        reports.run(calls, explain=chosen.explain)


def _settle_in(folder: Path) -> None:
    """The tests' settings for this process, with its files in `folder`; the kit works with them."""
    import django

    os.chdir(ROOT)
    os.environ.update(DJANGO_SETTINGS_MODULE="tests.settings", VAR_DIR=str(folder))
    django.setup()


def _machine() -> str:
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = names[0].partition(": ")[2] if names else platform.machine()
    return f"Machine:    {len(os.sched_getaffinity(0))} cores, {name}; Python {platform.python_version()}"


if __name__ == "__main__":
    sys.exit(main())
