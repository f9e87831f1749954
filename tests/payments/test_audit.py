"""The audit finds what is wrong between payments and the books."""

from django.db import connection, transaction

from billing import audit, money
from billing.models import Transfer
from billing.payments.models import Payment
from tests.payments import scripted
from tests.payments.conftest import Till


def found(sql: str, *values: int) -> str:
    """What the audit says after a change by hand, which is undone."""
    table = sql.split()[1]
    with transaction.atomic(), connection.cursor() as cursor:
        if table == "billing_transfer":
            on = f" ON {table}" if connection.vendor == "postgresql" else ""
            cursor.execute(f"DROP TRIGGER {table}_no_update{on}")
        cursor.execute(sql, values)
        said = "\n".join(str(finding) for finding in audit.run())
        transaction.set_rollback(True)
    return said


def test_a_payment_and_its_transfers_have_to_agree(till: Till) -> None:
    payment = till.paid("20")
    till.tell(scripted.event("refund.created", scripted.refund(payment.receipt, 500)))
    assert audit.run() == []
    credit = Transfer.objects.get(kind="payment")
    back = Transfer.objects.get(kind="refund")
    row = f"UPDATE billing_payment SET {{}} WHERE receipt = '{payment.receipt}'"
    assert "20000000000 credited of 20000000001" in found(row.format("amount = amount + 1"))
    assert "5000000000 taken of 4999999999" in found(row.format("taken = taken - 1"))
    unpaid = "state = 'failed', paid_at = NULL, receipt = '', taken = 0"
    assert "order is failed" in found(row.format(unpaid))
    transfer = "UPDATE billing_transfer SET {} WHERE id = %s"
    assert "no order another" in found(transfer.format("reference = 'another'"), credit.pk)
    assert "order is part_refunded" in found(transfer.format("amount = amount + 1"), credit.pk)
    assert "no refund another" in found(transfer.format("reference = 'another'"), back.pk)
    assert "dispute of a refund" in found(transfer.format("kind = 'dispute'"), back.pk)
    assert Payment.objects.get().taken == 5 * money.NANO
