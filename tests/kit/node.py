"""Node with the official SDKs, whose versions are pinned in `tests/e2e/node/package-lock.json`."""

import fcntl
import subprocess
from pathlib import Path

from tests.kit.services import services

FOLDER = Path(__file__).parent.parent / "e2e" / "node"


def program() -> str:
    """Node's program. The SDKs are installed first, by one process at a time."""
    npm, found = services.get("npm"), services.get("node")
    with (FOLDER / "package.json").open() as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        _install(npm.path)
    return str(found.path)


def _install(npm: str) -> None:
    installed = FOLDER / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= (FOLDER / "package-lock.json").stat().st_mtime:
        return
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=FOLDER, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
