"""The audit finds every kind of corruption that somebody may plant, and names the check and the row."""

import pytest
from django.db import connection

from billing import audit, budgets
from billing.models import BudgetOwner
from billing.operations import CloseHold
from tests.billing.conftest import Ledger


def corrupt(statement: str) -> None:
    """Carries out what triggers, constraints and foreign keys would refuse, as somebody with the file could."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SET session_replication_role = replica")
            for table, name in (("account", "account_available_not_negative"), ("hold", "hold_charged_when_settled")):
                cursor.execute(f"ALTER TABLE billing_{table} DROP CONSTRAINT IF EXISTS {name}")
            cursor.execute("ALTER TABLE billing_transfer DROP CONSTRAINT IF EXISTS transfer_amount_positive")
        else:
            cursor.execute("PRAGMA ignore_check_constraints = ON")
            cursor.execute("PRAGMA foreign_keys = OFF")
            cursor.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")
            for (name,) in cursor.fetchall():
                cursor.execute(f"DROP TRIGGER {name}")
        cursor.execute(statement)
        assert cursor.rowcount > 0


WALLET = "kind = 'wallet'"
NEW = "INSERT INTO billing_transfer (kind, debit_id, credit_id, amount, reference, actor, reason, created_at) "
OTHER = "SELECT 'charge', (SELECT id FROM billing_account WHERE kind = 'payments'), credit_id, 1, reference || '0', "
PLANTED = {
    "a wallet's balance is the sum of its transfers": [
        f"UPDATE billing_account SET balance = balance + 1 WHERE {WALLET}",
        "DELETE FROM billing_transfer WHERE kind = 'credit'",
        "UPDATE billing_transfer SET amount = amount + 1 WHERE kind = 'charge'",
    ],
    "held is the sum of the open holds": [
        f"UPDATE billing_account SET held = held + 1 WHERE {WALLET}",
        "UPDATE billing_hold SET amount = amount - 1 WHERE state = 'dispatched'",
        "DELETE FROM billing_hold WHERE state = 'dispatched'",
    ],
    "nothing available below zero": [f"UPDATE billing_account SET balance = held - 1 WHERE {WALLET}"],
    "a settled hold has its charge, a void or open one none": [
        "UPDATE billing_hold SET charged = charged + 1 WHERE state = 'settled'",
        "DELETE FROM billing_transfer WHERE kind = 'charge'",
        "UPDATE billing_hold SET state = 'voided', charged = 0 WHERE state = 'settled'",
    ],
    "a charge debits the hold's own wallet": [
        "DELETE FROM billing_hold WHERE state = 'settled'",
        NEW + OTHER + "'', '', created_at FROM billing_transfer WHERE kind = 'charge'",
        "UPDATE billing_hold SET account_id = account_id + 1000 WHERE state = 'settled'",
    ],
    "every transfer has both accounts": [
        "DELETE FROM billing_account WHERE kind = 'payments'",
        "UPDATE billing_account SET currency = 'XXX' WHERE kind = 'revenue'",
        "UPDATE billing_transfer SET amount = -amount WHERE kind = 'charge'",
    ],
    "a budget equals what was spent in its window": [
        "UPDATE billing_budget SET used = used + 1",
        "UPDATE billing_hold SET budgets = '[]' WHERE state = 'settled'",
    ],
    "a budget's figures go together": ["UPDATE billing_budget SET held = held - 1"],
    "a resolved hold has its usage record, with the same cost": ["UPDATE billing_hold SET lease_owner = 'nobody'"],
}
CASES = [(check, number) for check, statements in PLANTED.items() for number in range(len(statements))]


@pytest.mark.parametrize(("check", "number"), CASES)
def test_planted_corruption_is_found(book: Ledger, check: str, number: int) -> None:
    budget = budgets.set_cap(owner=BudgetOwner.KEY, owner_id=1, window="total", cap=900)
    assert budget is not None
    settled = book.open(300, budgets=[budget.pk])
    voided = book.open(100)
    book.open(200, budgets=[budget.pk])
    book.run(CloseHold(settled, 120), CloseHold(voided, None))
    assert book.findings() == []
    corrupt(PLANTED[check][number])
    findings = audit.run()
    assert check in {finding.check for finding in findings}
    assert all(str(finding) for finding in findings)


def test_the_audit_writes_nothing_and_can_be_run_in_a_transaction_of_its_own(book: Ledger) -> None:
    book.open(10)
    assert book.findings() == book.findings() == []
