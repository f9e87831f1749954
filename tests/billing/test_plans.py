"""Plans from their purchase to their end, on both databases: what was paid, filled, drawn and lost adds up."""

import datetime as dt
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from billing import audit, ledger, plans, windows
from billing.models import Account, AccountKind, Plan, PlanKind, PlanOffer, PlanState, Transfer, TransferKind, Window
from portal import services
from portal.models import Team
from tests.kit import databases
from tests.kit.ports import eventually

UNIT = 10**9
# Each an hour or more behind the one before it.
WESTWARD = ("Pacific/Tongatapu", "Pacific/Fiji", "Asia/Magadan", "Asia/Vladivostok", "Asia/Tokyo", "Asia/Shanghai")


@pytest.fixture
def team(books: str) -> Team:
    ledger.forget_revenue_account()
    _, made = services.user_with_team("alice@example.com")
    ledger.credit(wallet=ledger.wallet_of(made.pk), amount=50 * UNIT, actor="tests", reason="to spend")
    return made


def offered(**terms: Any) -> PlanOffer:
    usual: dict[str, Any] = {"name": "Starter", "kind": PlanKind.CREDIT, "price": 10 * UNIT, "value": 12 * UNIT}
    return PlanOffer.objects.create(**{**usual, "days": 30, **terms})


def bought(team: Team, offer: PlanOffer, order: uuid.UUID | None = None) -> Plan:
    return plans.buy(team=team.pk, offer=offer, at_most=offer.price, order=order or uuid.uuid4(), actor="alice")


def moved(kind: str) -> list[tuple[str, str, int]]:
    rows = Transfer.objects.filter(kind=kind).order_by("pk")
    return [(row.debit.kind, row.credit.kind, row.amount) for row in rows.select_related("debit", "credit")]


def balance(team: Team) -> int:
    return ledger.wallet_of(team.pk).balance


def whole() -> bool:
    return audit.run() == []


def test_a_plan_takes_its_price_from_the_wallet_and_is_filled_with_its_worth(team: Team) -> None:
    plan = bought(team, offered())
    assert balance(team) == 40 * UNIT
    assert plan.account.kind == AccountKind.PLAN
    assert Account.objects.get(pk=plan.account_id).balance == 12 * UNIT
    assert moved("purchase") == [("wallet", "plans", 10 * UNIT)]
    assert moved("grant") == [("plans", "plan", 12 * UNIT)]
    assert whole()


def test_the_same_order_twice_buys_once(team: Team) -> None:
    offer, order = offered(), uuid.uuid4()
    first = bought(team, offer, order)
    assert bought(team, offer, order) == first
    assert balance(team) == 40 * UNIT


def test_of_many_double_clicks_one_buys(team: Team) -> None:
    offer, order = offered(), uuid.uuid4()

    def click(_: int) -> int:
        try:
            return bought(team, offer, order).pk
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(click, range(16)))
    assert len(found) == 1
    assert balance(team) == 40 * UNIT
    assert whole()


def test_an_order_of_another_team_is_not_shown_to_this_one(team: Team) -> None:
    order = uuid.uuid4()
    bought(team, offered(), order)
    _, other = services.user_with_team("charlie@example.com")
    with pytest.raises(plans.NotForSale):
        bought(other, offered(name="Other"), order)


def test_a_wallet_that_is_short_buys_nothing(team: Team) -> None:
    with pytest.raises(ledger.InsufficientFunds):
        bought(team, offered(price=51 * UNIT))
    assert (balance(team), Plan.objects.count(), Account.objects.filter(kind="plan").count()) == (50 * UNIT, 0, 0)
    assert whole()


def test_what_is_not_for_sale_any_more_is_not_sold(team: Team) -> None:
    offer = offered()
    PlanOffer.objects.update(active=False)
    with pytest.raises(plans.NotForSale):
        bought(team, offer)


def test_nobody_pays_more_than_the_price_that_was_seen(team: Team) -> None:
    offer = offered()
    PlanOffer.objects.update(price=11 * UNIT)
    with pytest.raises(plans.Dearer):
        bought(team, offer)
    assert (balance(team), Plan.objects.count()) == (50 * UNIT, 0)
    PlanOffer.objects.update(price=9 * UNIT)
    assert bought(team, offer).price == 9 * UNIT
    assert balance(team) == 41 * UNIT
    assert whole()


def test_no_more_run_at_once_than_the_offer_allows(team: Team) -> None:
    offer = offered(at_once=1, price=UNIT)
    plan = bought(team, offer)
    with pytest.raises(plans.TooMany):
        bought(team, offer)
    plans.cancel(plan=plan, actor="root", reason="changed their mind")
    bought(team, offer)
    assert whole()


def test_a_plan_of_calls_is_worth_its_calls_at_a_rate_that_covers_the_price() -> None:
    assert plans.rate(10 * UNIT, 3) == 3_333_333_334
    assert plans.worth(kind="calls", price=10 * UNIT, value=None, calls=3) == 10_000_000_002
    assert plans.worth(kind="calls", price=0, value=None, calls=5) == 5  # given away, and still counted
    assert plans.worth(kind="credit", price=0, value=7, calls=None) == 7


@pytest.mark.parametrize(
    "terms",
    [
        {"kind": "credit", "price": 1, "value": None, "calls": None},
        {"kind": "credit", "price": 1, "value": 0, "calls": None},
        {"kind": "credit", "price": 1, "value": -5, "calls": None},
        {"kind": "credit", "price": 1, "value": 10**19, "calls": None},
        {"kind": "credit", "price": -1, "value": 5, "calls": None},
        {"kind": "credit", "price": 1, "value": 5, "calls": 5},
        {"kind": "calls", "price": 1, "value": 5, "calls": 5},
        {"kind": "calls", "price": 1, "value": None, "calls": 0},
        {"kind": "calls", "price": 1, "value": None, "calls": None},
    ],
)
def test_an_offer_that_cannot_be_is_refused(terms: Any) -> None:
    with pytest.raises(ValueError, match=r"plan|price"):
        plans.worth(**terms)


def test_plans_pay_those_of_calls_first_and_then_whichever_ends_first(team: Team) -> None:
    late = bought(team, offered(name="late", days=60, price=1))
    soon = bought(team, offered(name="soon", days=5, price=1))
    calls = bought(team, offered(name="calls", kind="calls", calls=10, value=100, price=100, days=90))
    assert [paying.account for paying in plans.of_team(team.pk)] == [calls.account_id, soon.account_id, late.account_id]
    assert [paying.rate for paying in plans.of_team(team.pk)] == [10, None, None]


def test_what_is_left_at_the_end_is_lost_once_and_says_so(team: Team) -> None:
    plan = bought(team, offered(days=1))
    end = plan.ends_at
    assert plans.due(end - dt.timedelta(seconds=1)) == []
    assert [plans.tend(number, now=end) for number in plans.due(end)] == [True]
    assert plans.tend(plan.pk, now=end) is True  # nothing is left to lose, so this moves nothing
    assert moved("expiry") == [("plan", "plans", 12 * UNIT)]
    plan.refresh_from_db()
    assert plan.state == PlanState.ENDED
    assert plans.of_team(team.pk) == ()
    assert whole()


def test_a_plan_is_filled_anew_in_each_window_of_the_teams_zone_and_loses_what_was_left(team: Team) -> None:
    services.set_time_zone(team, "Asia/Shanghai", actor="tests")
    plan = bought(team, offered(refill=Window.DAY, days=3))
    assert plan.fill_at is not None
    assert plan.fill_at.astimezone(dt.UTC).strftime("%H:%M") == "16:00"  # midnight in Shanghai
    first = plan.fill_at
    assert plans.due(first - dt.timedelta(seconds=1)) == []
    assert [plans.tend(number, now=first) for number in plans.due(first)] == [True]
    assert not plans.tend(plan.pk, now=first), "the same filling does not come twice"
    assert moved("expiry") == [("plan", "plans", 12 * UNIT)]
    assert moved("grant") == [("plans", "plan", 12 * UNIT)] * 2
    plan.refresh_from_db()
    assert plan.fill_at == first + dt.timedelta(days=1)
    assert whole()


def moment(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC)


@pytest.mark.parametrize("refill", [Window.DAY, Window.WEEK, Window.MONTH])
def test_a_plan_is_filled_by_the_zone_in_which_it_was_bought_wherever_its_team_moves(team: Team, refill: str) -> None:
    services.set_time_zone(team, "Pacific/Kiritimati", actor="alice")
    plan = bought(team, offered(refill=refill, days=90))
    first = plan.fill_at
    assert first is not None
    for hour, zone in enumerate(WESTWARD):  # midnight goes round the earth, and the team before it
        services.set_time_zone(team, zone, actor="alice")
        plans.tend(plan.pk, now=first + dt.timedelta(hours=hour))
    assert len(moved("grant")) == 2, "as it was bought, and at its first midnight"
    plan.refresh_from_db()
    assert plan.fill_at == windows.end_of(refill, first, "Pacific/Kiritimati")
    services.set_time_zone(team, "Asia/Tokyo", actor="alice")
    assert bought(team, offered(name="Next", refill=refill)).zone == "Asia/Tokyo"
    assert whole()


@pytest.mark.parametrize(
    ("midnight", "following"),
    [
        ("2031-03-29T23:00+00:00", "2031-03-30T22:00+00:00"),  # a day of 23 hours
        ("2031-10-25T22:00+00:00", "2031-10-26T23:00+00:00"),  # one of 25
        ("2031-10-25T21:00+00:00", "2031-10-26T23:00+00:00"),  # the law was changed after the moment was fixed
        ("2031-10-25T23:00+00:00", "2031-10-26T23:00+00:00"),
    ],
)
def test_a_day_is_filled_once_whatever_is_done_to_the_clocks(team: Team, midnight: str, following: str) -> None:
    plan = bought(team, offered(refill=Window.DAY))
    due = moment(midnight)
    Plan.objects.update(zone="Europe/Berlin", fill_at=due, ends_at=due + dt.timedelta(days=9))
    assert plans.tend(plan.pk, now=due)
    plan.refresh_from_db()
    assert plan.fill_at == moment(following)
    assert not plans.tend(plan.pk, now=plan.fill_at - dt.timedelta(seconds=1))


@pytest.mark.parametrize("refill", Window.values)
def test_what_a_plan_was_given_beyond_its_fillings_is_found_and_stops_nobody(team: Team, refill: str) -> None:
    plan = bought(team, offered(refill=refill, days=90))
    if plan.fill_at is not None:
        assert plans.tend(plan.pk, now=plan.fill_at)
    assert whole()
    sold = ledger.platform_account(AccountKind.PLANS)
    ledger.post(
        kind=TransferKind.GRANT, debit=sold, credit=plan.account, amount=1, reference="more", actor="", reason="more"
    )
    (found,) = audit.run()
    assert found.check == "a plan was given one filling at most for each of its windows"
    assert (found.account, found.freezes) == (plan.account_id, False)


@pytest.mark.parametrize("kind", databases.KINDS)
def test_plans_from_before_they_had_a_time_zone_go_on_in_their_teams(kind: str) -> None:
    url = databases.new(kind)
    try:
        with databases.inside(url):
            ledger.forget_revenue_account()
            _, here = services.user_with_team("alice@example.com")
            _, there = services.user_with_team("bob@example.com")
            services.set_time_zone(there, "Asia/Shanghai", actor="bob")
            offer = offered(price=0, refill=Window.DAY)
            before = {bought(one, offer).pk: one.time_zone for one in (here, there)}
        databases.migrate(url, "billing", "0015")
        databases.migrate(url, "billing")
        with databases.inside(url):
            assert dict(Plan.objects.values_list("pk", "zone")) == before
            assert whole()
    finally:
        databases.drop(url)


def test_a_worker_that_was_away_for_days_fills_once_for_the_window_that_runs(team: Team) -> None:
    plan = bought(team, offered(refill=Window.DAY, days=10))
    assert plan.fill_at is not None
    later = plan.fill_at + dt.timedelta(days=4, hours=5)
    assert [plans.tend(number, now=later) for number in plans.due(later)] == [True]
    assert plans.due(later) == []
    assert len(moved("grant")) == 2


def test_the_last_window_of_a_plan_is_not_filled_after_its_end(team: Team) -> None:
    plan = bought(team, offered(refill=Window.MONTH, days=1, name="a day"))
    assert plan.fill_at is None or plan.fill_at < plan.ends_at


def test_a_cancelled_plan_ends_now_and_only_once(team: Team) -> None:
    plan = bought(team, offered())
    stale = Plan.objects.get(pk=plan.pk)
    assert plans.cancel(plan=plan, actor="root", reason="a mistake")
    assert not plans.cancel(plan=stale, actor="root", reason="again")
    assert plan.ends_at <= timezone.now()
    assert moved("expiry") == [("plan", "plans", 12 * UNIT)]
    with pytest.raises(ValueError, match="reason"):
        plans.cancel(plan=plan, actor="root", reason=" ")
    assert whole()


def test_what_a_call_gives_back_after_the_end_is_lost_too(team: Team) -> None:
    plan = bought(team, offered(days=1))
    Account.objects.filter(pk=plan.account_id).update(held=UNIT)
    assert plans.tend(plan.pk, now=plan.ends_at)
    assert moved("expiry") == [("plan", "plans", 11 * UNIT)]
    Account.objects.filter(pk=plan.account_id).update(held=0)
    assert plans.due(plan.ends_at) == [plan.pk]
    assert plans.tend(plan.pk, now=plan.ends_at)
    assert moved("expiry") == [("plan", "plans", 11 * UNIT), ("plan", "plans", UNIT)]
    assert plans.due(plan.ends_at) == []
    assert whole()


def test_what_is_for_sale_is_listed_by_its_price_and_without_what_is_withdrawn(team: Team) -> None:
    dear, cheap = offered(name="dear", price=9 * UNIT), offered(name="cheap", price=UNIT)
    also = offered(name="also cheap", price=UNIT)
    offered(name="withdrawn", active=False)
    assert list(plans.for_sale()) == [cheap, also, dear]


def test_a_team_s_plans_are_those_that_pay_and_those_that_pay_no_more(team: Team) -> None:
    _, other = services.user_with_team("bob@example.com")
    ledger.credit(wallet=ledger.wallet_of(other.pk), amount=50 * UNIT, actor="tests", reason="to spend")
    offer = offered(price=1)
    late, soon, cancelled, over = (bought(team, offer) for _ in range(4))
    bought(other, offer)
    Plan.objects.filter(pk=soon.pk).update(ends_at=timezone.now() + dt.timedelta(days=1))
    plans.cancel(plan=cancelled, actor="root", reason="a mistake")
    Plan.objects.filter(pk=over.pk).update(ends_at=timezone.now() - dt.timedelta(days=1))  # and nobody has tended it
    assert list(plans.running(team.pk)) == [soon, late]
    assert list(plans.ended(team.pk)) == [cancelled, over]


def test_a_plan_for_some_models_pays_for_no_other(team: Team) -> None:
    bought(team, offered(name="all"))
    bought(team, offered(name="some", models=["gpt-4o-mini"], days=60))
    everything, some = plans.of_team(team.pk)
    assert (everything.covers("claude"), some.covers("claude"), some.covers("gpt-4o-mini")) == (True, False, True)


def test_two_workers_that_tend_a_plan_at_once_do_it_once(team: Team) -> None:
    plan = bought(team, offered(days=1))
    stale = Plan.objects.get(pk=plan.pk)
    assert plans.tend(plan.pk, now=plan.ends_at)
    assert not plans.cancel(plan=stale, actor="root", reason="too late")
    after = Plan.objects.get(pk=plan.pk)
    assert (after.state, after.steps) == (PlanState.ENDED, stale.steps + 1)
    assert plans.tend(plan.pk, now=plan.ends_at)
    assert Plan.objects.get(pk=plan.pk).steps == stale.steps + 2
    assert moved("expiry") == [("plan", "plans", 12 * UNIT)]


def test_a_plan_that_is_given_away_moves_nothing_from_the_wallet(team: Team) -> None:
    bought(team, offered(price=0))
    assert (balance(team), moved("purchase")) == (50 * UNIT, [])
    assert moved("grant") == [("plans", "plan", 12 * UNIT)]
    assert whole()


# ---- two in the same moment: PostgreSQL lets the second wait for a row that it has read as it was before -------------

on_postgres = pytest.mark.parametrize("books", ["postgres"], indirect=True)  # SQLite lets nobody begin meanwhile


def second(first: Callable[[], Any], then: Callable[[], Any]) -> Any:
    """What `then` comes to, which begins before the transaction of `first` is over and has to wait for it."""

    def alone() -> Any:
        try:
            return then()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        with transaction.atomic():
            first()
            later = pool.submit(alone)
            eventually(somebody_waits)
        return later.result(timeout=20)


def somebody_waits() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY(pg_blocking_pids(pid)))"
        )
        return bool(cursor.fetchone()[0])


@on_postgres
def test_one_order_of_two_teams_is_one_teams(team: Team) -> None:
    offer, order = offered(), uuid.uuid4()
    _, other = services.user_with_team("bob@example.com")
    ledger.credit(wallet=ledger.wallet_of(other.pk), amount=50 * UNIT, actor="tests", reason="to spend")

    def too_late() -> str:
        with pytest.raises(plans.NotForSale) as refused:
            bought(other, offer, order)
        return str(refused.value)

    assert second(lambda: bought(team, offer, order), too_late) == str(order)
    assert Plan.objects.get().team == team
    assert (ledger.wallet_of(team.pk).balance, ledger.wallet_of(other.pk).balance) == (40 * UNIT, 50 * UNIT)
    assert whole()


@on_postgres
@pytest.mark.parametrize("what", ["ended", "filled anew", "what came back after its end"])
def test_two_workers_tend_a_plan_once(team: Team, what: str) -> None:
    plan = bought(team, offered(refill=Window.DAY, days=3))
    assert plan.fill_at is not None
    now = plan.fill_at if what == "filled anew" else plan.ends_at
    if what == "what came back after its end":
        Account.objects.filter(pk=plan.account_id).update(held=UNIT)
        assert plans.tend(plan.pk, now=now)
        Account.objects.filter(pk=plan.account_id).update(held=0)
    before, steps = len(moved("expiry")), Plan.objects.get(pk=plan.pk).steps
    assert second(lambda: plans.tend(plan.pk, now=now), lambda: plans.tend(plan.pk, now=now)) is False
    assert (len(moved("expiry")), Plan.objects.get(pk=plan.pk).steps) == (before + 1, steps + 1)
    assert whole()


@on_postgres
def test_a_plan_that_ends_while_it_is_cancelled_ends_once(team: Team) -> None:
    plan = bought(team, offered(days=1))
    stale = Plan.objects.get(pk=plan.pk)
    later = plan.ends_at + dt.timedelta(seconds=1)
    cancelled = second(
        lambda: plans.tend(plan.pk, now=later), lambda: plans.cancel(plan=stale, actor="root", reason="a mistake")
    )
    assert cancelled is False
    assert len(moved("expiry")) == 1
    assert whole()
