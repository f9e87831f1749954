"""Many holds and settlements, one transaction: the ledger's writer of an event loop.

What arrives while a batch commits is the next batch; there is no timer. A waiter is answered after its commit, never
before. A hold is refused (`LedgerUnavailable`) where the database has answered nobody for its `patience`, and released
again where it turns out to have been written after all. A closing is kept and tried again until the database takes it,
because its money has been spent.
"""

import asyncio
import random
from collections.abc import Callable, Sequence

import structlog
from django.db import connection

from billing import connections, ledger
from billing.operations import ActiveHold, CloseHold, Operation, Outcome, Row
from billing.postgres import Decided, Fate

log = structlog.get_logger(__name__)

LARGEST_BATCH = 512
LONGEST_QUEUE = 20_000
RETRY_AT_MOST = 1.0  # seconds between attempts to write a closing while the database is away
CLOSE_WITHIN = 10.0  # seconds that the last operations of a process may take
_PASSING = ("40001", "40P01", "55P03")  # serialization failure, deadlock, lock timeout

# The rows that record a hold which was granted when nobody waited for it any more.
Late = Callable[[ActiveHold], Sequence[Row]]


class LedgerUnavailable(Exception):
    """The books could not be written; nothing was reserved, or what was is given back."""


def no_rows(_: ActiveHold) -> Sequence[Row]:
    """No rows, for a hold that nobody keeps a record of."""
    return ()


class _Waiting:
    """An operation and the future of whoever waits for it; how often it has been looked at while it waited."""

    __slots__ = ("future", "late", "looks", "operation")

    def __init__(self, operation: Operation, future: "asyncio.Future[Outcome]", late: Late = no_rows) -> None:
        self.operation = operation
        self.future = future
        self.late = late
        self.looks = 0

    @property
    def is_closing(self) -> bool:
        return isinstance(self.operation, CloseHold)

    @property
    def wanted(self) -> bool:
        return self.is_closing or not self.future.done()

    def fail(self, error: Exception) -> None:
        if not self.future.done():
            self.future.set_exception(error)


class _Doubtful:
    """A batch that may have been committed: the transaction, and what it granted to those who were refused since."""

    __slots__ = ("decided", "granted")

    def __init__(self, decided: Decided, batch: list[_Waiting]) -> None:
        self.decided = decided
        self.granted = [
            (waiting, outcome)
            for waiting, outcome in zip(batch, decided.outcomes, strict=True)
            if isinstance(outcome, ActiveHold)
        ]


class GroupCommit:
    """The writer. It belongs to the event loop that first submits to it; its task starts then."""

    _loop: asyncio.AbstractEventLoop | None = None  # all else is made when a loop's first operation comes
    _waiting: list[_Waiting]
    _watching: bool
    _arrived: asyncio.Event
    _task: "asyncio.Task[None]"

    def submit(self, operation: Operation, *, late: Late = no_rows) -> "asyncio.Future[Outcome]":
        """The operation's outcome once it is durable. Raises LedgerUnavailable where it cannot be written.

        A hold that is granted when nobody waits for it any more is released, with the rows that `late` makes for it.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._begin(loop)
        future: asyncio.Future[Outcome] = loop.create_future()
        waiting = _Waiting(operation, future, late)
        if not waiting.is_closing and (self._away or len(self._waiting) > LONGEST_QUEUE):
            future.set_exception(LedgerUnavailable("the database is away, or too many operations are waiting"))
            return future
        self._waiting.append(waiting)
        self._arrived.set()
        if not self._watching:
            self._watching = True
            self._look_later(loop)
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
        self._committing: list[_Waiting] = []
        self._doubtful: list[_Doubtful] = []
        self._failures = 0
        self._away = False  # while closings are tried again, nothing new is let in to wait behind them
        self._closing = False
        self._watching = False
        self._moved = False  # a batch was written since the last look
        self._refused = False  # somebody in the queue has been, and need not be written at all
        self._arrived = asyncio.Event()
        self._revenue: int | None = None  # asking Django for its database's name with every batch is felt
        self._connection = connections.new_connection()
        self._task = loop.create_task(self._work())

    def _look_later(self, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(self._connection.patience / connections.LOOKS, self._watch, loop)

    def _watch(self, loop: asyncio.AbstractEventLoop) -> None:
        """Refuses who has waited too long. It counts looks, not time: a busy event loop is not the database's fault.

        Nor is a long queue that moves.
        """
        if loop is not self._loop:
            return
        everyone = [*self._committing, *self._waiting]
        self._watching = bool(everyone)
        if everyone:
            self._look_later(loop)
        moved, self._moved = self._moved, False
        for waiting in everyone:
            waiting.looks = 0 if moved else waiting.looks + 1
            if waiting.looks >= connections.LOOKS and not waiting.is_closing:
                self._refused = True
                waiting.fail(LedgerUnavailable("the database did not answer in time"))

    async def _work(self) -> None:
        while True:
            if self._refused:
                self._refused = False
                self._waiting = [waiting for waiting in self._waiting if waiting.wanted]
            if self._waiting:
                self._committing = self._waiting[:LARGEST_BATCH]
                del self._waiting[:LARGEST_BATCH]
                await self._run(self._committing)
                self._committing = []
            if self._doubtful and not self._away:
                await self._look_back()
            elif self._waiting:
                continue
            elif self._closing:
                break
            else:
                self._arrived.clear()
                await self._arrived.wait()
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
            self._failures, self._away, self._moved = 0, False, True
            self._answer(batch, outcomes)

    async def _commit(self, operations: list[Operation]) -> list[Outcome]:
        revenue = self._revenue or ledger.known_revenue_account()
        if revenue is None:
            revenue = await connections.read(_read_revenue_account, within=connections.READ_WITHIN)
        self._revenue = revenue
        return await self._connection.run(operations, revenue=revenue)

    def _answer(self, batch: list[_Waiting], outcomes: list[Outcome]) -> None:
        for waiting, outcome in zip(batch, outcomes, strict=True):
            if not waiting.future.done():
                waiting.future.set_result(outcome)
            elif isinstance(outcome, ActiveHold):
                self._release(waiting, outcome)

    def _release(self, waiting: _Waiting, hold: ActiveHold) -> None:
        """Gives back what nobody waited for."""
        log.warning("group_commit.released", call=str(hold.id))
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        future.add_done_callback(_noted)
        self._waiting.append(_Waiting(CloseHold(hold, None, tuple(waiting.late(hold))), future))

    # ---- what did not go well

    async def _failed(self, batch: list[_Waiting], error: Exception) -> None:
        """A batch that the database did not take, or took without saying so."""
        decided = self._connection.decided
        fate = await self._connection.fate(decided) if decided is not None else Fate.UNDONE
        log.warning("group_commit.failed", operations=len(batch), error=type(error).__name__, fate=fate.value)
        if decided is not None and fate is Fate.COMMITTED:
            self._answer(batch, decided.outcomes)
        elif decided is not None and fate is Fate.UNKNOWN:
            self._failures += 1
            self._doubtful.append(_Doubtful(decided, batch))
            await self._try_again(batch, keep_all=False)
        elif isinstance(error, connections.DEFECTS):
            await self._split_or_fail(batch, error)
        else:
            self._failures += 1
            passing = getattr(error, "sqlstate", None) in _PASSING
            await self._try_again(batch, keep_all=passing and self._failures <= 5)

    async def _try_again(self, batch: list[_Waiting], *, keep_all: bool) -> None:
        """Holds fail fast; closings are kept. One that had been written after all finds its hold closed."""
        kept = []
        for waiting in batch:
            if waiting.is_closing or (keep_all and waiting.wanted):
                kept.append(waiting)
            else:
                waiting.fail(LedgerUnavailable("the database did not answer"))
        if kept:
            self._away = not keep_all
            self._waiting[:0] = kept
            pause = min(RETRY_AT_MOST, 0.02 * 2 ** min(self._failures, 8))
            await asyncio.sleep(pause * (0.5 + random.random() / 2))

    async def _look_back(self) -> None:
        """Asks what became of the batches in doubt, and gives back what was granted to nobody."""
        left = []
        for doubtful in self._doubtful:
            fate = await self._connection.fate(doubtful.decided)
            if fate is Fate.COMMITTED:
                for waiting, hold in doubtful.granted:
                    self._release(waiting, hold)
            elif fate is Fate.UNKNOWN:
                left.append(doubtful)
        self._doubtful = left
        if left and not self._waiting:
            await asyncio.sleep(RETRY_AT_MOST / 4)

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


def _noted(future: "asyncio.Future[Outcome]") -> None:
    """Of a release that nobody waits for: what cannot be written is the sweep's."""
    if not future.cancelled() and (error := future.exception()) is not None:
        log.error("group_commit.not_released", error=type(error).__name__)


def _read_revenue_account() -> int:
    """Once a process; the thread that it happens in keeps no connection for it."""
    try:
        return ledger.revenue_account()
    finally:
        connection.close()


writer = GroupCommit()
