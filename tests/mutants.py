"""`make mutants`: how much of what somebody could break in the ledger's modules the tests would notice.

mutmut changes one thing at a time (a sign, a comparison, an argument, a condition), and runs the tests that come past
it in a fork. This harness gives all of those sessions one PostgreSQL and one migrated database of each kind; then it
prints each module's figures and whatever survived. `[tool.mutmut]` in pyproject.toml says what is changed and by what
it is tested. Results are kept in `mutants/`: a second run only looks at what has changed.

A mutant's time is out where it hangs; that counts as noticed, because a test that never ends is one that failed.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import django
from mutmut.stats import status_by_exit_code

ROOT = Path(__file__).resolve().parent.parent
MUTANTS = ROOT / "mutants"
AT_LEAST = 0.90
NOTICED = {"killed", "timeout", "segfault"}


def main() -> int:
    parser = argparse.ArgumentParser(prog="make mutants", description="Mutation testing of the ledger's modules.")
    parser.add_argument("patterns", nargs="*", help="only these mutants, tested again: 'billing.rules.*'")
    parser.add_argument("--fresh", action="store_true", help="forget what earlier runs have found")
    parser.add_argument("--survivors", action="store_true", help="test again what survived, and nothing else")
    parser.add_argument("--report", action="store_true", help="only print what earlier runs have found")
    parser.add_argument("--children", type=int, default=2, help="how many mutants are tested at a time")
    options = parser.parse_args()
    os.chdir(ROOT)
    if options.fresh:
        shutil.rmtree(MUTANTS, ignore_errors=True)
    patterns = options.patterns + (survivors() if options.survivors else [])
    if not options.report:
        run(patterns, children=options.children)
    return report()


def run(patterns: list[str], *, children: int) -> None:
    """One run of mutmut, with the services that its sessions share."""
    folder = tempfile.mkdtemp(prefix="pisces-mutants-")
    os.environ.update(DJANGO_SETTINGS_MODULE="tests.settings", VAR_DIR=folder, REQUIRE_SERVICES="1")
    django.setup()
    # Only now: these read the settings.
    from tests.kit import databases
    from tests.kit.services import Postgres, services

    postgres = services.used["postgres"] = Postgres(durable=False)
    try:
        shared = {"TEST_POSTGRES_PORT": str(postgres.port), "TEST_TEMPLATES": databases.prepared()}
        mutmut = str(Path(sys.executable).with_name("mutmut"))
        command = [mutmut, "run", "--max-children", str(children), *patterns]
        subprocess.run(command, env={**os.environ, **shared}, check=True)
    finally:
        services.stop()
        shutil.rmtree(folder, ignore_errors=True)


def results() -> dict[str, dict[str, str]]:
    """What became of each mutant, by module."""
    found = {}
    for path in sorted(MUTANTS.glob("billing/*.meta")):
        exit_codes = json.loads(path.read_text())["exit_code_by_key"]
        found[path.name.removesuffix(".py.meta")] = {
            name: status_by_exit_code[code] for name, code in exit_codes.items()
        }
    return found


def survivors() -> list[str]:
    return [name for module in results().values() for name, status in module.items() if status not in NOTICED]


def report() -> int:
    """Prints the figures; 1 where fewer than AT_LEAST of all mutants were noticed."""
    total: Counter[str] = Counter()
    print(f"{'module':<14}{'mutants':>8}{'killed':>8}{'timeout':>8}{'survived':>9}{'score':>8}")
    for module, mutants in results().items():
        if mutants:
            counted = Counter(mutants.values())
            total += counted
            print(_row(module, counted))
    print(_row("all", total))
    for name in survivors():
        print(name)
    return 0 if _score(total) >= AT_LEAST else 1


def _row(name: str, counted: Counter[str]) -> str:
    killed, late = counted["killed"] + counted["segfault"], counted["timeout"]
    rest = counted.total() - killed - late
    return f"{name:<14}{counted.total():>8}{killed:>8}{late:>8}{rest:>9}{_score(counted):>8.1%}"


def _score(counted: Counter[str]) -> float:
    return sum(counted[status] for status in NOTICED) / max(1, counted.total())


if __name__ == "__main__":
    sys.exit(main())
