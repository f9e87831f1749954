"""Budgets on both databases: calendar windows in any zone, temporary raises, changes in mid-window, their history."""

import datetime as dt
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import DatabaseError, IntegrityError, connection, transaction
from django.utils import timezone
from hypothesis import example, given, settings
from hypothesis import strategies as st

from billing import budgets, money, rules, windows
from billing.audit import Finding
from billing.models import Budget, BudgetChange, BudgetOwner
from billing.operations import ActiveHold, CloseHold, Operation, Refusal, Refused
from tests.billing.conftest import Ledger

UTC = dt.UTC
_decide = rules.decide
MINUTE, DAY = dt.timedelta(minutes=1), dt.timedelta(days=1)


def capped(amount: int, window: str = "day", zone: str = "UTC") -> Budget:
    made = budgets.set_cap(owner=BudgetOwner.KEY, owner_id=1, window=window, cap=amount, zone=zone)
    assert made is not None
    return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Sets the time of the books, which is the database's, and of billing's functions."""

    def at(text: str) -> None:
        moment = dt.datetime.fromisoformat(text).astimezone(UTC)
        monkeypatch.setattr(timezone, "now", lambda: moment)

        def decide(locked: rules.Books, operations: Sequence[Operation]) -> Any:
            locked.now = moment
            return _decide(locked, operations)

        monkeypatch.setattr(rules, "decide", decide)

    return at


def findings(book: Ledger) -> list[Finding]:
    """For a test that sets the clock: its charges have another time than its holds, whose end is the database's own."""
    return [finding for finding in book.findings() if finding.check != "a charge was written when its hold ended"]


# ---- the calendar ---------------------------------------------------------------------------------------------------


def period(window: str, local: dt.datetime) -> Any:
    """What all moments of a window have in common."""
    if window == "day":
        return local.date()
    return local.isocalendar()[:2] if window == "week" else (local.year, local.month)


def naive_first_day(window: str, local: dt.datetime) -> dt.datetime:
    day = local.date()
    if window == "week":
        day -= dt.timedelta(days=day.isoweekday() - 1)
    if window == "month":
        day = dt.date(day.year, day.month, 1)
    return dt.datetime(day.year, day.month, day.day, tzinfo=UTC)


def naive_start(window: str, now: dt.datetime, zone: str) -> dt.datetime:
    """The first minute anywhere near that has the same day, week or month on the zone's clocks: found by walking."""
    local = now.astimezone(windows.zone(zone))
    moment = naive_first_day(window, local) - dt.timedelta(hours=16)
    while period(window, moment.astimezone(windows.zone(zone))) != period(window, local):
        moment += MINUTE
    return moment


def zone_changes(zone: str) -> Iterator[dt.datetime]:
    """About when this zone's clocks change, 2005 to 2035."""
    moment, before = dt.datetime(2005, 1, 1, tzinfo=UTC), None
    while moment.year < 2036:
        offset = moment.astimezone(windows.zone(zone)).utcoffset()
        if before is not None and offset != before:
            yield moment
        before = offset
        moment += DAY


moments = st.datetimes(dt.datetime(2012, 1, 1), dt.datetime(2035, 12, 31), timezones=st.just(UTC))
zones = st.sampled_from(windows.known_zones())


@settings(max_examples=150, deadline=None)
@given(moments, zones, st.sampled_from(["day", "week", "month"]))
@example(dt.datetime(2017, 10, 15, 12, tzinfo=UTC), "America/Sao_Paulo", "day")  # midnight is skipped
@example(dt.datetime(2018, 2, 18, 2, 30, tzinfo=UTC), "America/Sao_Paulo", "day")  # 23:00 to 24:00 twice
@example(dt.datetime(2024, 11, 3, 5, 30, tzinfo=UTC), "America/Havana", "day")  # midnight comes twice
@example(dt.datetime(2011, 12, 31, 0, tzinfo=UTC), "Pacific/Apia", "day")  # the day before was skipped
@example(dt.datetime(2024, 3, 31, 0, 30, tzinfo=UTC), "Europe/Berlin", "week")
@example(dt.datetime(2024, 3, 31, 1, 30, tzinfo=UTC), "America/Scoresbysund", "day")
def test_windows_begin_where_a_walk_over_the_clocks_finds_their_first_minute(
    now: dt.datetime, zone: str, window: str
) -> None:
    start = windows.start_of(window, now, zone)
    assert start == naive_start(window, now, zone)
    end = windows.end_of(window, now, zone)
    assert end is not None
    assert start <= now < end
    assert windows.start_of(window, end, zone) == end


@settings(max_examples=60, deadline=None)
@given(zones, st.data())
def test_windows_are_right_on_the_days_on_which_the_clocks_change(zone: str, data: st.DataObject) -> None:
    changes = list(zone_changes(zone))
    if not changes:
        return
    change = data.draw(st.sampled_from(changes))
    now = change + data.draw(st.integers(-48 * 60, 48 * 60)) * MINUTE
    window = data.draw(st.sampled_from(["day", "week", "month"]))
    assert windows.start_of(window, now, zone) == naive_start(window, now, zone)


def test_a_day_is_as_long_as_the_clocks_make_it() -> None:
    for day, hours in (("2026-03-29", 23), ("2026-10-25", 25), ("2026-06-01", 24)):
        now = dt.datetime.fromisoformat(f"{day}T12:00:00+00:00")
        start, end = windows.start_of("day", now, "Europe/Berlin"), windows.end_of("day", now, "Europe/Berlin")
        assert end is not None
        assert end - start == dt.timedelta(hours=hours)


@pytest.mark.parametrize("window", ["day", "week", "month"])
def test_spending_counts_in_the_zones_own_window(book: Ledger, clock: Callable[[str], None], window: str) -> None:
    """Monday, 1 June 2026 begins in Tokyo while it is still Sunday, 31 May in Greenwich."""
    clock("2026-05-31T14:59:59+00:00")
    budget = capped(100, window, "Asia/Tokyo")
    book.run(CloseHold(book.open(100, budgets=[budget.pk]), 100))
    assert book.run(book.opening(1, budgets=[budget.pk])) == [Refused(Refusal.BUDGET, budget.pk)]
    clock("2026-05-31T15:00:00+00:00")
    book.run(CloseHold(book.open(30, budgets=[budget.pk]), 30))
    budget.refresh_from_db()
    assert (budget.used, budget.starts_at) == (30, dt.datetime(2026, 5, 31, 15, tzinfo=UTC))
    assert findings(book) == []


# ---- another zone in mid-window -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "ends"),
    [("Asia/Tokyo", "2026-06-10T15:00:00+00:00"), ("America/Los_Angeles", "2026-06-10T07:00:00+00:00")],
)
def test_another_zone_keeps_what_the_running_window_has_spent(
    book: Ledger, clock: Callable[[str], None], zone: str, ends: str
) -> None:
    """In the night of the tenth in Greenwich it is morning in Tokyo, and still the ninth in Los Angeles."""
    clock("2026-06-10T03:00:00+00:00")
    budget = capped(100)
    book.run(CloseHold(book.open(60, budgets=[budget.pk]), 60))
    crossing = book.open(30, budgets=[budget.pk])
    budgets.set_zone(team=0, keys=[1], zone=zone, actor="alice@example.com")
    assert book.run(book.opening(11, budgets=[budget.pk])) == [Refused(Refusal.BUDGET, budget.pk)]
    before = dt.datetime.fromisoformat(ends) - dt.timedelta(seconds=1)
    clock(before.isoformat())
    book.run(CloseHold(crossing, 20))
    (standing,) = budgets.of_keys([1])[1]
    assert (standing.used, standing.held, standing.left) == (80, 0, 20)
    assert budgets.resets_at(standing, before) == dt.datetime.fromisoformat(ends)
    assert findings(book) == []
    clock(ends)
    (standing,) = budgets.of_keys([1])[1]
    assert (standing.used, standing.left) == (0, 100)
    book.open(100, budgets=[budget.pk])
    budget.refresh_from_db()
    assert (budget.used, budget.held, budget.starts_at) == (0, 100, dt.datetime.fromisoformat(ends))
    assert findings(book) == []


def test_another_zone_does_not_revive_a_window_that_has_ended(book: Ledger, clock: Callable[[str], None]) -> None:
    clock("2026-06-10T03:00:00+00:00")
    budget = capped(100)
    book.run(CloseHold(book.open(60, budgets=[budget.pk]), 60))
    clock("2026-06-12T03:00:00+00:00")
    budgets.set_zone(team=0, keys=[1], zone="Asia/Tokyo", actor="a")
    budget.refresh_from_db()
    assert (budget.used, budget.zone) == (0, "Asia/Tokyo")
    book.open(100, budgets=[budget.pk])
    assert findings(book) == []


def test_an_unknown_zone_is_refused(book: Ledger) -> None:
    capped(100)
    for zone in ("Mars/Olympus", "", "../../etc/passwd", "Europe/Berlin\x00", "utc"):
        with pytest.raises(ValueError, match="unknown time zone"):
            budgets.set_zone(team=0, keys=[1], zone=zone, actor="a")
    assert Budget.objects.get().zone == "UTC"


# ---- raises ---------------------------------------------------------------------------------------------------------


def test_a_raise_counts_in_the_holds_own_transaction_and_ends_by_itself(
    book: Ledger, clock: Callable[[str], None]
) -> None:
    clock("2026-06-10T03:00:00+00:00")
    budget = capped(100, "total")
    assert book.run(book.opening(101, budgets=[budget.pk])) == [Refused(Refusal.BUDGET, budget.pk)]
    until = dt.datetime(2026, 6, 10, 4, tzinfo=UTC)
    budgets.raise_cap(budget=budget.pk, extra=50, until=until, actor="alice@example.com", reason="a demonstration")
    active = book.open(150, budgets=[budget.pk])
    budget.refresh_from_db()
    assert (budget.cap, budget.extra, budget.held, budget.over, budget.left) == (100, 50, 150, 50, 0)
    clock("2026-06-10T04:00:00+00:00")
    assert book.run(book.opening(1, budgets=[budget.pk])) == [Refused(Refusal.BUDGET, budget.pk)]
    book.run(CloseHold(active, 120))
    budget.refresh_from_db()
    assert (budget.used, budget.held, budget.over, budget.limit) == (120, 0, 20, 100)
    (standing,) = budgets.of_keys([1])[1]
    assert (standing.extra, standing.left, standing.limit) == (0, 0, 100)
    assert findings(book) == []


def test_a_raise_can_be_replaced_and_ended_early_while_calls_hold_more(book: Ledger) -> None:
    budget = capped(100, "total")
    soon = timezone.now() + dt.timedelta(hours=1)
    budgets.raise_cap(budget=budget.pk, extra=500, until=soon, actor="alice", reason="launch")
    active = book.open(400, budgets=[budget.pk])
    budgets.raise_cap(budget=budget.pk, extra=100, until=soon, actor="bob", reason="too much")
    assert book.run(book.opening(1, budgets=[budget.pk])) == [Refused(Refusal.BUDGET, budget.pk)]
    budgets.end_raise(budget=budget.pk, actor="alice", reason="over")
    budgets.end_raise(budget=budget.pk, actor="alice", reason="again")
    book.run(CloseHold(active, 400))
    budget.refresh_from_db()
    assert (budget.used, budget.held, budget.over, budget.extra, budget.extra_until) == (400, 0, 300, 0, None)
    assert book.findings() == []
    told = [(change.action, change.extra, change.actor, change.reason) for change in budgets.changes(team=0, keys=[1])]
    assert told == [
        ("lower", 0, "alice", "over"),
        ("raise", 100, "bob", "too much"),
        ("raise", 500, "alice", "launch"),
        ("cap", 0, "", ""),
    ]


@pytest.mark.parametrize(
    ("extra", "hours", "reason", "field"),
    [
        (0, 1, "r", "extra"),
        (-1, 1, "r", "extra"),
        (money.LIMIT, 1, "r", "extra"),
        (money.LIMIT - 100, 1, "r", "extra"),
        (1, 0, "r", "until"),
        (1, -5, "r", "until"),
        (1, 24 * 400, "r", "until"),
        (1, 1, " ", "reason"),
    ],
)
def test_a_raise_that_makes_no_sense_is_refused(book: Ledger, extra: int, hours: int, reason: str, field: str) -> None:
    budget = capped(100)
    until = timezone.now() + dt.timedelta(hours=hours)
    with pytest.raises(ValidationError) as refused:
        budgets.raise_cap(budget=budget.pk, extra=extra, until=until, actor="a", reason=reason)
    assert list(refused.value.error_dict) == [field]
    assert Budget.objects.get().extra == 0


def test_the_database_refuses_a_raise_without_an_end(book: Ledger) -> None:
    budget = capped(100)
    for fields in ({"extra": 5}, {"extra_until": timezone.now()}, {"extra": -1, "extra_until": timezone.now()}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Budget.objects.filter(pk=budget.pk).update(**fields)


# ---- changes of caps ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("used", "held"), [(0, 700), (600, 0), (300, 400)])
def test_a_cap_lowered_below_what_is_used_or_held_stops_the_next_call_only(book: Ledger, used: int, held: int) -> None:
    budget = capped(1000)
    if used:
        book.run(CloseHold(book.open(used, budgets=[budget.pk]), used))
    active = book.open(held, budgets=[budget.pk]) if held else None
    capped(50)
    budget.refresh_from_db()
    assert (budget.cap, budget.used, budget.held, budget.over) == (50, used, held, used + held - 50)
    assert book.run(book.opening(1, budgets=[budget.pk])) == [Refused(Refusal.BUDGET, budget.pk)]
    assert book.findings() == []
    if active is not None:
        book.run(CloseHold(active, held - 1))
    budget.refresh_from_db()
    assert (budget.used, budget.held) == (used + max(0, held - 1), 0)
    assert book.findings() == []
    capped(1000)
    assert isinstance(book.run(book.opening(1, budgets=[budget.pk]))[0], ActiveHold)
    assert book.findings() == []


def test_several_windows_of_one_key_all_count(book: Ledger) -> None:
    made = budgets.set_caps(owner=BudgetOwner.KEY, owner_id=1, caps={"day": 300, "month": 500, "total": 400})
    ids = sorted(budget.pk for budget in made.values())
    book.run(CloseHold(book.open(300, budgets=ids), 250))
    assert {row.window: row.left for row in budgets.of_keys([1])[1]} == {"day": 50, "month": 250, "total": 150}
    assert book.run(book.opening(51, budgets=ids)) == [Refused(Refusal.BUDGET, made["day"].pk)]
    kept = budgets.set_caps(owner=BudgetOwner.KEY, owner_id=1, caps={"day": None, "week": 10})
    assert sorted(kept) == ["month", "total", "week"]
    assert book.findings() == []


def test_what_is_negative_or_huge_is_no_cap(book: Ledger) -> None:
    for cap in (-1, money.LIMIT, 2**63):
        with pytest.raises(money.InvalidAmount):
            budgets.set_cap(owner=BudgetOwner.KEY, owner_id=1, window="day", cap=cap)
    assert not Budget.objects.exists()


def test_setting_the_same_cap_again_is_no_change(book: Ledger) -> None:
    capped(100)
    capped(100)
    assert BudgetChange.objects.count() == 1


def test_changes_are_append_only(book: Ledger) -> None:
    capped(100)
    for statement in ("UPDATE billing_budgetchange SET actor = 'x'", "DELETE FROM billing_budgetchange"):
        with pytest.raises(DatabaseError), transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement)
    budgets.set_cap(owner=BudgetOwner.KEY, owner_id=1, window="day", cap=None, actor="alice")
    assert [(c.action, c.cap) for c in BudgetChange.objects.order_by("id")] == [("cap", 100), ("uncap", None)]
