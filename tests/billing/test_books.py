"""Holds, charges, budgets and transfers on both databases: what a batch does, and what it refuses."""

import datetime as dt
import sqlite3
from typing import Any

import psycopg
import pytest
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone

from billing import budgets, holds, ids, ledger, money
from billing.books import HOLD
from billing.models import Account, Budget, BudgetOwner, Hold, PriceVersion, Revision, Transfer, TransferKind
from billing.operations import ActiveHold, CloseHold, Done, Record, Refusal, Refused, Row, Table
from tests.billing.conftest import Ledger


def cap(amount: int, window: str = "total", owner: int = 1) -> Budget:
    made = budgets.set_cap(owner=BudgetOwner.KEY, owner_id=owner, window=window, cap=amount)
    assert made is not None
    return made


# ---- holds ----------------------------------------------------------------------------------------------------------


def test_a_hold_reserves_and_a_settlement_takes_the_charge_and_gives_the_rest_back(book: Ledger) -> None:
    active = book.open(700)
    assert (book.wallet.balance, book.wallet.held) == (1000, 700)
    assert book.hold(active).state == "dispatched"
    assert book.run(CloseHold(active, 300)) == [Done()]
    assert (book.wallet.balance, book.wallet.held) == (700, 0)
    stored = book.hold(active)
    assert (stored.state, stored.charged, stored.facts) == ("settled", 300, {"x": 1})
    charge = Transfer.objects.get(kind="charge")
    assert (charge.amount, charge.reference, charge.debit_id) == (300, str(active.id), book.account)
    assert book.findings() == []


def test_a_void_gives_everything_back_and_writes_no_transfer(book: Ledger) -> None:
    active = book.open(700)
    book.run(CloseHold(active, None))
    assert (book.wallet.balance, book.wallet.held) == (1000, 0)
    assert book.hold(active).state == "voided"
    assert not Transfer.objects.filter(reference=str(active.id)).exists()
    assert book.findings() == []


def test_a_settlement_of_zero_is_a_settlement_without_a_transfer(book: Ledger) -> None:
    active = book.open(700)
    book.run(CloseHold(active, 0))
    assert book.hold(active).state == "settled"
    assert not Transfer.objects.filter(kind="charge").exists()
    assert book.findings() == []


@pytest.mark.parametrize("second", [300, 400, None])
def test_a_hold_is_closed_once(book: Ledger, second: int | None) -> None:
    active = book.open(700)
    book.open(200)
    assert book.run(CloseHold(active, 300), CloseHold(active, second)) == [Done(), Done(changed=False)]
    assert (book.wallet.balance, book.wallet.held, book.hold(active).charged) == (700, 200, 300)
    assert book.run(CloseHold(active, second)) == [Done(changed=False)]
    assert book.wallet.balance == 700
    assert book.findings() == []


def test_an_older_generation_can_close_nothing(book: Ledger) -> None:
    active = book.open(700)
    Hold.objects.filter(pk=active.id).update(generation=2)
    assert book.run(CloseHold(active, 300)) == [Done(changed=False)]
    assert book.wallet.held == 700
    newer = ActiveHold(active.id, active.account, active.amount, 2)
    assert book.run(CloseHold(active, 300), CloseHold(newer, 200)) == [Done(changed=False), Done()]
    assert (book.wallet.balance, book.wallet.held) == (800, 0)
    assert book.findings() == []


def test_admission_in_one_batch_stops_where_the_money_ends(book: Ledger) -> None:
    outcomes = book.run(*(book.opening(150) for _ in range(10)))
    assert [isinstance(outcome, ActiveHold) for outcome in outcomes] == [True] * 6 + [False] * 4
    assert outcomes[-1] == Refused(Refusal.BALANCE)
    assert book.wallet.held == 900


def test_a_partial_grant_gives_what_there_is_but_not_less_than_the_minimum(book: Ledger) -> None:
    first, second, third = (book.open(600, 100), book.opening(600, 100), book.opening(600, 100))
    granted, refused = book.run(second, third)
    assert first.amount == 600
    assert isinstance(granted, ActiveHold)
    assert granted.amount == 400
    assert refused == Refused(Refusal.BALANCE)
    assert book.findings() == []


def test_a_closing_in_a_batch_makes_room_for_the_openings_after_it(book: Ledger) -> None:
    active = book.open(1000)
    before, _, after = book.run(book.opening(500), CloseHold(active, 200), book.opening(500))
    assert before == Refused(Refusal.BALANCE)
    assert isinstance(after, ActiveHold)


@pytest.mark.parametrize("count", [2, 13, 64, 65, 141])
def test_a_batch_of_any_size_is_written_whole_and_in_its_order(book: Ledger, count: int) -> None:
    """Both databases write rows in several ways, by how many there are."""
    odd = 'a "quoted"\n\\ line'
    openings = [book.opening(2) for _ in range(count)]
    for number, opening in enumerate(openings):
        opening.facts["label"] = f"{number} {odd}"
    opened = [outcome for outcome in book.run(*openings) if isinstance(outcome, ActiveHold)]
    assert [book.hold(hold).facts["label"] for hold in opened] == [f"{number} {odd}" for number in range(count)]
    assert book.run(*(CloseHold(hold, 1) for hold in opened)) == [Done()] * count
    assert {(book.hold(hold).state, book.hold(hold).charged) for hold in opened} == {("settled", 1)}
    charges = Transfer.objects.filter(kind="charge").order_by("id").values_list("reference", flat=True)
    assert list(charges) == [str(hold.id) for hold in opened]
    assert (book.wallet.balance, book.wallet.held) == (1000 - count, 0)
    assert book.findings() == []


def test_credit_is_a_limit_below_zero(book: Ledger) -> None:
    Account.objects.filter(pk=book.account).update(credit_limit=500)
    active = book.open(1500)
    assert book.run(book.opening(1)) == [Refused(Refusal.BALANCE)]
    book.run(CloseHold(active, 1500))
    assert book.wallet.balance == -500
    assert book.findings() == []


def test_a_frozen_or_unknown_account_opens_nothing(book: Ledger) -> None:
    Account.objects.filter(pk=book.account).update(frozen="by an administrator")
    assert book.run(book.opening(1)) == [Refused(Refusal.FROZEN)]
    book.account = 10**9
    assert book.run(book.opening(1)) == [Refused(Refusal.UNKNOWN_ACCOUNT)]


def test_what_exceeds_the_hold_is_paid_from_what_is_free_and_the_rest_is_owed(book: Ledger) -> None:
    active = book.open(400)
    other = book.open(100)
    book.run(CloseHold(active, 1200))
    wallet = book.wallet
    assert (wallet.balance, wallet.held) == (100, 100)
    assert str(active.id) in wallet.frozen
    amounts = dict(Transfer.objects.filter(reference=str(active.id)).values_list("kind", "amount"))
    assert amounts == {"charge": 900, "shortfall": 300}
    assert book.findings() == []
    book.run(CloseHold(other, 100))
    assert book.wallet.balance == 0
    assert book.findings() == []


# ---- budgets --------------------------------------------------------------------------------------------------------


def test_a_budget_is_held_and_used_with_the_wallet(book: Ledger) -> None:
    budget = cap(500)
    active = book.open(400, budgets=[budget.pk])
    budget.refresh_from_db()
    assert (budget.used, budget.held) == (0, 400)
    assert book.run(book.opening(101, budgets=[budget.pk])) == [Refused(Refusal.BUDGET, budget.pk)]
    book.run(CloseHold(active, 250))
    budget.refresh_from_db()
    assert (budget.used, budget.held, budget.over) == (250, 0, 0)
    assert book.open(900, 1, budgets=[budget.pk]).amount == 250
    assert book.findings() == []


def test_the_narrowest_of_several_budgets_decides(book: Ledger) -> None:
    wide, narrow = cap(800), cap(300, "day")
    assert book.open(1000, 1, budgets=[wide.pk, narrow.pk]).amount == 300
    refused = book.run(book.opening(10, 1, budgets=[wide.pk, narrow.pk]))
    assert refused == [Refused(Refusal.BUDGET, narrow.pk)]
    assert book.findings() == []


def test_a_charge_of_an_ended_window_does_not_count_in_the_new_one(book: Ledger) -> None:
    budget = cap(500, "day")
    active = book.open(400, budgets=[budget.pk])
    yesterday = budget.starts_at - dt.timedelta(days=1)
    Budget.objects.filter(pk=budget.pk).update(starts_at=yesterday, used=70)
    Hold.objects.filter(pk=active.id).update(budgets=[[budget.pk, int(yesterday.timestamp())]])
    old = ActiveHold(active.id, active.account, active.amount, 1, ((budget.pk, int(yesterday.timestamp())),))
    book.run(CloseHold(old, 100))
    today = budget.starts_at
    budget.refresh_from_db()
    assert (budget.used, budget.held, budget.starts_at) == (0, 0, today)
    assert book.findings() == []


def test_a_cap_lowered_below_what_is_spent_shows_what_is_over_and_stops_the_next_call(book: Ledger) -> None:
    budget = cap(500)
    book.run(CloseHold(book.open(400, budgets=[budget.pk]), 400))
    lowered = cap(300)
    assert (lowered.pk, lowered.over) == (budget.pk, 100)
    assert book.run(book.opening(1, budgets=[budget.pk])) == [Refused(Refusal.BUDGET, budget.pk)]
    assert book.findings() == []


def test_a_charge_above_its_hold_shows_in_over(book: Ledger) -> None:
    budget = cap(500)
    book.run(CloseHold(book.open(500, budgets=[budget.pk]), 650))
    budget.refresh_from_db()
    assert (budget.used, budget.over) == (650, 150)
    assert book.findings() == []


def test_a_quota_taken_away_while_a_call_runs_changes_nothing_for_the_wallet(book: Ledger) -> None:
    budget = cap(500)
    active = book.open(400, budgets=[budget.pk])
    budgets.set_cap(owner=BudgetOwner.KEY, owner_id=1, window="total", cap=None)
    assert book.run(CloseHold(active, 100)) == [Done()]
    assert book.wallet.balance == 900
    assert book.findings() == []


# ---- transfers ------------------------------------------------------------------------------------------------------


def test_credit_adjustment_and_reversal_move_money_and_name_who_and_why(book: Ledger) -> None:
    wallet = book.wallet
    given = ledger.adjust(wallet=wallet, amount=50, actor="root", reason="goodwill")
    taken = ledger.adjust(wallet=wallet, amount=-30, actor="root", reason="mistake")
    back = ledger.reverse(transfer=taken, actor="root", reason="no mistake")
    assert book.wallet.balance == 1050
    assert (given.kind, given.actor, given.reason) == ("adjustment", "root", "goodwill")
    assert (back.kind, back.reverses_id, back.debit_id) == ("reversal", taken.pk, taken.credit_id)
    assert book.findings() == []


def test_a_reference_is_posted_once_and_a_transfer_reversed_once(book: Ledger) -> None:
    transfer = ledger.credit(wallet=book.wallet, amount=5, actor="a", reason="r", reference="payment-1")
    with pytest.raises(ledger.AlreadyPosted):
        ledger.credit(wallet=book.wallet, amount=5, actor="a", reason="r", reference="payment-1")
    ledger.reverse(transfer=transfer, actor="a", reason="r")
    with pytest.raises(ledger.AlreadyPosted):
        ledger.reverse(transfer=transfer, actor="a", reason="r")
    assert book.wallet.balance == 1000
    assert book.findings() == []


def test_a_wallet_gives_no_more_than_is_available(book: Ledger) -> None:
    book.open(600)
    with pytest.raises(ledger.InsufficientFunds):
        ledger.adjust(wallet=book.wallet, amount=-401, actor="root", reason="too much")
    ledger.adjust(wallet=book.wallet, amount=-400, actor="root", reason="all of it")
    assert (book.wallet.balance, book.wallet.held) == (600, 600)
    assert book.findings() == []


@pytest.mark.parametrize("amount", [0, -5, money.LIMIT])
def test_an_amount_that_is_no_amount_is_not_posted(book: Ledger, amount: int) -> None:
    with pytest.raises(money.InvalidAmount):
        ledger.credit(wallet=book.wallet, amount=amount, actor="a", reason="r")
    assert book.wallet.balance == 1000


def test_a_post_inside_a_transaction_that_fails_is_undone_with_it(book: Ledger) -> None:
    with transaction.atomic():
        ledger.credit(wallet=book.wallet, amount=5, actor="a", reason="r")
        transaction.set_rollback(True)
    assert book.wallet.balance == 1000
    assert book.findings() == []


# ---- what the database itself refuses -------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [Transfer, PriceVersion])
def test_transfers_and_prices_are_never_changed_or_deleted(book: Ledger, model: Any) -> None:
    table = model._meta.db_table
    column = "amount" if model is Transfer else "actor"
    for statement in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}"):
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    assert model.objects.exists()


BROKEN = [
    "UPDATE billing_account SET held = -1 WHERE kind = 'wallet'",
    "UPDATE billing_account SET held = balance + 1 WHERE kind = 'wallet'",
    "UPDATE billing_account SET balance = -1 WHERE kind = 'wallet'",
    "UPDATE billing_account SET credit_limit = -1 WHERE kind = 'wallet'",
    "UPDATE billing_account SET balance = 5 WHERE kind = 'receivable'",
    "UPDATE billing_account SET team_id = NULL WHERE kind = 'wallet'",
    "UPDATE billing_hold SET amount = -1",
    "UPDATE billing_hold SET charged = 1",
    "UPDATE billing_hold SET state = 'settled'",
    "UPDATE billing_budget SET used = cap + 1",
    "UPDATE billing_budget SET held = -1",
    "INSERT INTO billing_transfer (kind, debit_id, credit_id, amount, reference, actor, reason, created_at) "
    "SELECT kind, debit_id, credit_id, 0, 'x', '', '', created_at FROM billing_transfer",
    "INSERT INTO billing_transfer (kind, debit_id, credit_id, amount, reference, actor, reason, created_at) "
    "SELECT kind, credit_id, credit_id, 1, 'x', '', '', created_at FROM billing_transfer",
    "INSERT INTO billing_transfer (kind, debit_id, credit_id, amount, reference, actor, reason, created_at) "
    "SELECT kind, debit_id, credit_id, 1, reference, '', '', created_at FROM billing_transfer",
]


@pytest.mark.parametrize("statement", BROKEN, ids=range(len(BROKEN)))
def test_what_must_be_true_is_a_constraint(book: Ledger, statement: str) -> None:
    book.open(10, budgets=[cap(500).pk])
    with pytest.raises(IntegrityError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)
    assert book.findings() == []


def test_a_batch_that_is_refused_leaves_nothing(book: Ledger) -> None:
    active = book.opening(10)
    book.run(active)
    with pytest.raises((psycopg.IntegrityError, sqlite3.IntegrityError)):
        book.run(active)
    assert book.wallet.held == 10
    book.open(20)
    assert book.findings() == []


def test_both_kinds_of_transfer_share_a_reference_but_no_kind_twice(book: Ledger) -> None:
    ledger.credit(wallet=book.wallet, amount=5, actor="a", reason="r", reference="same")
    ledger.adjust(wallet=book.wallet, amount=5, actor="a", reason="r", reference="same")
    assert Transfer.objects.filter(reference="same").values_list("kind", flat=True).count() == 2
    assert {TransferKind.CREDIT, TransferKind.ADJUSTMENT} == set(
        Transfer.objects.filter(reference="same").values_list("kind", flat=True)
    )


def test_a_credit_that_was_posted_before_changes_nothing_at_all(book: Ledger) -> None:
    """The transfer is refused after the totals were written: both are one transaction, also where it is the first."""
    ledger.credit(wallet=book.wallet, amount=5, actor="tests", reason="once", reference="payment-1")
    with pytest.raises(ledger.AlreadyPosted):
        ledger.credit(wallet=book.wallet, amount=5, actor="tests", reason="twice", reference="payment-1")
    assert book.wallet.balance == 1005
    assert book.findings() == []


def test_a_recovery_that_cannot_be_recorded_changes_nothing_at_all(book: Ledger) -> None:
    active = book.open(100)
    orphan = book.hold(active)
    unknown = Row(Table("no_such_table", (("id", "bigint"),)), (1,))
    with pytest.raises((psycopg.Error, sqlite3.Error)):
        holds.recover(orphan, charged=50, rows=[unknown])
    assert book.hold(active).state == "dispatched"
    assert (book.wallet.balance, book.wallet.held) == (1000, 100)
    assert book.findings() == []


def test_what_a_row_leaves_out_is_null_and_no_text_that_says_so(book: Ledger) -> None:
    table = Table(HOLD.name, (*HOLD.columns, ("progress", "jsonb"), ("suspected_at", "timestamptz")))
    call, now = ids.uuid7(), timezone.now()
    values: tuple[Any, ...] = (
        call,
        book.account,
        0,
        0,
        "dispatched",
        1,
        book.price,
        [],
        [],
        {},
        "somebody",
        now,
        now,
        None,
        None,
    )
    assert book.run(Record((Row(table, values),))) == [Done()]
    row = Hold.objects.get(progress__isnull=True, suspected_at=None)
    assert (row.pk, row.lease_until, row.facts) == (call, now, {})


@pytest.mark.parametrize("values", [("a", 1, 2), ("a",)])
def test_a_row_that_does_not_fit_its_table_is_refused_and_nothing_of_it_is_cut_off(
    book: Ledger, values: tuple[Any, ...]
) -> None:
    table = Table("billing_revision", (("name", "text"), ("value", "bigint")))
    with pytest.raises((TypeError, ValueError)):
        book.run(book.opening(10), Record((Row(table, values),)))
    assert not Revision.objects.filter(name="a").exists()
    assert book.wallet.held == 0


def test_a_call_that_was_to_fit_a_cap_which_is_no_more_opens_nothing(book: Ledger) -> None:
    assert book.run(book.opening(10, budgets=[987])) == [Refused(Refusal.CHANGED)]
    assert book.wallet.held == 0


def test_a_wallet_cannot_be_given_more_than_its_columns_can_add_up(book: Ledger) -> None:
    ledger.credit(wallet=book.wallet, amount=money.LIMIT - 1001, actor="a", reason="r")
    with pytest.raises(money.InvalidAmount):
        ledger.credit(wallet=book.wallet, amount=1, actor="a", reason="r")
    assert book.wallet.balance == money.LIMIT - 1
    book.run(CloseHold(book.open(100), 5))
    assert book.findings() == []


def test_a_budget_can_add_up_a_thousand_of_the_largest_charges(book: Ledger) -> None:
    budget = cap(500)
    opened = [book.open(0, 0, budgets=[budget.pk]) for _ in range(4)]
    Budget.objects.filter(pk=budget.pk).update(used=996 * money.LARGEST_CHARGE, over=996 * money.LARGEST_CHARGE)
    assert book.run(*(CloseHold(active, money.LARGEST_CHARGE) for active in opened)) == [Done()] * 4
    budget.refresh_from_db()
    assert budget.used == 1000 * money.LARGEST_CHARGE
    assert [finding for finding in book.findings() if "budget" not in finding.check] == []
