"""One moment of the books to read from, for as long as it takes, without keeping anybody from writing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import connection, transaction

_AT_ONCE = 2000  # rows


@contextmanager
def taken() -> Iterator[None]:
    """Everything that is read inside is of one moment. Inside a transaction, that one's own snapshot counts."""
    if connection.in_atomic_block or _reading():
        yield
    elif connection.vendor == "postgresql":
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            yield
    else:
        with _deferred():
            yield


def rows(sql: str, parameters: Sequence[Any] = ()) -> Iterator[Any]:
    """The statement's rows, few at a time."""
    with connection.cursor() as cursor:
        cursor.execute(sql, list(parameters))
        while found := cursor.fetchmany(_AT_ONCE):
            yield from found


@contextmanager
def _deferred() -> Iterator[None]:
    """Django would begin IMMEDIATE, as settings say, and lock out every writer; in WAL a reader needs no lock."""
    connection.ensure_connection()
    with connection.cursor() as cursor:
        cursor.execute("BEGIN DEFERRED")
        try:
            yield
        finally:
            cursor.execute("ROLLBACK")


def _reading() -> bool:
    """Whether SQLite has a transaction that Django knows nothing of: the one below."""
    return connection.vendor == "sqlite" and connection.connection is not None and connection.connection.in_transaction
