"""The audit finds what is wrong between payments and the books."""

from billing import audit, money
from billing.models import Transfer
from billing.payments.models import Payment
from tests.kit.corrupting import found
from tests.payments import scripted
from tests.payments.conftest import Till


def test_a_payment_and_its_transfers_have_to_agree(till: Till) -> None:
    payment = till.paid("20")
    till.tell(scripted.event("refund.created", scripted.refund(payment.receipt, 500)))
    assert audit.run() == []
    credit = Transfer.objects.get(kind="payment")
    back = Transfer.objects.get(kind="refund")
    assert "20000000000 credited of 20000000001" in found("billing_payment", "amount = amount + 1")
    assert "5000000000 taken of 4999999999" in found("billing_payment", "taken = taken - 1")
    unpaid = "state = 'failed', paid_at = NULL, receipt = '', taken = 0"
    assert "order is failed" in found("billing_payment", unpaid)
    table, its = "billing_transfer", " WHERE id = %s"
    assert "no order another" in found(table, "reference = 'another'" + its, credit.pk)
    assert "order is part_refunded" in found(table, "amount = amount + 1" + its, credit.pk)
    assert "no refund another" in found(table, "reference = 'another'" + its, back.pk)
    assert "dispute of a refund" in found(table, "kind = 'dispute'" + its, back.pk)
    assert Payment.objects.get().taken == 5 * money.NANO
