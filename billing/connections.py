"""Connections of the books' own: to run batches in a writer's thread, or inside Django's current transaction."""

import sqlite3
from typing import Any

import psycopg
from django.db import DEFAULT_DB_ALIAS, connections

from billing.books import PostgresStore, SqliteStore, Store
from billing.operations import Outcome


def is_postgres() -> bool:
    return connections[DEFAULT_DB_ALIAS].vendor == "postgresql"


def current_store() -> Store:
    """A store on this thread's Django connection; the caller is inside `transaction.atomic()`."""
    wrapper = connections[DEFAULT_DB_ALIAS]
    wrapper.ensure_connection()
    raw: Any = wrapper.connection
    if is_postgres():
        return PostgresStore(raw, own_transaction=False)
    return SqliteStore(raw, own_transaction=False)


class LedgerConnection:
    """The one connection of a process's writer thread, opened when needed and again after it broke."""

    def __init__(self) -> None:
        self._raw: Any = None
        self._store: PostgresStore | SqliteStore | None = None

    def store(self) -> PostgresStore | SqliteStore:
        """Raises the driver's OperationalError where the database cannot be reached."""
        if self._store is None:
            if is_postgres():
                self._raw = _open_postgres()
                self._store = PostgresStore(self._raw, own_transaction=True)
            else:
                self._raw = _open_sqlite()
                self._store = SqliteStore(self._raw, own_transaction=True)
        return self._store

    def abandon(self) -> list[Outcome] | None:
        """Ends the transaction that failed. Its outcomes where it had committed all the same, else None."""
        if isinstance(self._raw, sqlite3.Connection):
            if self._raw.in_transaction:
                self._raw.rollback()
            return None
        decided = self._store.decided if isinstance(self._store, PostgresStore) else None
        self.close()
        if decided is not None and self._committed(decided.transaction):
            return decided.outcomes
        return None

    def _committed(self, transaction: str) -> bool:
        """Asks PostgreSQL for the fate of a transaction whose COMMIT was not answered (`pg_xact_status`)."""
        try:
            self.store()
            with psycopg.Cursor(self._raw) as cursor:
                row = cursor.execute("SELECT pg_xact_status(%s::xid8)", (transaction,)).fetchone()
        except psycopg.Error:
            self.close()
            return False
        return row is not None and row[0] == "committed"

    def close(self) -> None:
        if self._raw is not None:
            try:
                self._raw.close()
            except (psycopg.Error, sqlite3.Error):
                pass
        self._raw = self._store = None


def _open_postgres() -> "psycopg.Connection[Any]":
    parameters = connections[DEFAULT_DB_ALIAS].get_connection_params()
    for django_only in ("cursor_factory", "context", "prepare_threshold"):
        parameters.pop(django_only, None)
    options = "-c synchronous_commit=on -c lock_timeout=2s -c statement_timeout=5s -c timezone=UTC"
    return psycopg.connect(**{**parameters, "options": options, "connect_timeout": 2}, autocommit=True)


def _open_sqlite() -> sqlite3.Connection:
    parameters = connections[DEFAULT_DB_ALIAS].get_connection_params()
    raw = sqlite3.connect(parameters["database"], timeout=20, isolation_level=None, uri=True, check_same_thread=False)
    raw.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;")
    return raw
