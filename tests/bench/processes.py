"""Starting, measuring and ending the processes of a benchmark. Linux only: CPU and memory come from /proc."""

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.kit.ports import eventually

TICKS = os.sysconf("SC_CLK_TCK")


@contextmanager
def listening(command: Sequence[str], *, port: int, log: Path, env: dict[str, str] | None = None) -> Iterator[int]:
    """A child process that listens on `port`, from the moment it does to the end of the block. The value is its id."""
    with log.open("ab") as output:
        # A group of its own: Ctrl-C is for us, who end everything in order.
        process = subprocess.Popen(
            command,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            process_group=0,
        )

    def answers() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"{command[:4]} ended with {process.returncode}:\n{log.read_text()[-2000:]}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    try:
        eventually(answers, within=30, every=0.05)
        yield process.pid
    finally:
        stop(process)


def stop(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def python(module: str, *arguments: str) -> list[str]:
    return [sys.executable, "-m", module, *arguments]


def tree(pid: int) -> list[int]:
    """The process and all of its descendants."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in task.read_text().split():
            found.extend(tree(int(child)))
    return found


def cpu(pids: Sequence[int]) -> float:
    """CPU seconds that these process trees have used, those of ended children included."""
    total = 0
    for root in pids:
        for pid in tree(root):
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            except FileNotFoundError:
                continue
            total += sum(int(fields[i]) for i in (11, 12, 13, 14))
    return total / TICKS


def memory(pid: int) -> int:
    """Resident bytes of the process tree, pages shared within it counted once (PSS)."""
    total = 0
    for each in tree(pid):
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total
