"""The books' statements on PostgreSQL, by libpq's pipeline mode (PostgreSQL manual, "Pipeline Mode").

Every trip is one round trip of prepared statements; the last one ends in COMMIT. The asynchronous driver lives in an
event loop and needs no thread; the synchronous one works inside Django's own transaction.
"""

import asyncio
from collections.abc import Coroutine, Sequence
from enum import StrEnum
from typing import Any, TypeVar

import msgspec
import psycopg
from psycopg import errors, pq

from billing import books
from billing.books import Proof, Script, Statement, Verb
from billing.operations import Outcome
from billing.postgres_sql import query_of, rows_of

_T = TypeVar("_T")

CONNECT_WITHIN = 1.5  # seconds
ANSWER_WITHIN = 2.5  # seconds; the server's own timeouts are shorter
# A writer that vanished between two trips must not keep its locks: everybody else's wallet is behind them.
OPTIONS = (
    "-c synchronous_commit=on -c timezone=UTC -c lock_timeout=1s -c statement_timeout=2s "
    "-c idle_in_transaction_session_timeout=2s "
    # Every statement finds its rows by key. A planner whose statistics are of an empty table, or of none, would read
    # all holds instead, time and again, for as long as the plan is kept. And one plan is as good as the next.
    "-c enable_seqscan=off -c enable_bitmapscan=off -c enable_hashjoin=off -c enable_mergejoin=off "
    "-c plan_cache_mode=force_generic_plan"
)


class Fate(StrEnum):
    """What became of a transaction whose COMMIT was not answered."""

    COMMITTED = "committed"
    UNDONE = "undone"
    UNKNOWN = "unknown"  # the server is still at it, or cannot be asked


class Decided(msgspec.Struct, frozen=True):
    """What a batch had decided when its COMMIT was sent, and by what it is known whether that was carried out: its
    transaction (`xid8`), and a proof."""

    transaction: str
    outcomes: list[Outcome]
    proof: Proof | None = None


_PROOFS = {
    "opened": "SELECT EXISTS (SELECT 1 FROM billing_hold WHERE id = $1::uuid AND $2::text IS NOT NULL)",
    "posted": "SELECT EXISTS (SELECT 1 FROM billing_transfer WHERE reference = $1 AND kind = $2)",
    "closed": (
        "SELECT EXISTS (SELECT 1 FROM billing_hold WHERE id = $1::uuid AND generation = $2::int "
        "AND state IN ('settled', 'voided'))"
    ),
}


class AsyncConnection:
    """One connection in one event loop. Any failure closes it; `decided` then says what may have been committed."""

    def __init__(self, connection: "psycopg.AsyncConnection[Any]") -> None:
        self._connection = connection  # owns what `_pg` names
        self._pg = connection.pgconn
        self._pg.nonblocking = 1
        self._pg.enter_pipeline_mode()
        self._loop = asyncio.get_running_loop()
        self._socket = self._pg.socket
        self._loop.add_reader(self._socket, self._readable)
        self._names: dict[str, bytes] = {}
        self._skip: list[bool] = []  # for each answer to come: whether it is a PREPARE's
        self._results: list[Any] = []
        self._waiter: asyncio.Future[None] | None = None
        self._listening = True
        self.decided: Decided | None = None
        self.lost = False  # the server has closed it while nobody asked anything

    @classmethod
    async def open(cls, parameters: dict[str, Any]) -> "AsyncConnection":
        """Connects without a thread. Raises psycopg.Error, after CONNECT_WITHIN at the latest."""
        try:
            async with asyncio.timeout(CONNECT_WITHIN):
                raw = await psycopg.AsyncConnection.connect(**{**parameters, "options": OPTIONS}, autocommit=True)
        except TimeoutError as error:
            raise psycopg.OperationalError("the database cannot be reached") from error
        return cls(raw)

    async def run(self, work: Script) -> list[Outcome]:
        """The script in a transaction of its own. Raises psycopg.Error; the connection is closed then."""
        self.decided = None
        return await self._answered(self._run(work))

    async def fate(self, decided: Decided) -> Fate:
        """What became of another connection's transaction. Raises psycopg.Error as `run` does.

        The server's word (`pg_xact_status`) that it was committed is not enough: a server that was killed before the
        log of a transaction was on disk gives its number to another one. So the proof has to be there as well. It is
        looked for when the transaction is over, by a statement of its own, which sees all that it wrote.
        """
        return await self._answered(self._fate(decided))

    async def _answered(self, asking: Coroutine[Any, Any, _T]) -> _T:
        """Waits no longer than ANSWER_WITHIN, and closes the connection after any failure."""
        timer = self._loop.call_later(ANSWER_WITHIN, self._give_up)  # `asyncio.timeout` is felt: 45 µs and not 13
        try:
            return await asking
        except BaseException:
            self.close()
            raise
        finally:
            timer.cancel()

    async def _fate(self, decided: Decided) -> Fate:
        self._send("SELECT pg_xact_status($1::xid8)", [decided.transaction.encode()])
        if (proof := decided.proof) is not None:
            self._send(_PROOFS[proof.what], [proof.key.encode(), proof.detail.encode()])
        said, *proven = [result.get_value(0, 0) for result in await self._answers()]
        if said == b"in progress":
            return Fate.UNKNOWN
        return Fate.COMMITTED if said == b"committed" and proven in ([], [b"t"]) else Fate.UNDONE

    async def _run(self, work: Script) -> list[Outcome]:
        self._send("BEGIN")
        transaction, begun = "", 1
        trip = next(work)
        while True:
            for statement in trip.statements:
                if statement.rows:
                    self._send(*query_of(statement))
            if trip.outcomes is not None:
                self.decided = Decided(transaction, trip.outcomes, trip.proof)
                self._send("COMMIT")
            results = await self._answers()
            if trip.outcomes is not None:
                self.decided = None
                return trip.outcomes
            answered, begun = iter(results[begun:]), 0
            rows = []
            for statement in trip.statements:
                result = next(answered) if statement.rows else None
                rows.append(rows_of(statement.what, result) if result is not None else [])
                if statement.what is Verb.LOCK_ACCOUNTS and result is not None and result.ntuples:
                    transaction = result.get_value(0, _TRANSACTION).decode()
            trip = work.send(rows)

    def _send(self, text: str, parameters: Sequence[bytes | None] = ()) -> None:
        name = self._names.get(text)
        if name is None:
            name = self._names[text] = b"pisces_%d" % len(self._names)
            self._pg.send_prepare(name, text.encode())
            self._skip.append(True)
        self._pg.send_query_prepared(name, parameters)
        self._skip.append(False)

    async def _answers(self) -> list[Any]:
        """Ends the trip and waits for all of its answers. Raises the first error among them."""
        if self.lost:
            raise psycopg.OperationalError("the connection is lost")
        self._pg.pipeline_sync()
        self._results = []
        self._waiter = self._loop.create_future()
        if self._pg.flush():
            self._loop.add_writer(self._socket, self._writable)
        await self._waiter
        skip, self._skip = self._skip, []
        for result in self._results:
            if result.status not in _GOOD:
                raise errors.error_from_result(result)
        return [result for result, prepared in zip(self._results, skip, strict=True) if not prepared]

    def _writable(self) -> None:
        try:
            if not self._pg.flush():
                self._loop.remove_writer(self._socket)
        except psycopg.Error as error:
            self._wake(error)

    def _readable(self) -> None:
        try:
            self._pg.consume_input()
            self._collect()
        except psycopg.Error as error:
            self._wake(error)

    def _collect(self) -> None:
        """Takes what has arrived. Between two commands' results libpq returns one None."""
        nothing = False
        while not self._pg.is_busy():
            result = self._pg.get_result()
            if result is None:
                if nothing:
                    return
                nothing = True
                continue
            nothing = False
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                self._wake(None)
                return
            self._results.append(result)

    def _give_up(self) -> None:
        self._wake(psycopg.OperationalError("the database did not answer in time"))

    def _wake(self, error: Exception | None) -> None:
        waiter = self._waiter
        if error is not None:
            self._stop_listening()
        if waiter is None or waiter.done():
            self.lost = True
        elif error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(error)

    def close(self) -> None:
        self._stop_listening()
        self._pg.finish()

    def _stop_listening(self) -> None:
        """Once: libpq closes the socket of a broken connection, and the number may be somebody else's soon."""
        if self._listening:
            self._listening = False
            self._loop.remove_reader(self._socket)
            self._loop.remove_writer(self._socket)


_TRANSACTION = 8  # the column of LOCK_ACCOUNTS that names the transaction
_GOOD = (pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK)


def run(connection: "psycopg.Connection[Any]", work: Script) -> list[Outcome]:
    """The script inside the transaction that the caller has open on this connection. Raises psycopg.Error.

    psycopg begins a transaction with the first statement that goes through it. Ours go past it, so where they are the
    first they must begin it themselves: else each would commit alone. Commit and rollback stay with the caller.
    """
    if connection.pgconn.transaction_status == pq.TransactionStatus.IDLE:
        connection.pgconn.exec_(b"BEGIN")
    return books.drive(work, lambda trip: [_execute(connection, statement) for statement in trip.statements])


def _execute(connection: "psycopg.Connection[Any]", statement: Statement) -> list[tuple[Any, ...]]:
    if not statement.rows:
        return []
    text, parameters = query_of(statement)
    result = connection.pgconn.exec_params(text.encode(), parameters)
    if result.status not in _GOOD:
        raise errors.error_from_result(result)
    return rows_of(statement.what, result)
