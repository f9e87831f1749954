"""Many holds and settlements, one transaction: the ledger's writer of an event loop.

What arrives while a batch commits is the next batch; there is no timer. A waiter is answered after its commit, never
before. A hold that cannot be written is refused (`LedgerUnavailable`); a closing is kept and tried again until the
database takes it, because its money has been spent.
"""

import asyncio
import random

import structlog
from asgiref.sync import sync_to_async
from django.db import connection

from billing import connections, ledger
from billing.operations import CloseHold, Operation, Outcome

log = structlog.get_logger(__name__)

LARGEST_BATCH = 512
LONGEST_QUEUE = 20_000
RETRY_AT_MOST = 5.0  # seconds between attempts to write a closing while the database is away
CLOSE_WITHIN = 10.0  # seconds that the last operations of a process may take
_PASSING = ("40001", "40P01", "55P03")  # serialization failure, deadlock, lock timeout


class LedgerUnavailable(Exception):
    """The books could not be written; nothing was reserved."""


class _Waiting:
    """An operation and the future of whoever waits for it."""

    __slots__ = ("future", "operation")

    def __init__(self, operation: Operation, future: "asyncio.Future[Outcome]") -> None:
        self.operation = operation
        self.future = future

    def answer(self, outcome: Outcome) -> None:
        if not self.future.done():
            self.future.set_result(outcome)

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class GroupCommit:
    """The writer. It belongs to the event loop that first submits to it; its task starts then."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiting: list[_Waiting] = []
        self._failures = 0

    def submit(self, operation: Operation) -> "asyncio.Future[Outcome]":
        """The operation's outcome once it is durable. Raises LedgerUnavailable where it cannot be written."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._begin(loop)
        future: asyncio.Future[Outcome] = loop.create_future()
        if not isinstance(operation, CloseHold) and (self._away or len(self._waiting) > LONGEST_QUEUE):
            future.set_exception(LedgerUnavailable("the database is away, or too many operations are waiting"))
            return future
        self._waiting.append(_Waiting(operation, future))
        self._arrived.set()
        return future

    async def close(self, *, within: float = CLOSE_WITHIN) -> None:
        """Writes what is waiting and ends. What a database that is away did not take by then is the sweep's."""
        if self._loop is not asyncio.get_running_loop():
            return
        self._closing = True
        self._arrived.set()
        try:
            async with asyncio.timeout(within):
                await self._task
        except TimeoutError:
            log.error("group_commit.unwritten", operations=len(self._waiting))
        self._loop = None

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._waiting = []
        self._failures = 0
        self._away = False  # while closings are tried again, nothing new is let in to wait behind them
        self._closing = False
        self._arrived = asyncio.Event()
        self._connection = connections.new_connection()
        self._task = loop.create_task(self._work())

    async def _work(self) -> None:
        while True:
            if not self._waiting:
                if self._closing:
                    break
                self._arrived.clear()
                await self._arrived.wait()
                continue
            batch = self._waiting[:LARGEST_BATCH]
            del self._waiting[:LARGEST_BATCH]
            await self._run(batch)
        await self._connection.close()

    async def _run(self, batch: list[_Waiting]) -> None:
        try:
            outcomes = await self._commit([waiting.operation for waiting in batch])
        except connections.DATABASE_ERRORS as error:
            await self._failed(batch, error)
        except Exception as error:
            log.exception("group_commit.defect", operations=len(batch))
            await self._split_or_fail(batch, error)
        else:
            self._failures, self._away = 0, False
            _answer(batch, outcomes)

    async def _commit(self, operations: list[Operation]) -> list[Outcome]:
        revenue = ledger.known_revenue_account()
        if revenue is None:
            revenue = await sync_to_async(_read_revenue_account, thread_sensitive=False)()
        return await self._connection.run(operations, revenue=revenue)

    async def _failed(self, batch: list[_Waiting], error: Exception) -> None:
        """A batch that the database did not take, or took without saying so."""
        outcomes = await self._connection.fate()
        log.warning(
            "group_commit.failed", operations=len(batch), error=type(error).__name__, committed=outcomes is not None
        )
        if outcomes is not None:
            _answer(batch, outcomes)
        elif isinstance(error, connections.DEFECTS):
            await self._split_or_fail(batch, error)
        else:
            await self._try_again(batch, passing=getattr(error, "sqlstate", None) in _PASSING)

    async def _try_again(self, batch: list[_Waiting], *, passing: bool) -> None:
        """Holds fail fast; closings are kept. One that had been written after all finds its hold closed."""
        self._failures += 1
        keep_all = passing and self._failures <= 5
        kept = []
        for waiting in batch:
            if keep_all or isinstance(waiting.operation, CloseHold):
                kept.append(waiting)
            else:
                waiting.fail(LedgerUnavailable("the database did not answer"))
        if kept:
            self._away = not keep_all
            self._waiting[:0] = kept
            pause = min(RETRY_AT_MOST, 0.02 * 2 ** min(self._failures, 8))
            await asyncio.sleep(pause * (0.5 + random.random() / 2))

    async def _split_or_fail(self, batch: list[_Waiting], error: Exception) -> None:
        """One bad operation must not take the others with it, and a bad record not the money that it records."""
        if len(batch) == 1:
            operation = batch[0].operation
            if isinstance(operation, CloseHold) and operation.rows:
                log.error("group_commit.record_refused", call=str(operation.hold.id), error=type(error).__name__)
                batch[0].operation = CloseHold(operation.hold, operation.charged)
                await self._run(batch)
                return
            batch[0].fail(error)
            return
        middle = len(batch) // 2
        await self._run(batch[:middle])
        await self._run(batch[middle:])


def _read_revenue_account() -> int:
    """Once a process; the thread that it happens in keeps no connection for it."""
    try:
        return ledger.revenue_account()
    finally:
        connection.close()


def _answer(batch: list[_Waiting], outcomes: list[Outcome]) -> None:
    for waiting, outcome in zip(batch, outcomes, strict=True):
        waiting.answer(outcome)


writer = GroupCommit()
