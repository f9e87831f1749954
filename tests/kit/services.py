"""Private services of a test session: PostgreSQL and Redis on free ports, Node, PHP and Chromium as programs.

Each is started when a test first needs it and stopped, by its process id, when the session ends. What is missing is
named in the summary; with `REQUIRE_SERVICES=1` it is an error instead of a skipped test.
"""

import atexit
import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
import redis

from tests.kit.ports import free_port

STARTS_WITHIN = 30.0


class Missing(Exception):
    """The service cannot be had on this machine; the message says why."""


def required() -> bool:
    return os.environ.get("REQUIRE_SERVICES") == "1"


class Postgres:
    """A PostgreSQL of this session's own: no passwords, reachable on loopback only.

    Without `durable` it waits for no disk. It survives `kill -9` all the same, though not the end of the machine, and
    makes a database in a fourth of the time.
    """

    def __init__(self, *, durable: bool = False, data: Path | None = None) -> None:
        """Begins with a copy of `data`, the folder of one that was kept (`keep`), else empty."""
        self._durable = durable
        self._programs = _postgres_programs()
        self._folder = Path(tempfile.mkdtemp(prefix="pisces-postgres-"))
        self._user = _unprivileged_user()
        self.port = free_port()
        if self._user:
            shutil.chown(self._folder, self._user)
        if data is None:
            self._initialise()
        else:
            subprocess.run(["cp", "-a", data, self._folder / "data"], check=True)
        self._process = self._start()
        try:
            self.version = self._wait()
        except BaseException:
            self.stop()
            raise

    @property
    def pid(self) -> int:
        """The first of its processes; all others descend from it."""
        return self._process.pid

    def url(self, database: str) -> str:
        return f"postgres://postgres@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres") -> "psycopg.Connection[Any]":
        return psycopg.connect(self.url(database).replace("postgres://", "postgresql://"), autocommit=True)

    def execute(self, statement: str) -> None:
        with self.connect() as connection:
            connection.execute(statement.encode())

    def stop(self) -> None:
        _end(self._process, signal.SIGINT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def keep(self, data: Path) -> None:
        """Stops, and leaves its data in that folder."""
        _end(self._process, signal.SIGINT)
        subprocess.run(["cp", "-a", self._folder / "data", data], check=True)
        self.stop()

    def kill(self) -> None:
        """`kill -9` of the server and, before anything starts again, of all that it left behind."""
        family = [process for pid in _children(self._process.pid) if (process := _process(pid)) is not None]
        self._process.kill()
        self._process.wait()
        end = time.monotonic() + STARTS_WITHIN
        while left := [process for process in family if process.lives()]:  # they notice that the postmaster has gone
            assert time.monotonic() < end, f"outlived their server: {[process.describe() for process in left]}"
            time.sleep(0.02)

    def restart(self) -> None:
        """Starts again on the same folder and port after `kill`; returns when it takes connections."""
        self._process = self._start()
        self._wait()

    def _initialise(self) -> None:
        program, data = str(self._programs / "initdb"), str(self._folder / "data")
        command = [program, "-D", data, "-U", "postgres", "-A", "trust"]
        command += ["-E", "UTF8", "--locale=C", "--no-instructions"]
        done = subprocess.run(command, user=self._user, cwd=self._folder, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Missing(f"initdb failed: {done.stderr.strip()[-300:]}")

    def _start(self) -> "subprocess.Popen[bytes]":
        options = {
            "listen_addresses": "127.0.0.1",
            "port": self.port,
            "unix_socket_directories": self._folder,
            "fsync": "on" if self._durable else "off",
            "max_connections": 300,  # two hundred requests at once, each with a connection of its own
        }
        command: list[Any] = [self._programs / "postgres", "-D", self._folder / "data"]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        self.log = self._folder / "log"
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                user=self._user,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                process_group=0,  # Ctrl-C is for the tests, which still have databases to drop
            )

    def _wait(self) -> str:
        end = time.monotonic() + STARTS_WITHIN
        while True:
            try:
                with self.connect() as connection:
                    row = connection.execute("SHOW server_version").fetchone()
                    return str(row[0]) if row else ""
            except psycopg.OperationalError:
                if time.monotonic() > end or self._process.poll() is not None:
                    raise Missing(f"PostgreSQL did not start: {self.log.read_text()[-300:]}") from None
                time.sleep(0.05)


def _children(pid: int) -> list[int]:
    return [int(child) for task in Path(f"/proc/{pid}/task").glob("*/children") for child in task.read_text().split()]


class _Process(NamedTuple):
    """A process by its number and the tick in which it began: on a busy machine a number is soon somebody else's."""

    pid: int
    state: str
    began: int

    def lives(self) -> bool:
        """False also for a zombie, which only its parent has yet to notice."""
        found = _process(self.pid)
        return found is not None and found.began == self.began and found.state not in ("Z", "X")

    def describe(self) -> str:
        """For whoever has to find out what it waits for."""
        found = _process(self.pid)
        with contextlib.suppress(OSError):
            folder = Path(f"/proc/{self.pid}")
            title = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
            return f"{title} [{found.state if found else '?'}] {(folder / 'wchan').read_text()}"
        return f"{self.pid} has just ended"


def _process(pid: int) -> _Process | None:
    """None where there is none (proc(5), /proc/pid/stat)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return _Process(pid, fields[0], int(fields[19]))


class RunningPostgres(Postgres):
    """A PostgreSQL that somebody else has started on this port, and will stop."""

    def __init__(self, port: int) -> None:
        self.port = port
        with self.connect() as connection:
            self.version = connection.info.parameter_status("server_version") or ""

    def stop(self) -> None:
        """It is not ours."""


def _postgres() -> Postgres:
    """`TEST_POSTGRES_PORT` is for harnesses whose sessions are many and short (tests/mutants.py); `TEST_POSTGRES_DATA`
    is where one was kept that has the template already (tests/run.py)."""
    port, data = os.environ.get("TEST_POSTGRES_PORT"), os.environ.get("TEST_POSTGRES_DATA")
    return RunningPostgres(int(port)) if port else Postgres(data=Path(data) if data else None)


def _postgres_programs() -> Path:
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    for folder in reversed(versions):
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    on_path = shutil.which("initdb")
    if on_path and shutil.which("postgres"):
        return Path(on_path).parent
    raise Missing("no initdb and postgres under /usr/lib/postgresql or on PATH")


def _unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root; then it runs as somebody who owns nothing else."""
    if os.geteuid() != 0:
        return None
    import pwd

    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise Missing("the tests run as root, and there is neither a user postgres nor nobody to run PostgreSQL as")


class Redis:
    """A Redis of this session's own that writes nothing to disk."""

    def __init__(self) -> None:
        program = shutil.which("redis-server")
        if program is None:
            raise Missing("no redis-server on PATH")
        self.port = free_port()
        self._folder = tempfile.mkdtemp(prefix="pisces-redis-")
        self._command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self._process = self._start()
        self.version = self._wait()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def stop(self) -> None:
        _end(self._process, signal.SIGTERM)
        shutil.rmtree(self._folder, ignore_errors=True)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def restart(self) -> None:
        """Starts again, empty, on the same port."""
        self._process = self._start()
        self._wait()

    def _start(self) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            [*self._command, "--dir", self._folder], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
        )

    def _wait(self) -> str:
        end = time.monotonic() + STARTS_WITHIN
        with redis.Redis(port=self.port) as client:
            while True:
                try:
                    return str(client.info("server")["redis_version"])
                except redis.ConnectionError:
                    if time.monotonic() > end:
                        raise Missing("redis-server did not start") from None
                    time.sleep(0.05)


class Program:
    """A program that tests start themselves."""

    def __init__(self, *names: str) -> None:
        found = next((path for name in names if (path := shutil.which(name))), None)
        if found is None:
            raise Missing(f"no {' or '.join(names)} on PATH")
        self.path = found
        said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False, timeout=60)
        self.version = said.stdout.strip().partition("\n")[0]

    def stop(self) -> None:
        """Nothing runs."""


_KINDS: dict[str, Callable[[], Any]] = {
    "postgres": _postgres,
    "redis": Redis,
    "node": lambda: Program("node"),
    "npm": lambda: Program("npm"),
    "php": lambda: Program("php"),
    "chromium": lambda: Program("chromium", "chromium-browser", "google-chrome"),
}


class Services:
    """What of the outside world this session has used, and what it had to do without."""

    def __init__(self) -> None:
        self.used: dict[str, Any] = {}
        self.missing: dict[str, str] = {}

    def probe(self, name: str, make: Callable[[], Any] | None = None) -> bool:
        """Starts the service if it can be had, by `make` where the usual one will not do."""
        if name not in self.used and name not in self.missing:
            try:
                self.used[name] = (make or _KINDS[name])()
            except Missing as error:
                self.missing[name] = str(error)
        return name in self.used

    def start_all(self) -> None:
        for name in _KINDS:
            self.probe(name)

    def get(self, name: str) -> Any:
        """The running service. Skips the test where it is missing, fails it where services are required."""
        self.probe(name)
        if name in self.missing:
            reason = f"{name} is missing: {self.missing[name]}"
            if required():
                pytest.fail(reason)
            pytest.skip(reason)
        return self.used[name]

    @property
    def postgres(self) -> Postgres:
        found: Postgres = self.get("postgres")
        return found

    def stop(self) -> None:
        while self.used:
            _, service = self.used.popitem()
            service.stop()

    def report(self) -> list[str]:
        lines = [f"used: {name} {service.version}" for name, service in sorted(self.used.items())]
        return lines + [f"LEFT OUT: {name} ({why})" for name, why in sorted(self.missing.items())]


def _end(process: "subprocess.Popen[bytes]", how: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


services = Services()
atexit.register(services.stop)
