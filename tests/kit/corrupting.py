"""A change of the tables by hand, and what the audit says of it."""

from django.db import connection, transaction

from billing import audit


def found(table: str, change: str, *values: int) -> str:
    """The audit's findings after `UPDATE table SET change`, a line each; everything is undone."""
    return _after(table, f"UPDATE {table} SET {change}", values)


def found_without(table: str, condition: str, *values: int) -> str:
    """As `found`, after rows were deleted."""
    return _after(table, f"DELETE FROM {table} WHERE {condition}", values)


def _after(table: str, sql: str, values: tuple[int, ...]) -> str:
    with transaction.atomic(), connection.cursor() as cursor:
        _drop_triggers(table)
        cursor.execute(sql, values)
        assert cursor.rowcount > 0, sql
        said = "\n".join(str(finding) for finding in audit.run())
        transaction.set_rollback(True)
    return said


def _drop_triggers(table: str) -> None:
    """What was written is not changed: the tables themselves refuse it."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
            return
        cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s", [table])
        for (name,) in cursor.fetchall():
            cursor.execute(f"DROP TRIGGER {name}")
