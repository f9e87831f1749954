"""Which database the books are on, and how a batch gets there: from an event loop, or inside Django's transaction.

`read` is for everything else that an event loop wants of the database. Nothing here waits for a database that is away
longer than it says, whether it refuses connections, answers slowly or takes everything and says nothing.
"""

import asyncio
import contextlib
import os
import socket
import sqlite3
import threading
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import django.db
import psycopg
from django.db import DEFAULT_DB_ALIAS, close_old_connections, connections

from billing import books, postgres, sqlite
from billing.operations import Operation, Outcome
from billing.postgres import Decided, Fate
from billing.threads import SerialThread

DATABASE_ERRORS = (psycopg.Error, sqlite3.Error, django.db.Error)
# What the operations themselves caused: trying again cannot help.
DEFECTS = (psycopg.IntegrityError, psycopg.DataError, sqlite3.IntegrityError, sqlite3.DataError)
DUPLICATES = (psycopg.errors.UniqueViolation, sqlite3.IntegrityError)

FATE_AT_MOST, FATE_EVERY = 10, 0.03  # questions after a transaction that is not over, and seconds between them
READ_WITHIN = 0.8  # seconds that a call waits for what it has to know of a database that answers nobody
LOOKS = 8  # so often, evenly spread, it is looked whether a wait has been in vain

_T = TypeVar("_T")


def is_postgres() -> bool:
    return connections[DEFAULT_DB_ALIAS].vendor == "postgresql"


def run_in_transaction(operations: Sequence[Operation], *, revenue: int) -> list[Outcome]:
    """A batch on this thread's Django connection. The caller is inside `transaction.atomic()`."""
    wrapper = connections[DEFAULT_DB_ALIAS]
    wrapper.ensure_connection()
    raw: Any = wrapper.connection
    work = books.script(operations, revenue=revenue)
    if is_postgres():
        return postgres.run(raw, work)
    return sqlite.run(raw, work, own_transaction=False)


# ---- reading from an event loop -------------------------------------------------------------------------------------


class _Reading:
    """One call of a function in a thread, which can be told to end although its database says nothing."""

    finished = 0  # in all: a database that answers others is busy, and not away

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._wrapper: Any = None

    def run(self, function: Callable[..., _T], arguments: tuple[Any, ...]) -> _T:
        self._wrapper = connections[DEFAULT_DB_ALIAS]
        try:
            found = function(*arguments)
            _Reading.finished += 1
            return found
        finally:
            with self._lock:
                self._wrapper = None
            close_old_connections()

    def give_up(self) -> None:
        """Ends the thread's connection under it, so that it finds an error instead of waiting on."""
        with self._lock:
            raw = getattr(self._wrapper, "connection", None)
            if isinstance(raw, psycopg.Connection) and not raw.closed:
                with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(raw.fileno())) as other:
                    other.shutdown(socket.SHUT_RDWR)


async def read(function: Callable[..., _T], *arguments: Any, within: float) -> _T:
    """What a function says that reads the database, called in a thread.

    Raises what it raises, or django.db.OperationalError where nobody was answered for `within` seconds. These are
    counted in looks: those in which the event loop itself stood still are not the database's fault.
    """
    reading = _Reading()
    work = asyncio.get_running_loop().run_in_executor(None, reading.run, function, arguments)
    in_vain, before = 0, _Reading.finished
    try:
        while in_vain < LOOKS:
            await asyncio.wait({work}, timeout=within / LOOKS)
            if work.done():
                return work.result()
            in_vain, before = (in_vain + 1 if _Reading.finished == before else 0), _Reading.finished
        reading.give_up()
        raise django.db.OperationalError("the database did not answer in time")
    finally:
        work.cancel()


# ---- the ledger's writer --------------------------------------------------------------------------------------------


class Connection(Protocol):
    """The one connection of an event loop's ledger writer. Opened when needed, and again after it broke."""

    patience: float  # seconds that whoever wants something new waits for a database that answers nobody
    decided: Decided | None  # what the batch that failed last had decided, where it may have been committed

    async def run(self, operations: Sequence[Operation], *, revenue: int) -> list[Outcome]:
        """Raises the driver's error; then `decided` and `fate` say what became of the batch."""
        ...

    async def fate(self, decided: Decided) -> Fate:
        """Whether a batch was committed all the same. UNKNOWN may be asked again."""
        ...

    async def close(self) -> None: ...


def new_connection() -> Connection:
    return _PostgresConnection() if is_postgres() else _SqliteConnection()


class _PostgresConnection:
    patience = 0.8  # of a server that is away

    def __init__(self) -> None:
        self._open: postgres.AsyncConnection | None = None
        self.decided: Decided | None = None

    async def run(self, operations: Sequence[Operation], *, revenue: int) -> list[Outcome]:
        self.decided = None  # what became of an earlier batch says nothing of this one
        used = await self._connected()
        try:
            return await used.run(books.script(operations, revenue=revenue))
        except BaseException:
            self.decided, self._open = used.decided, None
            raise

    async def fate(self, decided: Decided) -> Fate:
        if not decided.transaction:  # it had locked no account: there was no money in it
            return Fate.UNDONE
        try:
            for _ in range(FATE_AT_MOST):
                found = await (await self._connected()).fate(decided)
                if found is not Fate.UNKNOWN:
                    return found
                await asyncio.sleep(FATE_EVERY)  # the server is at its last statement, or has not seen us go
        except psycopg.errors.InvalidParameterValue:  # its number is yet to come: the server was killed, and lost it
            self._open = None
            return Fate.UNDONE
        except psycopg.Error:
            self._open = None
        return Fate.UNKNOWN

    async def _connected(self) -> postgres.AsyncConnection:
        if self._open is not None and self._open.lost:
            await self.close()
        if self._open is None:
            self._open = await postgres.AsyncConnection.open(_parameters())
        return self._open

    async def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


class _SqliteConnection:
    """SQLite blocks while it writes, so it has a thread of its own. A commit that raised was rolled back."""

    patience = 10.0  # a file is never away: another process writes, or the disk is slow
    decided: Decided | None = None

    def __init__(self) -> None:
        self._thread = SerialThread("ledger")
        self._raw: sqlite3.Connection | None = None

    async def run(self, operations: Sequence[Operation], *, revenue: int) -> list[Outcome]:
        return await self._thread.run(self._run, operations, revenue)

    def _run(self, operations: Sequence[Operation], revenue: int) -> list[Outcome]:
        if self._raw is None:
            self._raw = sqlite.open_connection(str(connections[DEFAULT_DB_ALIAS].get_connection_params()["database"]))
        return sqlite.run(self._raw, books.script(operations, revenue=revenue), own_transaction=True)

    async def fate(self, decided: Decided) -> Fate:
        return Fate.UNDONE

    async def close(self) -> None:
        await self._thread.run(self._close)
        self._thread.end()

    def _close(self) -> None:
        if self._raw is not None:
            self._raw.close()


def _parameters() -> dict[str, Any]:
    """What libpq wants to know, of what Django's connection does."""
    parameters = connections[DEFAULT_DB_ALIAS].get_connection_params()
    for django_only in ("cursor_factory", "context", "prepare_threshold"):
        parameters.pop(django_only, None)
    return parameters
