"""Makes the virtual environment: the locked dependencies, each checked against its hash. Standard library only.

A stamp in the environment remembers which locks are installed, so that the second time costs nothing. With
PISCES_PYTHON set, that interpreter is used as it is and nothing is installed.
"""

import hashlib
import os
import shutil
import subprocess
import sys
import time
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENT = ROOT / ".venv"
RUNTIME, DEVELOPMENT = "requirements.lock", "requirements-dev.lock"


class Failed(Exception):
    """What went wrong, for the person at the terminal."""


def python(*, development: bool = False) -> Path:
    """The interpreter that has the dependencies, installed now if they are not. Raises Failed."""
    if given := os.environ.get("PISCES_PYTHON"):
        if shutil.which(given) is None:
            raise Failed(f"PISCES_PYTHON={given} cannot be run. Give the path of a Python, or leave it out.")
        return Path(given)
    if sys.version_info < (3, 11):  # noqa: UP036 - whatever Python there is runs this file
        raise Failed(f"Python 3.11 or newer is needed; this is {sys.version.split()[0]}. Try: make PYTHON=python3.11")
    interpreter = ENVIRONMENT / "bin" / "python"
    lock = DEVELOPMENT if development else RUNTIME
    wanted = f"{lock} {_digest(lock)}"
    stamp = ENVIRONMENT / "pisces.stamp"
    installed = stamp.read_text().splitlines() if stamp.exists() else []
    if interpreter.exists() and wanted in installed:
        return interpreter
    began = time.monotonic()
    _say(f"installing {lock} into {ENVIRONMENT.name}/ …")
    if not interpreter.exists():
        _create()
    _install(interpreter, lock)
    # The development lock holds the whole runtime lock.
    lines = {wanted, f"{RUNTIME} {_digest(RUNTIME)}"} if development else {wanted}
    stamp.write_text("\n".join(sorted(lines)) + "\n")
    _say(f"installed in {time.monotonic() - began:.0f} s")
    return interpreter


def _create() -> None:
    try:
        venv.create(ENVIRONMENT, with_pip=True, clear=True)
    except (subprocess.CalledProcessError, ImportError) as error:
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        name = f"python{sys.version_info.major}.{sys.version_info.minor}-venv"
        raise Failed(
            f"This Python cannot make a virtual environment. On Debian or Ubuntu: apt install {name}"
        ) from error


def _install(interpreter: Path, lock: str) -> None:
    command = [str(interpreter), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input"]
    if subprocess.call([*command, "--require-hashes", "--requirement", str(ROOT / lock)]) != 0:
        raise Failed(f"The dependencies of {lock} could not be installed; pip says why above.")


def _digest(lock: str) -> str:
    return hashlib.sha256((ROOT / lock).read_bytes()).hexdigest()


def _say(text: str) -> None:
    print(f"pisces: {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    try:
        print(python(development="--dev" in sys.argv[1:]))
    except Failed as failure:
        sys.exit(f"pisces: {failure}")
