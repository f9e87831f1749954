"""Which database the books are on, and how a batch gets there: from an event loop, or inside Django's transaction."""

import asyncio
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import django.db
import psycopg
from django.db import DEFAULT_DB_ALIAS, connections

from billing import books, postgres, sqlite
from billing.operations import Operation, Outcome

DATABASE_ERRORS = (psycopg.Error, sqlite3.Error, django.db.Error)
# What the operations themselves caused: trying again cannot help.
DEFECTS = (psycopg.IntegrityError, psycopg.DataError, sqlite3.IntegrityError, sqlite3.DataError)
DUPLICATES = (psycopg.errors.UniqueViolation, sqlite3.IntegrityError)


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


class Connection(Protocol):
    """The one connection of an event loop's ledger writer. Opened when needed, and again after it broke."""

    async def run(self, operations: Sequence[Operation], *, revenue: int) -> list[Outcome]:
        """Raises the driver's error; then `fate` says what became of the batch."""
        ...

    async def fate(self) -> list[Outcome] | None:
        """The outcomes of the batch that failed last, where it had been committed all the same; else None."""
        ...

    async def close(self) -> None: ...


def new_connection() -> Connection:
    return _PostgresConnection() if is_postgres() else _SqliteConnection()


class _PostgresConnection:
    def __init__(self) -> None:
        self._open: postgres.AsyncConnection | None = None
        self._failed: postgres.AsyncConnection | None = None

    async def run(self, operations: Sequence[Operation], *, revenue: int) -> list[Outcome]:
        self._failed = None  # what became of an earlier batch says nothing of this one
        if self._open is not None and self._open.lost:
            await self.close()
        if self._open is None:
            self._open = postgres.AsyncConnection(await asyncio.to_thread(_connect_postgres))
        try:
            return await self._open.run(books.script(operations, revenue=revenue))
        except BaseException:
            self._failed, self._open = self._open, None
            raise

    async def fate(self) -> list[Outcome] | None:
        decided = self._failed.decided if self._failed is not None else None
        if decided is None or not await asyncio.to_thread(_was_committed, decided.transaction):
            return None
        return decided.outcomes

    async def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


class _SqliteConnection:
    """SQLite blocks while it writes, so it has a thread of its own."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="ledger")
        self._raw: sqlite3.Connection | None = None

    async def run(self, operations: Sequence[Operation], *, revenue: int) -> list[Outcome]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, operations, revenue)

    def _run(self, operations: Sequence[Operation], revenue: int) -> list[Outcome]:
        if self._raw is None:
            self._raw = sqlite.open_connection(str(connections[DEFAULT_DB_ALIAS].get_connection_params()["database"]))
        return sqlite.run(self._raw, books.script(operations, revenue=revenue), own_transaction=True)

    async def fate(self) -> list[Outcome] | None:
        return None  # a commit that raised was rolled back

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown()

    def _close(self) -> None:
        if self._raw is not None:
            self._raw.close()
            self._raw = None


def _connect_postgres() -> "psycopg.Connection[Any]":
    parameters = connections[DEFAULT_DB_ALIAS].get_connection_params()
    for django_only in ("cursor_factory", "context", "prepare_threshold"):
        parameters.pop(django_only, None)
    options = "-c synchronous_commit=on -c lock_timeout=2s -c statement_timeout=5s -c timezone=UTC"
    return psycopg.connect(**{**parameters, "options": options, "connect_timeout": 2}, autocommit=True)


def _was_committed(transaction: str) -> bool:
    try:
        with _connect_postgres() as connection:
            return postgres.was_committed(connection, transaction)
    except psycopg.Error:
        return False
