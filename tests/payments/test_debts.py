"""Debts beside disputes: a wallet runs again when neither is left."""

from billing import debts, ledger, selectors
from billing.models import Account, AccountKind
from billing.payments.models import PaymentReversal
from tests.payments import scripted
from tests.payments.conftest import Till


def test_a_payment_that_was_disputed_meanwhile_keeps_the_wallet_stopped(till: Till) -> None:
    debt = Account.objects.get(kind=AccountKind.RECEIVABLE, team=till.account.team_id)
    spent, disputed = till.paid("20"), till.paid("10")
    ledger.adjust(wallet=till.account, amount=-till.account.balance, actor="root", reason="spent")
    till.tell(scripted.event("refund.created", scripted.refund(spent.receipt, 2000)))
    assert till.account.frozen == f"payment {spent.pk} was taken back and could not be paid"
    till.tell(scripted.event("charge.dispute.created", scripted.dispute(disputed.receipt, 1000)))
    assert PaymentReversal.objects.count() == 2
    ledger.credit(wallet=till.account, amount=40 * 10**9, actor="tests", reason="more")
    assert debts.settle(debt)
    assert (till.account.balance, selectors.owed(debt)) == (10 * 10**9, 0)
    assert till.account.frozen == f"payment {disputed.pk} is disputed"


def test_where_a_dispute_is_won_and_something_is_owed_besides_the_wallet_runs_once_that_is_paid(till: Till) -> None:
    debt = Account.objects.get(kind=AccountKind.RECEIVABLE, team=till.account.team_id)
    refunded, disputed = till.paid("30"), till.paid("20")
    till.spend("30")
    dispute = scripted.dispute(disputed.receipt, 2000)
    till.tell(scripted.event("charge.dispute.created", dispute))
    till.tell(scripted.event("refund.created", scripted.refund(refunded.receipt, 3000)))
    assert till.account.frozen == f"payment {disputed.pk} is disputed"
    till.tell(scripted.event("charge.dispute.closed", dispute | {"status": "won"}))
    assert selectors.owed(debt) == 10 * 10**9
    assert till.account.frozen == "what the team owes could not be paid"
    ledger.credit(wallet=till.account, amount=40 * 10**9, actor="tests", reason="more")
    assert debts.settle(debt)
    assert (selectors.owed(debt), till.account.frozen) == (0, "")
