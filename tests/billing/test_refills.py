"""A plan that is filled anew while calls run has its worth and never more; what they cost is the old window's."""

import uuid

import msgspec
import pytest

from billing import plans
from billing.models import Account, Plan, Window
from billing.operations import ActiveHold, CloseHold
from tests.billing.conftest import Ledger
from tests.billing.test_plans import moved, offered

WORTH = 100


@pytest.fixture
def plan(book: Ledger) -> Plan:
    """Worth 100 nano-units a month."""
    return bought(book, "monthly")


def bought(book: Ledger, name: str) -> Plan:
    offer = offered(name=name, price=0, value=WORTH, refill=Window.MONTH, days=300)
    assert book.wallet.team_id is not None
    return plans.buy(team=book.wallet.team_id, offer=offer, at_most=0, order=uuid.uuid4(), actor="alice")


def called(book: Ledger, *paying: Plan, wanted: int) -> ActiveHold:
    """A call that these plans pay for, which runs."""
    asked = msgspec.structs.replace(
        book.opening(wanted, 0), plans=tuple(plan.account_id for plan in paying), wallet_pays=False
    )
    (hold,) = book.run(asked)
    assert isinstance(hold, ActiveHold)
    return hold


def refill(plan: Plan) -> None:
    """The job, at the moment of the plan's next filling."""
    plan.refresh_from_db()
    assert plan.fill_at is not None
    assert plans.tend(plan.pk, now=plan.fill_at)


def tend(plan: Plan) -> None:
    """The job, whenever it runs, until nothing is left for it to do."""
    for number in plans.due(plan.starts_at):
        assert plans.tend(number, now=plan.starts_at)
    assert plans.due(plan.starts_at) == []


def has(plan: Plan) -> tuple[int, int]:
    """What the plan has, and what may be spent of it."""
    account = Account.objects.get(pk=plan.account_id)
    return account.balance, account.free


def test_what_a_call_holds_at_a_filling_and_gives_back_is_not_had_besides_the_filling(book: Ledger, plan: Plan) -> None:
    hold = called(book, plan, wanted=30)
    refill(plan)
    assert has(plan) == (WORTH, 70)
    tend(plan)
    assert has(plan) == (WORTH, 70)
    book.run(CloseHold(hold, None))
    tend(plan)
    assert has(plan) == (WORTH, WORTH)
    assert book.findings() == []


def test_what_a_call_costs_that_ran_at_a_filling_is_taken_from_the_window_before(book: Ledger, plan: Plan) -> None:
    hold = called(book, plan, wanted=30)
    refill(plan)
    book.run(CloseHold(hold, 20))
    assert has(plan) == (80, 80), "never more than it is worth, until the job has looked"
    tend(plan)
    assert has(plan) == (WORTH, WORTH)
    assert moved("grant") == [("plans", "plan", WORTH), ("plans", "plan", 70), ("plans", "plan", 20)]
    assert moved("expiry") == [("plan", "plans", 70)]
    assert book.findings() == []


def test_what_is_spent_of_the_new_window_meanwhile_stays_spent(book: Ledger, plan: Plan) -> None:
    old = called(book, plan, wanted=30)
    refill(plan)
    new = called(book, plan, wanted=1000)
    assert new.amount == 70
    book.run(CloseHold(new, 50), CloseHold(old, 30))
    tend(plan)
    assert has(plan) == (50, 50)


@pytest.mark.parametrize("cost", [None, 0, 40, WORTH, 5 * WORTH])
def test_a_call_that_runs_through_two_fillings_leaves_the_plan_full(book: Ledger, plan: Plan, cost: int | None) -> None:
    hold = called(book, plan, wanted=1000)
    assert hold.amount == WORTH
    for _ in range(2):
        refill(plan)
        assert has(plan) == (WORTH, 0), "all of it is the call's until it ends"
    book.run(CloseHold(hold, cost))
    tend(plan)
    assert has(plan) == (WORTH, WORTH)
    assert book.findings() == []


def test_calls_that_are_never_over_at_midnight_heap_up_nothing(book: Ledger, plan: Plan) -> None:
    for _ in range(5):
        hold = called(book, plan, wanted=1000)
        refill(plan)
        book.run(CloseHold(hold, None))
        tend(plan)
    assert has(plan) == (WORTH, WORTH)
    assert book.findings() == []


def test_each_call_is_made_good_when_it_ends_and_those_of_other_plans_are_not(book: Ledger, plan: Plan) -> None:
    other = bought(book, "another")
    first, second = called(book, plan, wanted=30), called(book, plan, wanted=40)
    elsewhere = called(book, other, wanted=50)
    refill(plan)
    book.run(CloseHold(first, 30), CloseHold(elsewhere, 50))
    assert plans.due(plan.starts_at) == [plan.pk]
    tend(plan)
    assert (has(plan), has(other)) == ((WORTH, 60), (50, 50))
    book.run(CloseHold(second, 5))
    tend(plan)
    assert (has(plan), has(other)) == ((WORTH, WORTH), (50, 50))
    assert book.findings() == []


@pytest.mark.parametrize("ends", ["by itself", "cancelled"])
def test_a_plan_that_is_over_makes_nothing_good(book: Ledger, plan: Plan, ends: str) -> None:
    hold = called(book, plan, wanted=30)
    refill(plan)
    plan.refresh_from_db()
    if ends == "cancelled":
        assert plans.cancel(plan=plan, actor="root", reason="a mistake")
    else:
        assert plans.tend(plan.pk, now=plan.ends_at)
    book.run(CloseHold(hold, 20))
    tend(plan)
    assert has(plan) == (0, 0)
    assert [amount for _, _, amount in moved("grant")] == [WORTH, 70]


def test_what_the_filling_before_still_owed_is_lost_with_what_was_left_of_it(book: Ledger, plan: Plan) -> None:
    hold = called(book, plan, wanted=30)
    refill(plan)
    book.run(CloseHold(hold, 30))
    refill(plan)
    assert plans.due(plan.starts_at) == []
    assert has(plan) == (WORTH, WORTH)
