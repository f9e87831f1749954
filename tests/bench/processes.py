"""Starting, measuring and ending the processes of a benchmark. Linux only: CPU and memory come from /proc."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def start(
    arguments: list[str], *, port: int, env: dict[str, str] | None = None, **options: Any
) -> "subprocess.Popen[bytes]":
    """A child process that listens on `port`; returns once it does."""
    process = subprocess.Popen(arguments, env={**os.environ, **(env or {})}, **options)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"{arguments[:4]} ended with {process.returncode}")
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return process
        time.sleep(0.05)
    raise RuntimeError(f"{arguments[:4]} does not listen on {port}")


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


def cpu(pids: list[int]) -> float:
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
    """Resident bytes of the process tree, pages shared within it counted once for each (PSS where it can be read)."""
    total = 0
    for each in tree(pid):
        for line in Path(f"/proc/{each}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total
