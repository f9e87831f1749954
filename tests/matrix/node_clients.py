"""The official SDKs for Node as clients: one process for the session, which is asked what the Python SDKs are asked."""

import subprocess
from pathlib import Path
from typing import IO

import msgspec

from tests.matrix import again, clients
from tests.matrix.neutral import Ask, Outcome

FOLDER = Path(__file__).parent / "node"
# They have words for what the Python SDKs have words for.
CLIENTS = {f"{protocol}-node": protocol for protocol in clients.CLIENTS}


class _Question(msgspec.Struct):
    """A line of the driver's input."""

    protocol: str
    url: str
    token: str
    model: str
    ask: Ask
    stream: bool
    before: Outcome | None
    result: str = again.RESULT
    further: str = again.GO_ON


class _Answer(Outcome):
    """A line of its output. `defect`: what an SDK threw that is no refusal."""

    defect: str = ""


class Node:
    """The process, and the file that it writes its complaints to. It inherits no key, proxy or option."""

    def __init__(self, program: str, complaints: IO[str]) -> None:
        self._complaints = complaints
        self._process = subprocess.Popen(
            [program, "driver.mjs"],
            cwd=FOLDER,
            env={},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=complaints,
        )

    def ask(
        self,
        protocol: str,
        url: str,
        token: str,
        model: str,
        question: Ask,
        *,
        stream: bool,
        before: Outcome | None = None,
    ) -> Outcome:
        """As `clients.ask`, and with the outcome of the turn before as `again.ask`."""
        asked = _Question(protocol, url, token, model, question, stream, before)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(msgspec.json.encode(asked) + b"\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        assert line, self._last_words()
        answer = msgspec.json.decode(line, type=_Answer)
        assert not answer.defect, answer.defect
        return answer

    def stop(self) -> None:
        self._process.communicate(timeout=20)  # it ends with its input

    def _last_words(self) -> str:
        self._process.wait(timeout=20)
        self._complaints.seek(0)
        return f"the driver ended with {self._process.returncode}: {self._complaints.read()[-2000:]}"
