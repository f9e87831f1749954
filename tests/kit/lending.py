"""Databases that are lent to a test and come back. Those on SQLite are files, and made anew each time.

To make one costs PostgreSQL a file for each table and index, a thousand of them; to empty one, its few rows. What comes
back is lent again only where nothing but rows had changed, and where what a fresh one has is there, and nothing else.
"""

from typing import Any

import psycopg
from psycopg import sql

from billing import ledger
from tests.kit import databases
from tests.kit.services import services

_spare: list[str] = []
_fresh: list[tuple[Any, Any]] = []  # the shape and the contents of a new one


def take(kind: str) -> str:
    """The URL of a database as new."""
    if kind == "sqlite":
        return databases.new(kind)
    if _spare:
        return _spare.pop()
    url = databases.new(kind)
    if not _fresh:
        with _connected(url) as connection:
            _fresh.append((_shape(connection), _contents(connection)))
    return url


def give_back(url: str) -> None:
    """Nobody needs it any more; whoever is still connected is thrown out."""
    ledger.forget_revenue_account()  # of a database by this name
    if url.startswith("postgres") and emptied(url):
        _spare.append(url)
    else:
        databases.drop(url)


def emptied(url: str) -> bool:
    """Takes all rows away but those of a fresh one. False where more than rows had changed."""
    shape, contents = _fresh[0]
    with _connected(url) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        if _shape(connection) != shape:
            return False
        connection.execute("SET session_replication_role = replica")  # neither triggers nor references
        for table in _with_rows(connection):
            if table not in contents:
                connection.execute(sql.SQL("DELETE FROM {}").format(sql.Identifier(table)))
        _rewind(connection, contents)
        return bool(_contents(connection) == contents)


def _connected(url: str) -> psycopg.Connection[Any]:
    return services.postgres.connect(url.rsplit("/", 1)[1])


def _shape(connection: psycopg.Connection[Any]) -> Any:
    """Tables, indexes, constraints and triggers, counted, and what each is; another one is another number."""
    found = connection.execute(
        """
        SELECT (SELECT sum(hashtext(relname::text || relkind::text)::bigint) FROM pg_class WHERE relnamespace = n),
               (SELECT sum(hashtext(conname::text || pg_get_constraintdef(oid))::bigint)
                FROM pg_constraint WHERE connamespace = n),
               (SELECT sum(hashtext(tgname::text || tgenabled::text)::bigint) FROM pg_trigger WHERE NOT tgisinternal),
               (SELECT sum(hashtext(attname::text || attnotnull::text)::bigint)
                FROM pg_attribute JOIN pg_class ON oid = attrelid WHERE relnamespace = n AND attnum > 0)
        FROM (SELECT 'public'::regnamespace::oid AS n) AS space"""
    )
    return found.fetchone()


def _with_rows(connection: psycopg.Connection[Any]) -> list[str]:
    tables = connection.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'"
    ).fetchall()
    each = [
        sql.SQL("SELECT {} WHERE EXISTS (SELECT 1 FROM {})").format(sql.Literal(name), sql.Identifier(name))
        for (name,) in tables
    ]
    return [name for (name,) in connection.execute(sql.SQL(" UNION ALL ").join(each))]


def _contents(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """What is in the tables that have rows."""
    each = [
        sql.SQL("SELECT {}, (SELECT md5(string_agg(row::text, ',' ORDER BY row::text)) FROM {} AS row)").format(
            sql.Literal(name), sql.Identifier(name)
        )
        for name in _with_rows(connection)
    ]
    return dict(connection.execute(sql.SQL(" UNION ALL ").join(each)).fetchall())


def _rewind(connection: psycopg.Connection[Any], contents: dict[str, Any]) -> None:
    """Numbers begin at 1 again, but in tables that a fresh database has rows in."""
    rows = connection.execute(
        """
        SELECT s.relname FROM pg_class s JOIN pg_depend d ON d.objid = s.oid AND d.deptype IN ('a', 'i')
        JOIN pg_class t ON t.oid = d.refobjid JOIN pg_sequences q ON q.sequencename = s.relname
        WHERE s.relkind = 'S' AND q.schemaname = 'public' AND q.last_value IS NOT NULL AND NOT t.relname = ANY(%s)""",
        [list(contents)],
    )
    for (sequence,) in rows.fetchall():
        connection.execute(sql.SQL("ALTER SEQUENCE {} RESTART").format(sql.Identifier(sequence)))
