"""`make test`: the whole suite in one process, with every service that this machine has.

`python -m tests.run [pytest's arguments]`. Starts a private PostgreSQL and Redis, compiles translations, runs the tests
in the order in which they stand (`--random` shuffles them), and says what was used and what was left out. With
`REQUIRE_SERVICES=1` whatever is missing ends the run before its first test.
"""

import os
import sys
from pathlib import Path

import pytest

from portal import translations

ROOT = Path(__file__).resolve().parent.parent


def main(arguments: list[str]) -> int:
    os.chdir(ROOT)
    os.environ["TEST_ALL_SERVICES"] = "1"
    translations.compile_all([ROOT / "locale"])
    shuffled = "--random" in arguments
    passed_on = [argument for argument in arguments if argument != "--random"]
    return int(pytest.main([*([] if shuffled else ["-p", "no:randomly"]), *passed_on]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
