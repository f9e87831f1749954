"""The audit finds what is wrong between the books and what an operator gives: codes and adjustments."""

import uuid

from billing import audit, ledger
from billing.credit_models import AdjustmentKind
from billing.models import Transfer
from billing.payments import manual
from tests.credits.conftest import UNIT, Cast
from tests.kit.corrupting import found


def test_a_redeemed_code_and_its_transfer_have_to_agree(cast: Cast) -> None:
    _, (text, _) = cast.batch(2)
    cast.redeem(text)
    _, team = cast.other("bob")
    assert audit.run() == []
    said = found("billing_redeembatch", "amount = amount + 1")
    assert "of a code that is redeemed, worth 5000000001" in said
    unused = "state = 'unused', team_id = NULL, user_id = NULL, redeemed_at = NULL, team_turn = NULL, user_turn = NULL"
    assert "no code code:" in found("billing_redeemcode", f"{unused}, transfer_id = NULL WHERE state = 'redeemed'")
    assert "is redeemed, no transfer" in found("billing_redeemcode", "transfer_id = NULL WHERE state = 'redeemed'")
    assert "of a code that is redeemed" in found("billing_redeemcode", "team_id = %s WHERE state = 'redeemed'", team.pk)
    assert "of a code that is redeemed" in found("billing_transfer", "reference = 'code:0'")
    assert "is redeemed, transfer of kind adjustment" in found("billing_transfer", "kind = 'adjustment'")


def test_a_transfer_that_says_redeemed_and_was_no_code_is_found(cast: Cast) -> None:
    ledger.adjust(wallet=cast.wallet, amount=UNIT, actor="root", reason="goodwill")
    assert audit.run() == []
    assert "no code" in found("billing_transfer", "kind = 'redemption'")


def test_an_adjustment_and_its_transfer_have_to_agree(cast: Cast) -> None:
    wanted = manual.Wanted(account=cast.wallet.pk, kind=AdjustmentKind.BALANCE, amount=2 * UNIT, reason="goodwill")
    manual.ask(wanted=wanted, reference=uuid.uuid4(), user=cast.root.pk)
    assert audit.run() == []
    assert Transfer.objects.get().amount == 2 * UNIT
    assert "of 2000000001 is done, adjustment of 2000000000" in found("billing_adjustment", "amount = amount + 1")
    assert "of -2000000000 is done" in found("billing_adjustment", "amount = -amount")
    assert "is done, no transfer" in found("billing_adjustment", "transfer_id = NULL")
    assert "is pending, adjustment of 2000000000" in found(
        "billing_adjustment", "state = 'pending', decided_by_id = NULL, decided_at = NULL"
    )
