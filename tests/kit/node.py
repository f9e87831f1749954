"""Node with the official SDKs, whose versions are pinned in a `package-lock.json` beside the scripts that use them."""

import fcntl
import subprocess
from pathlib import Path

from tests.kit.services import services

FOLDER = Path(__file__).parent.parent / "e2e" / "node"


def program(folder: Path = FOLDER) -> str:
    """Node's program. The folder's packages are installed first, by one process at a time."""
    npm, found = services.get("npm"), services.get("node")
    with (folder / "package.json").open() as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        _install(npm.path, folder)
    return str(found.path)


def _install(npm: str, folder: Path) -> None:
    installed = folder / "node_modules" / ".package-lock.json"
    if installed.exists() and installed.stat().st_mtime >= (folder / "package-lock.json").stat().st_mtime:
        return
    command = [npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
