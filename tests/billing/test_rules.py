"""The ledger's rules alone, without a database: who gets what, in which order, down to the last nano-unit."""

import datetime as dt
import uuid
from typing import Any

import pytest

from billing import money, rules
from billing.operations import (
    ActiveHold,
    Claim,
    Claimed,
    CloseHold,
    Done,
    OpenHold,
    Operation,
    Outcome,
    Post,
    Record,
    Refusal,
    Refused,
    RenewLeases,
    Row,
    Table,
)
from billing.rules import AccountTotals, Books, BudgetTotals, Changes, NewTransfer

NOW = dt.datetime(2026, 5, 14, 13, tzinfo=dt.UTC)
TODAY = dt.datetime(2026, 5, 14, tzinfo=dt.UTC)
YESTERDAY = TODAY - dt.timedelta(days=1)
WALLET, OTHER, REVENUE, PAYMENTS = 7, 8, 90, 91
ROW = Row(Table("somewhere", (("id", "bigint"),)), (1,))


def wallet(balance: int, *, held: int = 0, credit: int = 0, frozen: str = "", number: int = WALLET) -> AccountTotals:
    return AccountTotals(number, True, balance, held, credit, frozen)


def platform(number: int) -> AccountTotals:
    return AccountTotals(number, False, 0, 0, 0, "")


def budget(number: int, cap: int, *, used: int = 0, held: int = 0, window: str = "day", **extra: Any) -> BudgetTotals:
    starts_at = extra.get("starts_at", TODAY)
    return BudgetTotals(number, window, cap, "UTC", starts_at, used, held, extra.get("over", 0))


def books(
    *accounts: AccountTotals, budgets: tuple[BudgetTotals, ...] = (), closed: tuple[ActiveHold, ...] = ()
) -> Books:
    return Books(
        accounts={account.id: account for account in accounts},
        budgets={found.id: found for found in budgets},
        closed={(hold.id, hold.generation) for hold in closed},
        revenue=REVENUE,
        now=NOW,
    )


def opening(
    wanted: int, minimum: int | None = None, *, budgets: tuple[int, ...] = (), claim: Claim | None = None
) -> OpenHold:
    least = wanted if minimum is None else minimum
    return OpenHold(uuid.uuid4(), WALLET, wanted, least, 1, budgets, {}, "tests", 45.0, NOW, claim)


def active(amount: int, *, budgets: tuple[tuple[int, int], ...] = (), claimed: bool = False) -> ActiveHold:
    return ActiveHold(uuid.uuid4(), WALLET, amount, 1, budgets, claimed)


def decide(state: Books, *operations: Operation) -> tuple[list[Outcome], Changes]:
    return rules.decide(state, operations)


def totals(account: AccountTotals) -> tuple[int, int]:
    return account.balance, account.held


def counters(found: BudgetTotals) -> tuple[int, int, int]:
    return found.used, found.held, found.over


# ---- opening --------------------------------------------------------------------------------------------------------


def test_a_hold_takes_what_is_wanted_and_says_where_from() -> None:
    mine, quota = wallet(1000), budget(3, 500, used=20, held=30)
    wanted = opening(100, budgets=(3,))
    (outcome,), changes = decide(books(mine, budgets=(quota,)), wanted)
    hold = ActiveHold(wanted.id, WALLET, 100, 1, ((3, int(TODAY.timestamp())),), False)
    assert outcome == hold
    assert changes == Changes(holds=[(wanted, hold)])
    assert totals(mine) == (1000, 100)
    assert counters(quota) == (20, 130, 0)


@pytest.mark.parametrize(
    ("wanted", "minimum", "granted"), [(400, 400, 400), (401, 400, 400), (1000, 1, 400), (399, 100, 399), (0, 0, 0)]
)
def test_a_hold_is_what_is_wanted_as_far_as_it_is_available(wanted: int, minimum: int, granted: int) -> None:
    mine = wallet(500, held=300, credit=200)
    (outcome,), _ = decide(books(mine), opening(wanted, minimum))
    assert isinstance(outcome, ActiveHold)
    assert (outcome.amount, mine.held) == (granted, 300 + granted)


def test_one_nano_unit_too_few_is_refused_and_takes_nothing() -> None:
    mine, quota = wallet(500, held=300, credit=200), budget(3, 1000)
    outcomes, changes = decide(books(mine, budgets=(quota,)), opening(401, budgets=(3,)))
    assert outcomes == [Refused(Refusal.BALANCE)]
    assert changes == Changes()
    assert (totals(mine), counters(quota)) == ((500, 300), (0, 0, 0))


def test_a_budget_gives_its_last_nano_unit_and_not_one_more() -> None:
    quota = budget(3, 500, used=100, held=150)
    (whole,), _ = decide(books(wallet(1000), budgets=(quota,)), opening(250, budgets=(3,)))
    assert isinstance(whole, ActiveHold)
    assert counters(quota) == (100, 400, 0)
    quota = budget(3, 500, used=100, held=150)
    mine = wallet(1000)
    outcomes, changes = decide(books(mine, budgets=(quota,)), opening(251, budgets=(3,)))
    assert outcomes == [Refused(Refusal.BUDGET, 3)]
    assert (changes, totals(mine), counters(quota)) == (Changes(), (1000, 0), (100, 150, 0))


def test_the_narrowest_budget_decides_and_the_one_that_refuses_is_named() -> None:
    wide, narrow = budget(3, 800), budget(4, 300)
    (granted, refused), _ = decide(
        books(wallet(1000), budgets=(wide, narrow)), opening(900, 1, budgets=(3, 4)), opening(5, 1, budgets=(3, 4))
    )
    assert isinstance(granted, ActiveHold)
    assert granted.amount == 300
    assert granted.budgets == ((3, int(TODAY.timestamp())), (4, int(TODAY.timestamp())))
    assert refused == Refused(Refusal.BUDGET, 4)
    assert (wide.held, narrow.held) == (300, 300)


def test_a_spent_budget_stops_even_a_call_that_is_free() -> None:
    state = books(wallet(0), budgets=(budget(3, 500, used=500), budget(4, 500, used=499)))
    outcomes, _ = decide(state, opening(0, budgets=(3,)), opening(0, budgets=(4,)))
    assert outcomes[0] == Refused(Refusal.BUDGET, 3)
    assert isinstance(outcomes[1], ActiveHold)


def test_a_refusal_names_the_account_before_the_budget_and_the_budget_before_the_balance() -> None:
    nothing, full = wallet(0), budget(3, 10, used=10)
    state = books(nothing, budgets=(full,))
    unknown = OpenHold(uuid.uuid4(), 12345, 1, 1, 1, (99,), {}, "tests", 45.0, NOW)
    outcomes, changes = decide(state, unknown, opening(5, budgets=(3, 99)), opening(5, budgets=(3,)), opening(5))
    assert outcomes == [
        Refused(Refusal.UNKNOWN_ACCOUNT),
        Refused(Refusal.CHANGED),
        Refused(Refusal.BUDGET, 3),
        Refused(Refusal.BALANCE),
    ]
    nothing.frozen = "stopped"
    assert decide(state, opening(5, budgets=(99,)))[0] == [Refused(Refusal.FROZEN)]
    assert changes == Changes()


def test_what_an_earlier_operation_took_is_not_there_for_a_later_one() -> None:
    mine = wallet(1000)
    outcomes, changes = decide(books(mine), *(opening(300) for _ in range(4)))
    assert [isinstance(outcome, ActiveHold) for outcome in outcomes] == [True, True, True, False]
    assert len(changes.holds) == 3
    assert totals(mine) == (1000, 900)


# ---- idempotency keys -----------------------------------------------------------------------------------------------


def test_a_key_stands_for_the_call_that_brought_it_first_even_within_a_batch() -> None:
    claim, another = Claim("k", "abc"), Claim("k", "other body")
    first, second = opening(10, claim=claim), opening(10, claim=another)
    mine = wallet(1000)
    (granted, found), changes = decide(books(mine), first, second)
    assert granted == ActiveHold(first.id, WALLET, 10, 1, (), True)
    assert found == Claimed(first.id, "abc")
    assert (len(changes.holds), mine.held) == (1, 10)


def test_a_key_that_is_known_is_answered_whatever_became_of_the_wallet() -> None:
    state = books(wallet(0, frozen="stopped"))
    earlier = Claimed(uuid.uuid4(), "abc")
    state.claims = {(WALLET, "k"): earlier}
    outcomes, changes = decide(state, opening(10, claim=Claim("k", "abc")))
    assert (outcomes, changes) == ([earlier], Changes())


def test_a_key_belongs_to_its_wallet_and_to_nobody_else() -> None:
    state = books(wallet(1000))
    state.claims = {(OTHER, "k"): Claimed(uuid.uuid4(), "abc"), (WALLET, "j"): Claimed(uuid.uuid4(), "abc")}
    (outcome,), _ = decide(state, opening(10, claim=Claim("k", "abc")))
    assert isinstance(outcome, ActiveHold)
    assert outcome.claimed


def test_a_void_gives_its_key_free_at_once_and_a_settlement_keeps_it() -> None:
    voided, settled, plain = active(10, claimed=True), active(10, claimed=True), active(10)
    state = books(wallet(1000, held=30), closed=(voided, settled, plain))
    kept = Claimed(settled.id, "b")
    state.claims = {(WALLET, "v"): Claimed(voided.id, "a"), (WALLET, "s"): kept}
    closings = CloseHold(voided, None), CloseHold(settled, 0), CloseHold(plain, None)
    (*_, again, replayed), changes = decide(
        state, *closings, opening(10, claim=Claim("v", "a")), opening(10, claim=Claim("s", "b"))
    )
    assert changes.unclaimed == [voided.id]
    assert isinstance(again, ActiveHold)
    assert replayed == kept


# ---- closing --------------------------------------------------------------------------------------------------------


def test_a_settlement_takes_the_charge_gives_the_rest_back_and_writes_its_rows() -> None:
    mine, quota = wallet(1000, held=700), budget(3, 900, used=50, held=700)
    hold = active(700, budgets=((3, int(TODAY.timestamp())),))
    outcomes, changes = decide(books(mine, budgets=(quota,), closed=(hold,)), CloseHold(hold, 300, (ROW,)))
    assert outcomes == [Done()]
    assert changes == Changes(transfers=[NewTransfer("charge", WALLET, REVENUE, 300, str(hold.id))], rows=[ROW])
    assert (totals(mine), counters(quota)) == ((700, 0), (350, 0, 0))


@pytest.mark.parametrize("charged", [None, 0])
def test_a_void_and_a_settlement_of_nothing_give_everything_back(charged: int | None) -> None:
    mine, quota = wallet(1000, held=700), budget(3, 900, used=50, held=700)
    hold = active(700, budgets=((3, int(TODAY.timestamp())),))
    _, changes = decide(books(mine, budgets=(quota,), closed=(hold,)), CloseHold(hold, charged))
    assert changes == Changes()
    assert (totals(mine), counters(quota)) == ((1000, 0), (50, 0, 0))


def test_a_hold_that_was_not_open_changes_nothing_and_its_rows_are_not_written() -> None:
    mine, quota = wallet(1000, held=700), budget(3, 900, held=700)
    hold = active(700, budgets=((3, int(TODAY.timestamp())),), claimed=True)
    elder = ActiveHold(hold.id, WALLET, 700, 2, hold.budgets, True)
    state = books(mine, budgets=(quota,), closed=(elder,))
    outcomes, changes = decide(state, CloseHold(hold, 300, (ROW,)), CloseHold(hold, None, (ROW,)))
    assert outcomes == [Done(changed=False), Done(changed=False)]
    assert changes == Changes()
    assert (totals(mine), counters(quota)) == ((1000, 700), (0, 700, 0))


def test_the_first_of_two_closings_counts() -> None:
    mine, hold = wallet(1000, held=700), active(700)
    outcomes, changes = decide(books(mine, closed=(hold,)), CloseHold(hold, 300), CloseHold(hold, 400))
    assert outcomes == [Done(), Done(changed=False)]
    assert totals(mine) == (700, 0)
    assert len(changes.transfers) == 1


@pytest.mark.parametrize(
    ("balance", "others", "credit", "charged", "paid", "owed"),
    [
        (100, 0, 0, 100, 100, 0),
        (100, 0, 0, 101, 100, 1),
        (100, 60, 0, 90, 40, 50),  # what other calls hold is theirs
        (100, 0, 25, 125, 125, 0),
        (100, 0, 25, 126, 125, 1),
    ],
)
def test_what_exceeds_the_hold_is_paid_from_what_is_free_and_the_rest_is_owed(
    balance: int, others: int, credit: int, charged: int, paid: int, owed: int
) -> None:
    mine, hold = wallet(balance, held=40 + others, credit=credit), active(40)
    _, changes = decide(books(mine, closed=(hold,)), CloseHold(hold, charged))
    expected = [NewTransfer("charge", WALLET, REVENUE, paid, str(hold.id))]
    if owed:
        expected.append(NewTransfer("shortfall", None, REVENUE, owed, str(hold.id), wallet=WALLET))
    assert changes.transfers == expected
    assert totals(mine) == (balance - paid, others)
    assert mine.frozen == (f"call {hold.id} cost more than the wallet could pay" if owed else "")


def test_a_wallet_with_nothing_at_all_owes_the_whole_charge() -> None:
    """An administrator lowered the credit while the call ran: nothing is available, less than nothing even."""
    mine, hold = wallet(-50, held=10, credit=30), active(10)
    _, changes = decide(books(mine, closed=(hold,)), CloseHold(hold, 7))
    assert changes.transfers == [NewTransfer("shortfall", None, REVENUE, 7, str(hold.id), wallet=WALLET)]
    assert totals(mine) == (-50, 0)


def test_a_charge_above_its_hold_shows_in_over_and_the_next_smaller_one_takes_it_back() -> None:
    quota, today = budget(3, 100, held=100), int(TODAY.timestamp())
    dear, cheap = active(40, budgets=((3, today),)), active(60, budgets=((3, today),))
    state = books(wallet(1000, held=100), budgets=(quota,), closed=(dear, cheap))
    decide(state, CloseHold(dear, 70))
    assert counters(quota) == (70, 60, 30)
    decide(state, CloseHold(cheap, 10))
    assert counters(quota) == (80, 0, 0)


def test_a_budget_that_was_taken_away_is_passed_over_and_the_next_is_counted() -> None:
    quota, today = budget(4, 100, held=50), int(TODAY.timestamp())
    hold = active(50, budgets=((3, today), (4, today)))
    decide(books(wallet(1000, held=50), budgets=(quota,), closed=(hold,)), CloseHold(hold, 20))
    assert counters(quota) == (20, 0, 0)


# ---- windows --------------------------------------------------------------------------------------------------------


def test_a_new_window_begins_empty_but_for_what_open_holds_reserve() -> None:
    quota = budget(3, 100, used=90, held=30, starts_at=YESTERDAY, over=20)
    decide(books(wallet(0), budgets=(quota,)))
    assert (counters(quota), quota.starts_at) == ((0, 30, 0), TODAY)


def test_a_window_that_goes_on_keeps_what_was_used_and_one_of_the_future_is_not_turned_back() -> None:
    tomorrow = TODAY + dt.timedelta(days=1)
    current, ahead = budget(3, 100, used=90, held=5), budget(4, 100, used=7, starts_at=tomorrow)
    decide(books(wallet(0), budgets=(current, ahead)))
    assert (counters(current), current.starts_at) == ((90, 5, 0), TODAY)
    assert (counters(ahead), ahead.starts_at) == ((7, 0, 0), tomorrow)


def test_a_charge_counts_in_the_window_that_its_hold_was_made_in_and_in_no_other() -> None:
    quota = budget(3, 100, used=90, held=30, starts_at=YESTERDAY)
    old = active(30, budgets=((3, int(YESTERDAY.timestamp())),))
    decide(books(wallet(1000, held=30), budgets=(quota,), closed=(old,)), CloseHold(old, 25))
    assert counters(quota) == (0, 0, 0)


def test_a_window_that_is_kept_past_its_calendar_end_goes_on() -> None:
    quota = budget(3, 100, used=90, starts_at=YESTERDAY)
    quota.kept_until = NOW + dt.timedelta(microseconds=1)
    decide(books(wallet(0), budgets=(quota,)))
    assert (counters(quota), quota.starts_at) == ((90, 0, 0), YESTERDAY)


def test_a_raise_makes_room_until_its_moment_and_none_from_then_on() -> None:
    raised, ended = budget(3, 100, used=90), budget(4, 100, used=90)
    for quota, until in ((raised, NOW + dt.timedelta(microseconds=1)), (ended, NOW)):
        quota.extra, quota.extra_until = 50, until
    state = books(wallet(1000), budgets=(raised, ended))
    outcomes, _ = decide(state, opening(60, budgets=(3,)), opening(11, budgets=(4,)), opening(10, budgets=(4,)))
    assert [isinstance(outcome, ActiveHold) for outcome in outcomes] == [True, False, True]
    assert counters(raised) == (90, 60, 50)
    assert counters(ended) == (90, 10, 0)


# ---- transfers and rows ---------------------------------------------------------------------------------------------


def test_a_transfer_moves_between_wallets_and_keeps_every_word() -> None:
    mine, theirs = wallet(100, held=20, credit=5), wallet(3, number=OTHER)
    post = Post("credit", WALLET, OTHER, 85, "ref", "somebody", "for a reason", 12)
    outcomes, changes = decide(books(mine, theirs), post)
    assert outcomes == [Done()]
    assert (mine.balance, theirs.balance) == (15, 88)
    assert changes == Changes(
        transfers=[NewTransfer("credit", WALLET, OTHER, 85, "ref", "somebody", "for a reason", 12)]
    )


def test_a_wallet_gives_no_more_than_is_available_and_platform_accounts_count_nothing() -> None:
    mine, payments = wallet(100, held=20, credit=5), platform(PAYMENTS)
    state = books(mine, payments)
    assert decide(state, Post("adjustment", WALLET, PAYMENTS, 86, "ref")) == ([Refused(Refusal.BALANCE)], Changes())
    assert mine.balance == 100
    assert decide(state, Post("adjustment", PAYMENTS, WALLET, 86, "ref"))[0] == [Done()]
    assert (mine.balance, totals(payments)) == (186, (0, 0))
    assert decide(state, Post("adjustment", WALLET, PAYMENTS, 6, "ref"))[0] == [Done()]
    assert (mine.balance, totals(payments)) == (180, (0, 0))


def test_a_wallet_never_has_more_than_the_ledger_can_add_up() -> None:
    mine, payments = wallet(100), platform(PAYMENTS)
    state = books(mine, payments)
    outcome, changes = decide(state, Post("credit", PAYMENTS, WALLET, money.LIMIT - 100, "ref"))
    assert (outcome, changes) == ([Refused(Refusal.TOO_MUCH)], Changes())
    assert mine.balance == 100
    assert decide(state, Post("credit", PAYMENTS, WALLET, money.LIMIT - 101, "ref"))[0] == [Done()]
    assert mine.balance == money.LIMIT - 1
    assert decide(state, Post("adjustment", WALLET, PAYMENTS, money.LIMIT - 1, "ref"))[0] == [Done()]
    assert mine.balance == 0


@pytest.mark.parametrize(("debit", "credit"), [(WALLET, 12345), (12345, WALLET)])
def test_a_transfer_with_an_unknown_account_is_refused(debit: int, credit: int) -> None:
    mine = wallet(100)
    outcome, changes = decide(books(mine), Post("credit", debit, credit, 1, "ref"))
    assert (outcome, changes) == ([Refused(Refusal.UNKNOWN_ACCOUNT)], Changes())
    assert mine.balance == 100


def test_records_are_written_and_renewals_are_answered() -> None:
    outcomes, changes = decide(books(), Record((ROW,)), RenewLeases(((uuid.uuid4(), 1, 45.0, None),)), Record((ROW,)))
    assert outcomes == [Done(), Done(), Done()]
    assert changes == Changes(rows=[ROW, ROW])


def test_what_a_batch_touches_is_locked_before_anything_is_decided() -> None:
    hold = ActiveHold(uuid.uuid4(), OTHER, 5, 1, ((5, 0), (6, 0)))
    operations: list[Operation] = [
        opening(1, budgets=(3, 4)),
        CloseHold(hold, 1),
        Post("credit", PAYMENTS, 55, 1, "ref"),
        Record((ROW,)),
    ]
    assert rules.touched(operations) == ({WALLET, OTHER, PAYMENTS, 55}, {3, 4, 5, 6})
    assert rules.touched([]) == (set(), set())
