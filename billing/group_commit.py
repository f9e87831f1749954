"""Many holds and settlements, one transaction: the ledger's writer of a process.

One thread, one connection. What arrives while a batch commits is the next batch; there is no timer. A waiter is
answered after its commit, never before. A hold that cannot be written is refused (`LedgerUnavailable`); a closing is
kept and tried again until the database takes it, because its money has been spent.
"""

import asyncio
import queue
import random
import sqlite3
import threading
import time
from collections.abc import Sequence
from typing import Any

import django.db
import psycopg
import structlog
from django.db import connection

from billing import ledger
from billing.connections import LedgerConnection
from billing.operations import CloseHold, Operation, Outcome

log = structlog.get_logger(__name__)

LARGEST_BATCH = 512
LONGEST_QUEUE = 20_000
RETRY_AT_MOST = 5.0  # seconds between attempts to write a closing while the database is away
DATABASE_ERRORS = (psycopg.Error, sqlite3.Error, django.db.Error)
_DEFECTS = (psycopg.IntegrityError, psycopg.DataError, sqlite3.IntegrityError, sqlite3.DataError)
_PASSING = ("40001", "40P01", "55P03")  # serialization failure, deadlock, lock timeout


class LedgerUnavailable(Exception):
    """The books could not be written; nothing was reserved."""


class _Waiting:
    """An operation and who waits for it: a future of an event loop."""

    __slots__ = ("future", "loop", "operation")

    def __init__(
        self, operation: Operation, loop: asyncio.AbstractEventLoop, future: "asyncio.Future[Outcome]"
    ) -> None:
        self.operation = operation
        self.loop = loop
        self.future = future


class GroupCommit:
    """The writer. `submit` belongs to the event loop's thread; everything with an underscore to the writer's."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[_Waiting | None] = queue.SimpleQueue()
        self._connection = LedgerConnection()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._failures = 0

    def submit(self, operation: Operation) -> "asyncio.Future[Outcome]":
        """The operation's outcome once it is durable. Raises LedgerUnavailable where it cannot be written."""
        if self._thread is None:
            self._start()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Outcome] = loop.create_future()
        if self._queue.qsize() > LONGEST_QUEUE and not isinstance(operation, CloseHold):
            future.set_exception(LedgerUnavailable("too many operations are waiting"))
        else:
            self._queue.put(_Waiting(operation, loop, future))
        return future

    def close(self) -> None:
        """Writes what is waiting and ends the thread."""
        with self._lock:
            thread, self._thread = self._thread, None
        if thread is not None:
            self._queue.put(None)
            thread.join(timeout=30)

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="group-commit", daemon=True)
                self._thread.start()

    def _work(self) -> None:
        while True:
            first = self._queue.get()
            if first is None:
                break
            batch, ending = self._gather(first)
            self._run(batch)
            if ending:
                break
        self._connection.close()

    def _gather(self, first: _Waiting) -> tuple[list[_Waiting], bool]:
        batch = [first]
        while len(batch) < LARGEST_BATCH:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return batch, False
            if item is None:
                return batch, True
            batch.append(item)
        return batch, False

    def _run(self, batch: list[_Waiting]) -> None:
        try:
            outcomes = self._commit([waiting.operation for waiting in batch])
        except DATABASE_ERRORS as error:
            self._failed(batch, error)
        except Exception as error:
            log.exception("group_commit.defect", operations=len(batch))
            self._connection.close()
            self._split_or_fail(batch, error)
        else:
            self._failures = 0
            _deliver([(waiting, outcome) for waiting, outcome in zip(batch, outcomes, strict=True)])

    def _commit(self, operations: Sequence[Operation]) -> list[Outcome]:
        try:
            revenue = ledger.revenue_account()
        finally:
            connection.close()  # read once a process; the writer keeps no second connection for it
        return self._connection.store().run(operations, revenue=revenue)

    def _failed(self, batch: list[_Waiting], error: Exception) -> None:
        """A batch that the database did not take, or took without saying so."""
        outcomes = self._connection.abandon()
        log.warning(
            "group_commit.failed", operations=len(batch), error=type(error).__name__, committed=outcomes is not None
        )
        if outcomes is not None:
            _deliver([(waiting, outcome) for waiting, outcome in zip(batch, outcomes, strict=True)])
        elif isinstance(error, _DEFECTS):
            self._split_or_fail(batch, error)
        else:
            self._try_again(batch, passing=getattr(error, "sqlstate", None) in _PASSING)

    def _try_again(self, batch: list[_Waiting], *, passing: bool) -> None:
        """Holds fail fast; closings are kept. One that had been written after all finds its hold closed."""
        self._failures += 1
        keep_all = passing and self._failures <= 5
        kept = [w for w in batch if keep_all or isinstance(w.operation, CloseHold)]
        refused = LedgerUnavailable("the database did not answer")
        _deliver([(w, refused) for w in batch if not keep_all and not isinstance(w.operation, CloseHold)])
        if kept:
            pause = min(RETRY_AT_MOST, 0.02 * 2 ** min(self._failures, 8))
            time.sleep(pause * (0.5 + random.random() / 2))
            for waiting in kept:
                self._queue.put(waiting)

    def _split_or_fail(self, batch: list[_Waiting], error: Exception) -> None:
        """One bad operation must not take the others with it."""
        if len(batch) == 1:
            _deliver([(batch[0], error)])
            return
        middle = len(batch) // 2
        self._run(batch[:middle])
        self._run(batch[middle:])


def _deliver(results: list[tuple[_Waiting, Any]]) -> None:
    """Wakes each event loop once, with all of its answers."""
    by_loop: dict[asyncio.AbstractEventLoop, list[tuple[asyncio.Future[Outcome], Any]]] = {}
    for waiting, result in results:
        by_loop.setdefault(waiting.loop, []).append((waiting.future, result))
    for loop, answers in by_loop.items():
        try:
            loop.call_soon_threadsafe(_answer, answers)
        except RuntimeError:  # the loop has ended, and with it whoever waited
            log.warning("group_commit.nobody_waits", operations=len(answers))


def _answer(answers: list[tuple["asyncio.Future[Outcome]", Any]]) -> None:
    for future, result in answers:
        if future.cancelled():
            continue
        if isinstance(result, Exception):
            future.set_exception(result)
        else:
            future.set_result(result)


writer = GroupCommit()
