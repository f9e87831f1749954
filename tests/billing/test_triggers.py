"""What is written once stays as it was written: no migration has taken a trigger away."""

import pytest
from django.db import DatabaseError, connection

from billing import budgets
from billing.models import BudgetOwner
from tests.billing.conftest import Ledger

ONCE = (
    ("billing_transfer", "UPDATE"),
    ("billing_transfer", "DELETE"),
    ("billing_priceversion", "UPDATE"),
    ("billing_priceversion", "DELETE"),
    ("billing_account", "DELETE"),
    ("billing_budgetchange", "UPDATE"),
    ("billing_budgetchange", "DELETE"),
)


def test_the_database_refuses_to_change_what_is_written_once(book: Ledger) -> None:
    budgets.set_cap(owner=BudgetOwner.KEY, owner_id=1, window="day", cap=5)
    for table, verb in ONCE:
        sql = f"UPDATE {table} SET id = id" if verb == "UPDATE" else f"DELETE FROM {table}"
        with pytest.raises(DatabaseError, match="append-only"), connection.cursor() as cursor:
            cursor.execute(sql)
