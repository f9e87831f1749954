"""Plans that pay before the wallet, by the rules alone: who pays what, in which order, to the last nano-unit."""

import datetime as dt
import uuid

import pytest

from billing import rules
from billing.operations import ActiveHold, CloseHold, Done, OpenHold, Refusal, Refused
from billing.rules import OVERDUE, AccountTotals, Books, NewTransfer
from tests.billing.test_rules import NOW, REVENUE, WALLET, active, books, decide, opening, totals, wallet

FIRST, SECOND = 21, 22
LATER = NOW + dt.timedelta(days=3)


def plan(
    balance: int, *, number: int = FIRST, held: int = 0, frozen: str = "", ends_at: dt.datetime = LATER
) -> AccountTotals:
    return AccountTotals(number, True, balance, held, 0, frozen, ends_at)


def asked(wanted: int, minimum: int = 0, *, plans: tuple[int, ...] = (FIRST, SECOND), **how: bool) -> OpenHold:
    return OpenHold(uuid.uuid4(), WALLET, wanted, minimum, 1, (), {}, "tests", 45.0, NOW, None, plans, **how)


def held(*parts: tuple[int, int], amount: int) -> ActiveHold:
    return ActiveHold(uuid.uuid4(), WALLET, amount, 1, (), False, parts)


def granted(state: Books, operation: OpenHold) -> ActiveHold:
    (outcome,), _ = decide(state, operation)
    assert isinstance(outcome, ActiveHold)
    return outcome


def test_plans_pay_in_their_order_and_the_wallet_pays_the_rest() -> None:
    state = books(wallet(500), plan(30), plan(40, number=SECOND))
    hold = granted(state, asked(100))
    assert (hold.amount, hold.parts) == (100, ((FIRST, 30), (SECOND, 40)))
    assert [account.held for account in state.accounts.values()] == [30, 30, 40]


def test_a_plan_that_can_pay_all_leaves_the_others_alone() -> None:
    state = books(wallet(0), plan(30), plan(40, number=SECOND))
    hold = granted(state, asked(25, 25, plans=(SECOND, FIRST)))
    assert hold.parts == ((SECOND, 25),)
    assert state.accounts[FIRST].held == 0


def test_what_a_plan_has_reserved_already_is_not_there_a_second_time() -> None:
    state = books(wallet(0), plan(30, held=28))
    assert granted(state, asked(30, 1, plans=(FIRST,))).parts == ((FIRST, 2),)
    assert decide(state, asked(1, 1, plans=(FIRST,)))[0] == [Refused(Refusal.BALANCE)]


@pytest.mark.parametrize("ends_at", [NOW, NOW - dt.timedelta(seconds=1)])
def test_a_plan_that_has_ended_pays_nothing(ends_at: dt.datetime) -> None:
    state = books(wallet(10), plan(30, ends_at=ends_at))
    hold = granted(state, asked(30, plans=(FIRST,)))
    assert (hold.amount, hold.parts) == (10, ())


def test_a_plan_that_is_stopped_or_unknown_pays_nothing() -> None:
    state = books(wallet(10), plan(30, frozen="audit"))
    assert granted(state, asked(30, plans=(FIRST, SECOND))).parts == ()


def test_where_the_wallet_does_not_pay_the_plan_has_to_reach() -> None:
    state = books(wallet(1000), plan(30))
    assert decide(state, asked(31, 31, plans=(FIRST,), wallet_pays=False))[0] == [Refused(Refusal.BALANCE)]
    hold = granted(state, asked(30, 30, plans=(FIRST,), wallet_pays=False))
    assert hold.parts == ((FIRST, 30),)
    assert totals(state.accounts[WALLET]) == (1000, 0)


def test_a_prepaid_key_spends_what_the_wallet_has_and_a_postpaid_one_its_credit_too() -> None:
    state = books(wallet(10, credit=50))
    assert granted(state, asked(40, 1, on_credit=False)).amount == 10
    assert decide(state, asked(1, 1, on_credit=False))[0] == [Refused(Refusal.BALANCE)]
    assert granted(state, asked(80, 1)).amount == 50


def test_a_wallet_on_credit_gives_a_prepaid_key_nothing() -> None:
    state = books(wallet(-20, credit=50))
    assert decide(state, asked(1, 1, plans=(), on_credit=False))[0] == [Refused(Refusal.BALANCE)]
    assert granted(state, asked(0, 0, plans=(), on_credit=False)).amount == 0


def test_an_overdue_wallet_refuses_and_says_that_it_is_overdue() -> None:
    assert decide(books(wallet(10, frozen=f"{OVERDUE}invoice 7")), opening(1))[0] == [Refused(Refusal.OVERDUE)]
    assert decide(books(wallet(10, frozen="by hand")), opening(1))[0] == [Refused(Refusal.FROZEN)]


@pytest.mark.parametrize(
    ("charged", "drawn", "paid"),
    [(0, [], 0), (1, [(FIRST, 1)], 0), (30, [(FIRST, 30)], 0), (45, [(FIRST, 30), (SECOND, 15)], 0),
     (100, [(FIRST, 30), (SECOND, 40)], 30), (110, [(FIRST, 30), (SECOND, 40)], 40)],
)  # fmt: skip
def test_a_charge_is_drawn_from_the_plans_first_each_at_most_its_part(
    charged: int, drawn: list[tuple[int, int]], paid: int
) -> None:
    hold = held((FIRST, 30), (SECOND, 40), amount=100)
    state = books(wallet(500, held=30), plan(50, held=30), plan(40, number=SECOND, held=40), closed=(hold,))
    outcomes, changes = decide(state, CloseHold(hold, charged))
    assert outcomes == [Done()]
    draws = [NewTransfer("draw", number, REVENUE, amount, f"{hold.id}/{number}") for number, amount in drawn]
    charges = [NewTransfer("charge", WALLET, REVENUE, paid, str(hold.id))] if paid else []
    assert changes.transfers == draws + charges
    spent = dict(drawn)
    assert totals(state.accounts[FIRST]) == (50 - spent.get(FIRST, 0), 0)
    assert totals(state.accounts[SECOND]) == (40 - spent.get(SECOND, 0), 0)
    assert totals(state.accounts[WALLET]) == (500 - paid, 0)


def test_what_neither_plans_nor_wallet_can_pay_is_a_debt_and_stops_the_wallet() -> None:
    hold = held((FIRST, 30), amount=30)
    state = books(wallet(5), plan(30, held=30), closed=(hold,))
    _, changes = decide(state, CloseHold(hold, 50))
    assert [(transfer.kind, transfer.amount) for transfer in changes.transfers] == [
        ("draw", 30), ("charge", 5), ("shortfall", 15),
    ]  # fmt: skip
    assert state.accounts[WALLET].frozen


def test_a_void_gives_every_part_back() -> None:
    hold = held((FIRST, 30), amount=70)
    state = books(wallet(100, held=40), plan(30, held=30), closed=(hold,))
    _, changes = decide(state, CloseHold(hold, None))
    assert changes.transfers == []
    assert (totals(state.accounts[FIRST]), totals(state.accounts[WALLET])) == ((30, 0), (100, 0))


def test_the_accounts_of_plans_are_locked_with_the_wallet() -> None:
    hold = held((SECOND, 1), amount=1)
    assert rules.touched([asked(1, plans=(FIRST,)), CloseHold(hold, 1)])[0] == {WALLET, FIRST, SECOND}
    assert rules.touched([CloseHold(active(1), 1)])[0] == {WALLET}
