"""What a command needs of the database before it begins."""

from django.conf import settings
from django.core.management.base import CommandError
from django.db import DatabaseError

from billing import ledger
from portal import readiness


def check() -> None:
    """Raises CommandError where the database cannot be reached, lacks migrations or is of another currency."""
    check_tables()
    if other := ledger.other_currency():
        raise CommandError(f"The books are kept in {other}, and CURRENCY is {settings.CURRENCY}.")


def check_tables() -> None:
    """Raises CommandError where the database cannot be reached or lacks migrations."""
    try:
        pending = readiness.pending_migrations()
    except DatabaseError as error:
        raise CommandError("The database cannot be reached. Check DATABASE_URL.") from error
    if pending:
        raise CommandError(f"The database lacks {len(pending)} migrations. Run `manage.py prepare` first.")
