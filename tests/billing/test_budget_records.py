"""Budgets function by function: whose they are, what is written down of a change, and how they are shown."""

import datetime as dt
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.utils import timezone

from billing import budgets, revisions
from billing.models import Budget, BudgetChange, BudgetOwner
from billing.operations import CloseHold
from tests.billing.conftest import Ledger

UTC = dt.UTC
NOON = dt.datetime(2026, 6, 10, 12, tzinfo=UTC)
KEY, TEAM = BudgetOwner.KEY, BudgetOwner.TEAM

pytestmark = pytest.mark.parametrize("books", ["sqlite"], indirect=True)


@pytest.fixture(autouse=True)
def noon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timezone, "now", lambda: NOON)


def cap(amount: int, window: str = "day", owner: BudgetOwner = KEY, number: int = 1, **extra: Any) -> Budget:
    made = budgets.set_cap(owner=owner, owner_id=number, window=window, cap=amount, **extra)
    assert made is not None
    return made


def told(change: BudgetChange) -> tuple[Any, ...]:
    return (
        change.owner_kind, change.owner_id, change.window, change.action, change.cap, change.extra, change.until,
        change.zone, change.actor, change.reason,
    )  # fmt: skip


def test_every_change_is_written_down_with_all_that_it_changed(book: Ledger) -> None:
    until = NOON + dt.timedelta(hours=1)
    made = cap(100, "week", TEAM, 7, zone="Asia/Tokyo", actor="alice")
    budgets.raise_cap(budget=made.pk, extra=50, until=until, actor="bob", reason="  a launch  ")
    budgets.set_caps(owner=TEAM, owner_id=7, caps={"week": 200}, actor="c" * 300, reason="r" * 600)
    budgets.set_zone(team=7, keys=[], zone="Europe/Berlin", actor="dora")
    budgets.end_raise(budget=made.pk, actor="erin", reason="over")
    budgets.raise_cap(budget=made.pk, extra=9, until=until, actor="bob", reason="again")
    assert budgets.set_cap(owner=TEAM, owner_id=7, window="week", cap=None, actor="fred") is None
    owner = ("team", 7, "week")
    assert [told(change) for change in BudgetChange.objects.order_by("id")] == [
        (*owner, "cap", 100, 0, None, "Asia/Tokyo", "alice", ""),
        (*owner, "raise", 100, 50, until, "Asia/Tokyo", "bob", "a launch"),
        (*owner, "cap", 200, 50, until, "Asia/Tokyo", "c" * 200, "r" * 500),
        (*owner, "zone", 200, 50, until, "Europe/Berlin", "dora", ""),
        (*owner, "lower", 200, 0, None, "Europe/Berlin", "erin", "over"),
        (*owner, "raise", 200, 9, until, "Europe/Berlin", "bob", "again"),
        (*owner, "uncap", None, 0, None, "Europe/Berlin", "fred", ""),
    ]
    assert not Budget.objects.exists()


def test_a_budget_is_of_utc_where_nobody_says_otherwise_and_begins_with_the_window(book: Ledger) -> None:
    made = cap(100)
    assert (made.zone, made.starts_at, made.used, made.held, made.over) == ("UTC", NOON.replace(hour=0), 0, 0, 0)
    assert cap(5, number=2, zone="Asia/Tokyo").starts_at == dt.datetime(2026, 6, 9, 15, tzinfo=UTC)
    (whole,) = budgets.set_caps(owner=KEY, owner_id=3, caps={"day": 5}).values()
    assert whole.zone == "UTC"


def test_a_teams_caps_concern_every_process_and_a_keys_do_not(book: Ledger) -> None:
    before = revisions.current().get(revisions.TEAM_BUDGETS, 0)
    cap(100)
    assert revisions.current().get(revisions.TEAM_BUDGETS, 0) == before
    cap(100, owner=TEAM)
    assert revisions.current()[revisions.TEAM_BUDGETS] == before + 1


def test_what_is_over_the_cap_is_shown_to_the_last_nano_unit(book: Ledger) -> None:
    made = cap(100, "total")
    book.run(CloseHold(book.open(100, budgets=[made.pk]), 100))
    for amount, over in ((100, 0), (99, 1), (101, 0)):
        cap(amount, "total")
        made.refresh_from_db()
        assert (made.cap, made.over) == (amount, over)


@pytest.fixture
def several(book: Ledger) -> dict[str, Budget]:
    """Budgets of two teams and two keys that have the same numbers."""
    made = {}
    for window in ("total", "month", "week", "day"):
        for owner in (TEAM, KEY):
            for number in (1, 2):
                made[f"{owner} {number} {window}"] = cap(100, window, owner, number)
    return made


def names(several: dict[str, Budget], found: Any) -> list[str]:
    by_id = {budget.pk: name for name, budget in several.items()}
    return [by_id[budget if isinstance(budget, int) else budget.pk] for budget in found]


def test_a_call_must_fit_its_keys_and_its_teams_budgets_in_the_order_of_their_ids(several: dict[str, Budget]) -> None:
    found = budgets.ids_of(key=1, team=2)
    assert isinstance(found, tuple)
    assert list(found) == sorted(found)
    assert sorted(names(several, found)) == sorted(
        [f"key 1 {window}" for window in budgets.SHORTEST_FIRST]
        + [f"team 2 {window}" for window in budgets.SHORTEST_FIRST]
    )


def test_budgets_are_shown_to_their_owners_the_shortest_window_first(several: dict[str, Budget]) -> None:
    assert names(several, budgets.of_team(2)) == [f"team 2 {window}" for window in ("day", "week", "month", "total")]
    assert budgets.of_team(3) == []
    mine = budgets.of_keys([2])
    assert list(mine) == [2]
    assert names(several, mine[2]) == [f"key 2 {window}" for window in ("day", "week", "month", "total")]
    assert sorted(budgets.of_keys([1, 2])) == [1, 2]
    assert len(budgets.of_keys([1, 2])[1]) == 4


def test_one_budget_is_found_by_whoever_owns_it(several: dict[str, Budget]) -> None:
    mine, ours = several["key 2 day"], several["team 1 day"]
    assert budgets.one(mine.pk, team=1, keys=[2]) == mine
    assert budgets.one(ours.pk, team=1, keys=[2]) == ours
    assert budgets.one(mine.pk, team=2, keys=[1]) is None
    assert budgets.one(ours.pk, team=2, keys=[1]) is None
    assert budgets.one(10**6, team=1, keys=[1, 2]) is None


def test_another_zone_is_for_the_team_and_the_keys_that_are_named(several: dict[str, Budget]) -> None:
    budgets.set_zone(team=1, keys=[2], zone="Asia/Tokyo", actor="alice")
    moved = Budget.objects.filter(zone="Asia/Tokyo")
    assert set(names(several, moved)) == {
        f"{owner} {w}" for owner in ("team 1", "key 2") for w in budgets.SHORTEST_FIRST
    }
    tokyo = dt.datetime(2026, 6, 10, 15, tzinfo=UTC)
    assert moved.get(owner_kind=KEY, window="day").kept_until == tokyo
    assert moved.get(owner_kind=KEY, window="total").kept_until is None
    changes = BudgetChange.objects.filter(action="zone").count()
    budgets.set_zone(team=1, keys=[2], zone="Asia/Tokyo", actor="alice")
    assert BudgetChange.objects.filter(action="zone").count() == changes == 8


def test_the_last_twenty_changes_of_the_team_and_its_keys_are_shown_the_newest_first(book: Ledger) -> None:
    for number in range(12):
        cap(100 + number, owner=TEAM, number=1)
        cap(200 + number, owner=KEY, number=2)
        cap(300 + number, owner=KEY, number=1)
        cap(400 + number, owner=TEAM, number=2)
    found = budgets.changes(team=1, keys=[2])[:20]
    assert [change.cap for change in found] == [cap for n in range(11, 1, -1) for cap in (200 + n, 100 + n)]
    assert [change.cap for change in budgets.changes(team=1, keys=[2])[:1]] == [211]


def test_a_window_ends_with_its_calendar_or_when_it_was_kept_until(book: Ledger) -> None:
    made = cap(100)
    midnight = NOON.replace(hour=0) + dt.timedelta(days=1)
    assert budgets.resets_at(made, NOON) == midnight
    made.kept_until = kept = NOON + dt.timedelta(hours=3)
    assert budgets.resets_at(made, NOON) == kept
    assert budgets.resets_at(made, kept - dt.timedelta(microseconds=1)) == kept
    assert budgets.resets_at(made, kept) == midnight
    assert budgets.resets_at(cap(5, "total"), NOON) is None
    assert budgets.resets_at(cap(5, "day", KEY, 2, zone="Asia/Tokyo"), NOON) == dt.datetime(2026, 6, 10, 15, tzinfo=UTC)


def test_a_window_that_has_ended_is_shown_as_new_with_what_calls_still_hold(book: Ledger) -> None:
    made = cap(100)
    yesterday = made.starts_at - dt.timedelta(days=1)
    stale = {"starts_at": yesterday, "used": 70, "held": 130, "over": 100, "extra": 5, "extra_until": NOON}
    Budget.objects.filter(pk=made.pk).update(**stale)
    (shown,) = budgets.of_keys([1])[1]
    assert (shown.starts_at, shown.used, shown.held, shown.over) == (made.starts_at, 0, 130, 30)
    assert (shown.extra, shown.extra_until, shown.kept_until) == (0, None, None)
    Budget.objects.filter(pk=made.pk).update(held=20, over=0)
    assert budgets.of_keys([1])[1][0].over == 0
    made.refresh_from_db()
    assert (made.starts_at, made.used, made.extra) == (yesterday, 70, 5)  # nothing was written
    Budget.objects.filter(pk=made.pk).update(kept_until=NOON + dt.timedelta(seconds=1))
    (kept,) = budgets.of_keys([1])[1]
    assert (kept.starts_at, kept.used) == (yesterday, 70)


def test_a_raise_that_runs_is_shown_and_a_cap_that_was_none_is_not_missed(book: Ledger) -> None:
    made, until = cap(100), NOON + dt.timedelta(seconds=1)
    budgets.raise_cap(budget=made.pk, extra=5, until=until, actor="a", reason="r")
    (shown,) = budgets.of_keys([1])[1]
    assert (shown.extra, shown.extra_until) == (5, until)
    assert list(budgets.set_caps(owner=KEY, owner_id=1, caps={"week": None, "total": 9})) == ["day", "total"]


def test_a_raise_says_what_is_wrong_with_it(book: Ledger) -> None:
    made = cap(100)
    longest = NOON + budgets.LONGEST_RAISE
    for extra, until, reason, said in (
        (0, longest, "r", {"extra": ["A raise is more than zero and fits the ledger."]}),
        (1, NOON, "r", {"until": ["This moment lies in the past."]}),
        (1, longest + dt.timedelta(microseconds=1), "r", {
            "until": ["A raise lasts at most a year; change the cap instead."]
        }),
        (1, longest, " ", {"reason": ["A raise needs a reason; it is kept."]}),
    ):  # fmt: skip
        with pytest.raises(ValidationError) as refused:
            budgets.raise_cap(budget=made.pk, extra=extra, until=until, actor="a", reason=reason)
        assert refused.value.message_dict == said
    raised = budgets.raise_cap(budget=made.pk, extra=1, until=longest, actor="a", reason="r")
    assert (raised.extra, raised.extra_until) == (1, longest)
    with pytest.raises(Budget.DoesNotExist):
        budgets.raise_cap(budget=10**6, extra=1, until=longest, actor="a", reason="r")
