"""`make run` as a person has it: from an empty folder to a paid call, a second server beside it, and Ctrl-C."""

import json
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


class Installation:
    """A folder of its own, the interpreter of the tests, and no setting of theirs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "VAR_DIR": str(folder / "var"),
            "PISCES_PYTHON": sys.executable, "LANG": "C.UTF-8",
        }  # fmt: skip
        self.runs: list[subprocess.Popen[bytes]] = []

    def run(self, port: int) -> "Running":
        log = self.folder / f"{port}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [sys.executable, str(ROOT / "scripts" / "run.py")],
                env={**self.environment, "PORT": str(port)}, stdout=out, stderr=subprocess.STDOUT,
            )  # fmt: skip
        self.runs.append(process)
        return Running(process, port, log)

    def manage(self, *arguments: str) -> str:
        command = [sys.executable, str(ROOT / "manage.py"), *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.decode()


class Running:
    def __init__(self, process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
        self.process, self.port, self.log = process, port, log

    def wait(self, text: str = "Pisces is ready", seconds: float = 180) -> str:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if text in (said := self.log.read_text()):
                return said
            assert self.process.poll() is None, said
            time.sleep(0.1)
        raise AssertionError(self.log.read_text())

    def ask(self, path: str, key: str, body: Any = None) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}")
        request.add_header("Authorization", f"Bearer {key}")
        data = json.dumps(body).encode() if body else None
        with OPENER.open(request, data=data, timeout=10) as answer:
            return json.load(answer)

    def children(self) -> list[int]:
        """The server's and the worker's process, in the order of their start."""
        pid = self.process.pid
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.fixture(scope="module")
def installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One folder for all: empty for the first test, and in use for those after it."""
    found = Installation(tmp_path_factory.mktemp("installation"))
    yield found
    for process in found.runs:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def test_from_an_empty_folder_to_a_paid_call_and_back(installation: Installation) -> None:
    first = installation.run(_free_port())
    said = first.wait()
    key = re.findall(r"API key\s+(\S+)", said)[0]
    assert re.findall(r"Password\s+(\S+)", said)
    assert f"http://127.0.0.1:{first.port}/v1/chat/completions" in said
    assert stat.S_IMODE((installation.folder / "var" / "pisces.env").stat().st_mode) == 0o600

    question = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}
    answer = first.ask("/v1/chat/completions", key, question)
    (call,) = json.loads(installation.manage("calls", "--email", "admin@example.com", "--json"))
    assert (call["cost"], call["id"]) == (answer["pisces"]["cost"], answer["pisces"]["request_id"])
    assert "the books are whole" in installation.manage("audit")

    second = installation.run(_free_port())
    assert key in second.wait()
    assert second.ask("/v1/chat/completions", key, question)["model"] == "gpt-4o-mini"
    assert "worker.standing_by" in second.wait("worker.standing_by")

    _change_what_is_offered(installation, [first, second], key)
    _wait_for_the_worker(installation)
    for running in (second, first):
        children = running.children()
        assert len(children) == 2
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(30) == 0
        assert not any(_alive(child) for child in children)


def _change_what_is_offered(installation: Installation, servers: list[Running], key: str) -> None:
    """The operator's file is in force on every process within a second."""
    file = installation.folder / "more.yaml"
    file.write_text(
        "channels: [{name: demo, models: [demo-chat]}]\nmodels: [{name: demo-chat, price: {per_call: 0.5}}]\n"
    )
    installation.manage("apply", str(file))
    time.sleep(1.0)
    question = {"model": "demo-chat", "messages": [{"role": "user", "content": "Hello"}]}
    for server in servers:
        assert [model["id"] for model in server.ask("/v1/models", key)["data"]] == ["demo-chat"]
        assert server.ask("/v1/chat/completions", key, question)["pisces"]["cost"] == "0.5"


def _wait_for_the_worker(installation: Installation) -> None:
    """The clock asks for a sweep every ten seconds, and the worker carries it out."""
    deadline = time.monotonic() + 25
    while "the worker has never run" in (said := installation.manage("doctor")):
        assert time.monotonic() < deadline, said
        time.sleep(3)


def test_a_child_that_ends_by_itself_ends_the_rest(installation: Installation) -> None:
    running = installation.run(_free_port())
    running.wait()
    server, worker = running.children()
    os.kill(worker, signal.SIGKILL)
    assert running.process.wait(30) == 1
    assert "The worker ended by itself" in running.log.read_text()
    assert not _alive(server)


def test_a_port_that_is_taken_is_said_at_once(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        running = installation.run(taken.getsockname()[1])
        assert running.process.wait(20) == 1
    assert "is not free" in running.log.read_text()
    assert not (installation.folder / "var").exists()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("HOST", "203.0.113.7", "HOST=203.0.113.7 is no address of this machine"),
        ("HOST", "not an address", "HOST=not an address is no address of this machine"),
        ("VAR_DIR", "/dev/null/var", "/dev/null/var cannot be written"),
        ("PISCES_PYTHON", "/nowhere/python", "PISCES_PYTHON=/nowhere/python cannot be run"),
    ],
)
def test_what_cannot_be_started_with_is_said_in_a_line(tmp_path: Path, name: str, value: str, said: str) -> None:
    installation = Installation(tmp_path)
    installation.environment[name] = value
    running = installation.run(_free_port())
    assert running.process.wait(20) == 1
    (line,) = running.log.read_text().splitlines()
    assert line.startswith(f"pisces: {said}")


def test_it_runs_at_an_address_of_ipv6_where_the_machine_has_one(installation: Installation) -> None:
    port = _free_port()
    installation.environment["HOST"] = "::1"
    try:
        running = installation.run(port)
    finally:
        del installation.environment["HOST"]
    if not _has_ipv6():
        assert running.process.wait(20) == 1
        assert "HOST=::1 is no address of this machine" in running.log.read_text()
        return
    try:
        assert f"Portal     http://[::1]:{port}/" in running.wait()
    finally:
        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(60) == 0
