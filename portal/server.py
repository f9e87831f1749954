"""The two processes: the server (uvicorn, one process a core) and the worker (Celery with its clock inside)."""

import fcntl
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from celery.beat import EmbeddedService
from celery.exceptions import SecurityWarning
from celery.signals import worker_ready, worker_shutting_down
from django.conf import settings

from portal import wire

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
        http=wire.Protocol,
        ws="none",
        lifespan="on",
        access_log=False,
        server_header=False,
        log_config=None,
        proxy_headers=False,  # the relay reads X-Forwarded-For itself, by TRUSTED_PROXIES
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=settings.SHUTDOWN_GRACE,
    )


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
