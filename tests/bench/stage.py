"""What a run needs: a PostgreSQL, the providers, an installation for each database, and what load is sent to.

Everything that is started here is ended by its process id.
"""

import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tests.bench import processes, provider
from tests.bench.provider import Provider
from tests.kit.gateway import Gateway
from tests.kit.ports import free_port
from tests.kit.services import Postgres, services

NAMES = {"postgres": "PostgreSQL", "sqlite": "SQLite"}
PRICE = {"input": "0.15", "output": "0.60"}
# As `manage.py serve` runs the same server.
BARE = ("--loop", "uvloop", "--http", "httptools", "--ws", "none", "--no-access-log", "--no-proxy-headers")


class Target(NamedTuple):
    """Something to send load to, and the processes whose CPU is its price; the memory is the first one's."""

    name: str
    port: int
    path: str  # with {way} in it where the provider's path shows
    pids: tuple[int, ...] = ()
    key: str = ""


class Stage:
    """A PostgreSQL if there is one, and the providers. What is started is handed to `stack` to be ended."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._installations: list[tuple[Gateway, str]] = []
        stack.callback(services.stop)
        durable = partial(Postgres, durable=True)
        self.kinds = [kind for kind in NAMES if kind == "sqlite" or services.probe(kind, durable)]
        self.paced = stack.enter_context(provider.own(folder))
        self.static = self._static()

    def _static(self) -> Provider:
        program = provider.program()
        if program is None:
            return self.paced
        folder = self._folder / "nginx"
        folder.mkdir()
        return self._stack.enter_context(provider.nginx(program, folder))

    def notes(self) -> list[str]:
        """What is measured with, for people."""
        postgres = services.used["postgres"].version if "postgres" in services.used else ""
        return [
            f"PostgreSQL: {postgres or 'left out: ' + services.missing['postgres']}",
            f"Provider:   {self.static.name}; for slow streams {self.paced.name}",
        ]

    def install(self, ways: dict[str, Provider]) -> None:
        """An installation for each database, with a customer whose money does not end. Each way of asking a provider
        is offered as a model of its name."""
        for kind in self.kinds:
            gateway = Gateway(kind)
            self._stack.callback(shutil.rmtree, gateway.folder, ignore_errors=True)
            self._stack.callback(gateway.stop)
            for way, served_by in ways.items():
                gateway.model(way, PRICE, max_output=1000)
                protocol = "anthropic" if way.startswith("claude") else "openai"
                base = f"http://127.0.0.1:{served_by.port}/{way}/v1"
                gateway.channel(way, base, {way: "bench-upstream"}, protocol=protocol)
            self._installations.append((gateway, gateway.customer(credit="1000000").token))

    @contextmanager
    def targets(self, served_by: Provider) -> Iterator[list[Target]]:
        """Fresh processes: the bare pass-through to that provider, and a server on each database."""
        with ExitStack() as stack:
            targets = [stack.enter_context(self._bare(served_by))]
            for gateway, key in self._installations:
                server = gateway.start(command=(sys.executable, "manage.py", "serve"), DEMO_PROVIDER="0")
                stack.callback(gateway.servers.remove, server)
                stack.callback(server.stop)
                pids = [server.process.pid]
                if gateway.kind == "postgres":
                    pids.append(services.postgres.pid)
                targets.append(Target(NAMES[gateway.kind], server.port, "/v1/chat/completions", tuple(pids), key))
            yield targets

    @contextmanager
    def _bare(self, served_by: Provider) -> Iterator[Target]:
        port = free_port()
        command = processes.python("uvicorn", "tests.bench.bare:app", "--port", str(port), "--lifespan", "off", *BARE)
        env = {"UPSTREAM": f"http://127.0.0.1:{served_by.port}"}
        with processes.listening(command, port=port, log=self._folder / "bare.log", env=env) as pid:
            yield Target("bare", port, "/{way}/v1/chat/completions", (pid,))

    @staticmethod
    def direct(served_by: Provider) -> Target:
        """The provider itself, which nobody stands before."""
        return Target("direct", served_by.port, "/{way}/v1/chat/completions")
