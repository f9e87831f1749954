"""Processes of Python modules that find other people's modules imported already: most of what a server does until it is
ready.

They are forks of a process that has nothing of ours in it, no settings and no connection. From there on one is what the
same command would be: its own environment, log, signals and end.
"""

import atexit
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.kit.preload"])


def start(command: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> "Running":
    """Forks what `python -m` would run; begins any other command. Ctrl-C is for the tests, which end it themselves."""
    if command[:2] == [sys.executable, "-m"]:
        return Process(command[2], command[3:], env=env, cwd=cwd, log=log)
    with log.open("ab") as file:
        return subprocess.Popen(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=file, stderr=file, process_group=0
        )


class Process:
    """What is used of subprocess.Popen, for a module."""

    def __init__(self, module: str, arguments: Sequence[str], *, env: Mapping[str, str], cwd: Path, log: Path) -> None:
        given = (module, list(arguments), dict(env), str(cwd), str(log))
        self._process = _context.Process(target=_run, args=given, daemon=True)
        self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self._process.is_alive():
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def wait(self, timeout: float | None = None) -> int:
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("a forked process", timeout or 0)
        return self.returncode


Running = Process | subprocess.Popen[bytes]


def _run(module: str, arguments: list[str], env: dict[str, str], cwd: str, log: str) -> None:
    os.setpgid(0, 0)
    os.environ.clear()
    os.environ.update(env)
    os.chdir(cwd)
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    sys.argv = [module, *arguments]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        atexit._run_exitfuncs()  # the fork itself would end without them
