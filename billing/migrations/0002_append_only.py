"""Transfers and price versions are written once, accounts stay: the database refuses to change or delete them."""

from collections.abc import Iterable
from typing import Any

from django.db import migrations

REFUSED = (
    ("billing_transfer", "UPDATE"),
    ("billing_transfer", "DELETE"),
    ("billing_priceversion", "UPDATE"),
    ("billing_priceversion", "DELETE"),
    ("billing_account", "DELETE"),
)

POSTGRES = """
CREATE OR REPLACE FUNCTION pisces_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append-only; write a new row that corrects the old one', TG_TABLE_NAME;
END $$;
"""


def install(apps: Any, schema_editor: Any) -> None:
    if schema_editor.connection.vendor == "postgresql":
        schema_editor.execute(POSTGRES, params=None)
    install_for(schema_editor, REFUSED)


def remove(apps: Any, schema_editor: Any) -> None:
    remove_for(schema_editor, REFUSED)


def install_for(schema_editor: Any, refused: Iterable[tuple[str, str]]) -> None:
    """Triggers that refuse these changes: table and verb each."""
    postgres = schema_editor.connection.vendor == "postgresql"
    for table, verb in refused:
        action = (
            "FOR EACH ROW EXECUTE FUNCTION pisces_refuse_change()"
            if postgres
            else f"BEGIN SELECT RAISE(ABORT, '{table} is append-only'); END"
        )
        schema_editor.execute(f"CREATE TRIGGER {_name(table, verb)} BEFORE {verb} ON {table} {action}", params=None)


def remove_for(schema_editor: Any, refused: Iterable[tuple[str, str]]) -> None:
    postgres = schema_editor.connection.vendor == "postgresql"
    for table, verb in refused:
        schema_editor.execute(f"DROP TRIGGER {_name(table, verb)}" + (f" ON {table}" if postgres else ""), params=None)


def _name(table: str, verb: str) -> str:
    return f"{table}_no_{verb.lower()}"


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]
    operations = [migrations.RunPython(install, remove)]
