"""The smallest durable write: what a hold cannot be quicker than on this machine, whatever the ledger does.

A balance is changed and a row written, in one statement and its own commit, by nobody but us. One write begins every
fiftieth of a second, as rarely as calls do where first tokens are measured: what has run a moment ago is faster.
"""

import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psycopg

from billing import sqlite
from tests.kit.services import services

TABLES = (
    "CREATE TABLE wallet (id bigint PRIMARY KEY, held bigint)",
    "CREATE TABLE hold (id bigint PRIMARY KEY, amount bigint, facts text)",
    "INSERT INTO wallet VALUES (1, 0)",
)
FACTS = "x" * 300
EVERY = 0.02  # seconds


def writes(kind: str, count: int) -> list[float]:
    """The seconds that each of so many writes took."""
    with _WRITING[kind]() as write:
        times = []
        for number in range(count):
            time.sleep(EVERY)
            began = time.perf_counter()
            write(number)
            times.append(time.perf_counter() - began)
    return times


@contextmanager
def _postgres() -> Iterator[Callable[[int], None]]:
    services.postgres.execute("CREATE DATABASE smallest")
    try:
        with psycopg.connect(services.postgres.url("smallest"), autocommit=True) as connection:
            for table in TABLES:
                connection.execute(table.encode())
            raw = connection.pgconn
            both = "WITH taken AS (UPDATE wallet SET held = held + 1 WHERE id = 1) INSERT INTO hold VALUES ($1, 1, $2)"
            raw.prepare(b"both", both.encode())

            def write(number: int) -> None:
                done = raw.exec_prepared(b"both", [b"%d" % number, FACTS.encode()])
                assert done.status == psycopg.pq.ExecStatus.COMMAND_OK, done.error_message

            yield write
    finally:
        services.postgres.execute("DROP DATABASE smallest")


@contextmanager
def _sqlite() -> Iterator[Callable[[int], None]]:
    with tempfile.TemporaryDirectory() as folder, closing(_opened(Path(folder))) as connection:

        def write(number: int) -> None:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("UPDATE wallet SET held = held + 1 WHERE id = 1")
            connection.execute("INSERT INTO hold VALUES (?, 1, ?)", (number, FACTS))
            connection.execute("COMMIT")

        yield write


def _opened(folder: Path) -> sqlite3.Connection:
    connection = sqlite.open_connection(str(folder / "smallest.sqlite3"))
    for table in TABLES:
        connection.execute(table)
    return connection


_WRITING = {"postgres": _postgres, "sqlite": _sqlite}
