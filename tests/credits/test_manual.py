"""Adjustments: with a reason, by two where it is much, once; and credit limits, never below what is in use."""

import datetime as dt
import uuid
from collections import Counter
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from billing import audit, ledger, money
from billing.credit_models import Adjustment, AdjustmentKind
from billing.models import Transfer
from billing.payments import manual
from tests.credits.conftest import UNIT, Cast
from tests.credits.test_redeem import at_once

BALANCE, LIMIT = AdjustmentKind.BALANCE, AdjustmentKind.CREDIT_LIMIT


def wanted(cast: Cast, amount: int, kind: AdjustmentKind = BALANCE, **fields: Any) -> manual.Wanted:
    before = cast.wallet.credit_limit if kind is LIMIT else None
    values = {"account": cast.wallet.pk, "kind": kind, "amount": amount, "reason": "goodwill", "before": before}
    return manual.Wanted(**{**values, **fields})


def ask(cast: Cast, amount: int, kind: AdjustmentKind = BALANCE, **fields: Any) -> Adjustment:
    return manual.ask(wanted=wanted(cast, amount, kind, **fields), reference=uuid.uuid4(), user=cast.root.pk)


@pytest.fixture(autouse=True)
def _small(settings: Any) -> None:
    settings.SECOND_ADMIN_ABOVE = 100 * UNIT


def test_a_small_change_is_made_at_once_and_counts_once(cast: Cast) -> None:
    reference, change = uuid.uuid4(), wanted(cast, 7 * UNIT)
    row = manual.ask(wanted=change, reference=reference, user=cast.root.pk)
    with pytest.raises(manual.AlreadyAsked) as again:
        manual.ask(wanted=change, reference=reference, user=cast.root.pk)
    assert again.value.adjustment == row
    transfer = Transfer.objects.get()
    assert (row.state, row.large, row.transfer, row.decided_by) == ("done", False, transfer, cast.root)
    assert (transfer.kind, transfer.amount, transfer.reference) == ("adjustment", 7 * UNIT, str(reference))
    assert (transfer.actor, transfer.reason) == ("root@example.com", "goodwill")
    ask(cast, -3 * UNIT)
    assert cast.wallet.balance == 4 * UNIT
    assert audit.run() == []


def test_a_large_one_waits_for_another_administrator_and_is_made_once(cast: Cast) -> None:
    row = ask(cast, 101 * UNIT)
    assert (row.state, row.large, cast.wallet.balance) == ("pending", True, 0)
    with pytest.raises(manual.NotAdjusted, match="Another administrator"):
        manual.approve(adjustment=row.pk, user=cast.root.pk)
    with pytest.raises(manual.NotAdjusted, match="Another administrator"):
        manual.reject(adjustment=row.pk, user=cast.root.pk)
    with pytest.raises(manual.NotAdjusted, match="Only whoever"):
        manual.withdraw(adjustment=row.pk, user=cast.boss.pk)
    assert manual.pending() == 1
    done = manual.approve(adjustment=row.pk, user=cast.boss.pk, note="seen")
    assert (done.state, done.decided_by, done.note) == ("done", cast.boss, "seen")
    assert Transfer.objects.get().actor == "root@example.com, boss@example.com"
    for verb in (manual.approve, manual.reject):
        with pytest.raises(manual.NotAdjusted, match="decided already"):
            verb(adjustment=row.pk, user=cast.boss.pk)
    assert cast.wallet.balance == 101 * UNIT
    assert audit.run() == []


def test_what_is_rejected_or_withdrawn_changes_nothing(cast: Cast) -> None:
    first, second = ask(cast, 500 * UNIT), ask(cast, 500 * UNIT)
    manual.reject(adjustment=first.pk, user=cast.boss.pk)
    manual.withdraw(adjustment=second.pk, user=cast.root.pk)
    for row in (first, second):
        with pytest.raises(manual.NotAdjusted):
            manual.approve(adjustment=row.pk, user=cast.boss.pk)
    assert Counter(Adjustment.objects.values_list("state", flat=True)) == {"rejected": 1, "withdrawn": 1}
    assert not Transfer.objects.exists()


def test_a_large_sum_in_small_parts_is_a_large_sum(cast: Cast) -> None:
    states = [ask(cast, 40 * UNIT).state for _ in range(3)]
    assert states == ["done", "done", "pending"]
    assert ask(cast, -30 * UNIT).state == "pending"  # taking counts as giving does
    assert ask(cast, 20 * UNIT).state == "done"
    Adjustment.objects.filter(state="done").update(requested_at=timezone.now() - dt.timedelta(hours=25))
    assert ask(cast, 100 * UNIT).state == "done"


def test_parts_that_come_at_once_are_a_large_sum_too(cast: Cast) -> None:
    said = at_once(10, lambda n: ask(cast, 40 * UNIT).state)
    assert Counter(said) == {"done": 2, "pending": 8}
    assert cast.wallet.balance == 80 * UNIT


def test_of_many_approvals_at_once_one_counts(cast: Cast) -> None:
    row = ask(cast, 300 * UNIT)
    said = at_once(8, lambda n: manual.approve(adjustment=row.pk, user=cast.boss.pk))
    assert Counter(type(one).__name__ for one in said) == {"Adjustment": 1, "NotAdjusted": 7}
    assert cast.wallet.balance == 300 * UNIT


def test_what_the_wallet_cannot_give_waits_on(cast: Cast) -> None:
    ask(cast, 50 * UNIT)
    with pytest.raises(manual.NotAdjusted, match="less than that"):
        ask(cast, -51 * UNIT)
    manual.approve(adjustment=ask(cast, 450 * UNIT).pk, user=cast.boss.pk)
    row = ask(cast, -500 * UNIT)
    ledger.adjust(wallet=cast.wallet, amount=-1, actor="x", reason="a call meanwhile")
    with pytest.raises(manual.NotAdjusted, match="less than that"):
        manual.approve(adjustment=row.pk, user=cast.boss.pk)
    row.refresh_from_db()
    assert (row.state, row.transfer_id) == ("pending", None)
    ledger.adjust(wallet=cast.wallet, amount=1, actor="x", reason="and back")
    manual.approve(adjustment=row.pk, user=cast.boss.pk)
    assert cast.wallet.balance == 0


def test_a_credit_limit_is_granted_raised_and_lowered_with_its_history(cast: Cast) -> None:
    assert ask(cast, 80 * UNIT, LIMIT).state == "done"
    large = ask(cast, 200 * UNIT, LIMIT)
    assert (large.state, cast.wallet.credit_limit) == ("pending", 80 * UNIT)
    manual.approve(adjustment=large.pk, user=cast.boss.pk)
    assert cast.wallet.credit_limit == 280 * UNIT
    assert ask(cast, -280 * UNIT, LIMIT).state == "done"  # lowering gives nothing away
    assert cast.wallet.credit_limit == 0
    assert list(Adjustment.objects.order_by("pk").values_list("before", "amount")) == [
        (0, 80 * UNIT), (80 * UNIT, 200 * UNIT), (280 * UNIT, -280 * UNIT),
    ]  # fmt: skip
    assert not Transfer.objects.exists()


def test_a_credit_limit_is_never_below_what_is_in_use(cast: Cast) -> None:
    ask(cast, 50 * UNIT, LIMIT)
    ask(cast, -20 * UNIT)
    with pytest.raises(manual.NotAdjusted) as refused:
        ask(cast, -31 * UNIT, LIMIT)
    assert refused.value.facts["used"] == "20.00"
    assert not ledger.set_credit_limit(wallet=cast.wallet, before=50 * UNIT, limit=20 * UNIT - 1)
    ask(cast, -30 * UNIT, LIMIT)
    assert (cast.wallet.credit_limit, cast.wallet.balance) == (20 * UNIT, -20 * UNIT)
    assert audit.run() == []


def test_a_limit_that_changed_meanwhile_is_not_changed_again(cast: Cast) -> None:
    waiting = ask(cast, 150 * UNIT, LIMIT)
    ask(cast, 10 * UNIT, LIMIT)
    with pytest.raises(manual.NotAdjusted) as refused:
        manual.approve(adjustment=waiting.pk, user=cast.boss.pk)
    assert refused.value.facts["limit"] == "10.00"
    with pytest.raises(manual.NotAdjusted):
        ask(cast, 5 * UNIT, LIMIT, before=0)
    assert cast.wallet.credit_limit == 10 * UNIT


def test_what_cannot_be_is_refused_in_words(cast: Cast) -> None:
    platform = ledger.platform_account("promo").pk
    wrong: list[dict[str, Any]] = [
        {"amount": 0}, {"amount": 1, "reason": "  "}, {"amount": -1}, {"amount": 1, "account": platform},
        {"amount": 1, "account": 10**9}, {"amount": money.LIMIT}, {"amount": -1, "kind": LIMIT},
    ]  # fmt: skip
    for fields in wrong:
        with pytest.raises((manual.NotAdjusted, money.InvalidAmount)):
            ask(cast, **fields)
        with pytest.raises((manual.NotAdjusted, money.InvalidAmount)):
            manual.preview(wanted=wanted(cast, **fields), user=cast.root.pk)
    assert not Adjustment.objects.exists()


def test_the_preview_is_what_comes_to_be(cast: Cast) -> None:
    ask(cast, 10 * UNIT)
    shown = manual.preview(wanted=wanted(cast, 60 * UNIT, LIMIT), user=cast.root.pk)
    assert shown == manual.Preview(10 * UNIT, 60 * UNIT, 70 * UNIT, False)
    assert manual.preview(wanted=wanted(cast, 91 * UNIT), user=cast.root.pk).large
    assert manual.preview(wanted=wanted(cast, -4 * UNIT), user=cast.root.pk).balance == 6 * UNIT
    assert cast.wallet.balance == 10 * UNIT


WRONG = (
    "UPDATE billing_adjustment SET amount = 0",
    "UPDATE billing_adjustment SET reason = ''",
    "UPDATE billing_adjustment SET state = 'done', decided_by_id = requested_by_id, decided_at = CURRENT_TIMESTAMP",
    "UPDATE billing_adjustment SET state = 'rejected', decided_by_id = requested_by_id, decided_at = CURRENT_TIMESTAMP",
    "UPDATE billing_adjustment SET state = 'done'",
    "UPDATE billing_adjustment SET before = 5",
    "UPDATE billing_adjustment SET kind = 'credit_limit'",
)


def test_the_database_refuses_what_cannot_be(cast: Cast) -> None:
    ask(cast, 300 * UNIT)
    for statement in WRONG:
        with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
