"""`make test`: the whole suite, with every service that this machine has.

`python -m tests.run [pytest's arguments]`. Runs the tests in the order in which they stand (`--random` shuffles them),
two or more at a time, each process with a private PostgreSQL and Redis of its own; `-n 0` keeps to one, as whatever
looks closely at it does: the long forms, coverage, a debugger. Says what was used and what was left out; with
`REQUIRE_SERVICES=1` whatever is missing ends the run before its first test.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from portal import translations
from tests.kit import soak

ROOT = Path(__file__).resolve().parent.parent
MOST = 4


def main(arguments: list[str]) -> int:
    os.chdir(ROOT)
    os.environ["TEST_ALL_SERVICES"] = "1"
    # What pytest makes of the tests' files is kept for the other processes and the next run, wherever this runs.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    translations.compile_all([ROOT / "locale"])
    shuffled = "--random" in arguments
    passed_on = [argument for argument in arguments if argument != "--random"]
    folder = Path(tempfile.mkdtemp(prefix="pisces-prepared-"))
    try:
        _prepare(folder)
        return int(pytest.main([*_processes(arguments), *([] if shuffled else ["-p", "no:randomly"]), *passed_on]))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _prepare(folder: Path) -> None:
    """Migrates a database of each kind once, for all processes to copy. In a process of its own: what it imports pytest
    has to import itself."""
    shared = {"DJANGO_SETTINGS_MODULE": "tests.settings", "TEST_SHARED": str(folder)}
    command = [sys.executable, "-m", "tests.kit.preparing"]
    said = subprocess.run(command, env={**os.environ, **shared}, check=True, stdout=subprocess.PIPE, text=True).stdout
    os.environ.update(shared, **json.loads(said))


def _processes(arguments: list[str]) -> list[str]:
    """Tests wait more than they work, so there are two processes more than cores, up to four. Files keep their
    order: those of few long tests stand in the middle, and so nobody waits for one at the end."""
    alone = soak.on() or "coverage" in sys.modules or any(given.startswith("-n") for given in arguments)
    number = str(min(MOST, 2 + (os.cpu_count() or 1)))
    return [] if alone else ["-n", number, "--dist", "loadscope", "--no-loadscope-reorder"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
