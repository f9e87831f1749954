"""The two processes: the server (uvicorn, one process a core) and the worker (Celery with its clock inside)."""

import fcntl
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httptools
import structlog
import uvicorn
from celery.beat import EmbeddedService
from celery.exceptions import SecurityWarning
from celery.signals import worker_ready, worker_shutting_down
from django.conf import settings
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = structlog.get_logger(__name__)

KEEP_ALIVE = 75  # seconds, above what load balancers usually keep a connection for


def serve(*, host: str, port: int, workers: int) -> None:
    """Serves until SIGTERM or SIGINT. Calls that are running then get SHUTDOWN_GRACE seconds."""
    uvicorn.run(
        "portal.asgi:application",
        host=host,
        port=port,
        workers=workers,
        loop="uvloop",
        http=Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        server_header=False,
        log_config=None,
        proxy_headers=False,  # the relay reads X-Forwarded-For itself, by TRUSTED_PROXIES
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=settings.SHUTDOWN_GRACE,
    )


class Protocol(HttpToolsProtocol):
    """Declines to upgrade, and goes on as HTTP/1.1, which a server may (RFC 9110, 7.8). Java's client offers h2c with
    every first request; the parser ends at the head of such a one and takes its body for another protocol's."""

    def data_received(self, data: bytes) -> None:
        self._unset_keepalive_if_required()
        while True:
            try:
                self.parser.feed_data(data)
            except httptools.HttpParserUpgrade as offer:
                if self.scope["method"] != "CONNECT":
                    data = self._declined() + data[offer.args[0] :]
                    continue
                self.send_400_response("This server is no proxy.")
            except httptools.HttpParserError:
                self.send_400_response("Invalid HTTP request received.")
            return

    def _should_upgrade(self) -> bool:
        """So that the request is not begun without its body. It is asked only where an upgrade is offered."""
        return True

    def _declined(self) -> bytes:
        """The head of the request without the offer, for a new parser."""
        method, version = self.scope["method"].encode(), self.parser.get_http_version().encode()
        lines = [b"%s %s HTTP/%s" % (method, self.url, version)]
        lines += [b"%s: %s" % (name, value) for name, value in self.headers if name != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as it was
        return b"\r\n".join([*lines, b"", b""])


def with_port(port: int) -> None:
    """Starts this command anew where the settings were read for another port: addresses are derived from it."""
    if port != settings.PORT:
        os.environ["PORT"] = str(port)
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - this very command


def work() -> int:
    """Runs jobs, and the clock that asks for them, until SIGTERM or SIGINT; the exit status.

    One process a folder runs the clock. Without Redis the queue is that folder too, so another worker stands by and
    takes over when the first one ends.
    """
    # Only here: it configures Celery for the process.
    from portal.celery import app  # noqa: PLC0415

    # Celery warns of root because a pickled message could run code; this worker accepts JSON alone.
    warnings.simplefilter("ignore", SecurityWarning)
    with _first(wait=not settings.REDIS_URL) as first:
        if first:
            _start_clock(app)
        worker = app.Worker(
            pool="solo",
            concurrency=1,
            loglevel=settings.LOG_LEVEL,
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
            optimization="fair",
            quiet=True,
        )
        worker.start()
        return int(worker.exitcode or 0)


def _start_clock(app: Any) -> None:
    """A thread and a schedule in memory: there is no file that a crash could leave broken."""
    clock: Any = EmbeddedService(app, thread=True, scheduler_cls="celery.beat:Scheduler")
    worker_ready.connect(lambda **_: clock.start(), weak=False)
    worker_shutting_down.connect(lambda **_: clock.service.stop(wait=False), weak=False)


@contextmanager
def _first(*, wait: bool) -> Iterator[bool]:
    """Whether this is the folder's first worker; `wait` blocks until it is."""
    path = Path(settings.VAR_DIR) / "worker.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not wait:
                yield False
                return
            log.info("worker.standing_by")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield True
