"""The roll-ups have every call exactly once: late ones, several workers, repairs, restored databases."""

import datetime as dt
import threading
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, connections, transaction
from django.test import override_settings
from django.utils import timezone

from billing import audit, plans
from billing.audit.recent import CALLS
from billing.models import AuditFinding, PlanKind, PlanOffer, Transfer
from relay import partitions, reports, rollup_audit, rollups, tasks
from relay.models import CallLog, Rollup, RollupCursor
from relay.rollups import COLUMNS, EVERYBODY, HOUR
from tests.kit import databases
from tests.rollups.conftest import House, run

LONG_AGO = dt.timedelta(hours=5)


def rolled(team: int = EVERYBODY, grain: int = HOUR) -> tuple[int, int]:
    """Calls and nano-units in the roll-ups."""
    rows = Rollup.objects.filter(team_id=team, grain=grain).values_list("calls", "cost")
    return sum(calls for calls, _ in rows), sum(cost for _, cost in rows)


def reported(house: House) -> tuple[int, int]:
    now = timezone.now()
    wanted = reports.Wanted(team=EVERYBODY, start=now - dt.timedelta(days=400), end=now + dt.timedelta(days=1))
    found = reports.total(wanted)
    return found.calls, found.cost


def test_every_grain_has_every_call_once_however_often_the_job_runs(house: House) -> None:
    now = timezone.now()
    calls = [house.call(now - dt.timedelta(minutes=7 * number), who=number % 3) for number in range(30)]
    expected = len(calls), sum(call.charge.amount for call in calls if call.charge)
    for _ in range(3):
        tasks.roll_up_usage()
        for grain in rollups.GRAINS:
            assert rolled(grain=grain) == expected
            teams = [rolled(team, grain) for team in house.teams]
            assert tuple(map(sum, zip(*teams, strict=True))) == expected
    assert AuditFinding.objects.count() == 0


def test_a_call_that_ends_hours_later_goes_to_the_hour_in_which_it_began(house: House) -> None:
    now = timezone.now()
    late = house.begin(now - LONG_AGO)
    house.call(now)
    tasks.roll_up_usage()
    assert rolled()[0] == 1
    cost = house.settle(late)
    assert reported(house)[0] == 2
    tasks.roll_up_usage()
    hour = int((now - LONG_AGO).timestamp()) // HOUR * HOUR
    row = Rollup.objects.get(team_id=EVERYBODY, grain=HOUR, bucket=hour, state="settled")
    assert (row.calls, row.cost) == (1, cost)
    assert AuditFinding.objects.count() == 0


def test_batches_of_any_size_come_to_the_same(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()
    several = [house.begin(now - number * LONG_AGO) for number in range(4)]
    run(*(house.closing(call) for call in several), revenue=house.revenue)  # of one transaction
    for number in range(7):
        house.call(now - dt.timedelta(minutes=number))
    monkeypatch.setattr(rollups, "BATCH", 2)
    rollups.roll_up()
    assert rolled() == reported(house)
    assert rolled()[0] == 11


def in_another_connection(work: Callable[[], Any], url_of: Any) -> threading.Thread:
    """A thread has a connection of its own to the same database."""

    def go() -> None:
        try:
            work()
        finally:
            connections["default"].close()

    thread = threading.Thread(target=go)
    thread.start()
    return thread


def test_a_transaction_that_commits_after_younger_ones_is_not_passed_over() -> None:
    """Only PostgreSQL has several writers."""
    url = databases.new("postgres")
    try:
        with databases.inside(url):
            _late_commit(House("postgres"))
    finally:
        databases.drop(url)


def _late_commit(house: House) -> None:
    now = timezone.now()
    first, second = house.begin(now, who=0), house.begin(now, who=2)
    written, commit = threading.Event(), threading.Event()

    def slow() -> None:
        with transaction.atomic():
            run(house.closing(first), revenue=house.revenue)
            written.set()
            assert commit.wait(30)

    thread = in_another_connection(slow, None)
    assert written.wait(30)
    house.settle(second)
    for _ in range(2):
        rollups.roll_up()
        assert rolled()[0] == 0  # the older transaction is still running
        assert reported(house)[0] == 1  # and nobody has to wait for it
    commit.set()
    thread.join()
    assert reported(house)[0] == 2
    rollups.roll_up()
    assert rolled() == reported(house)
    assert rolled()[0] == 2
    assert audit.run() == []


def test_of_two_workers_one_does_the_work(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    now = timezone.now()
    for number in range(12):
        house.call(now - dt.timedelta(minutes=number))
    monkeypatch.setattr(rollups, "BATCH", 1)
    name = connection.settings_dict["NAME"]
    threads = [in_another_connection(rollups.roll_up, name) for _ in range(3)]
    rollups.roll_up()
    for thread in threads:
        thread.join()
    rollups.roll_up()
    assert rolled() == reported(house)
    assert rolled()[0] == 12


def test_a_run_that_dies_leaves_nothing_half_done(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.call(timezone.now())
    real = rollups._add

    def dying(*given: Any) -> int:
        real(*given)
        raise RuntimeError("the worker is killed")

    with monkeypatch.context() as patch:
        patch.setattr(rollups, "_add", dying)
        with pytest.raises(RuntimeError):
            rollups.roll_up()
    assert rolled() == (0, 0)
    rollups.roll_up()
    assert rolled()[0] == 1


@pytest.mark.parametrize("usage", ['"text"', '{"input": "many"}', '{"input": -5, "output": 1e300}', "[]"])
def test_a_record_that_nobody_can_read_stops_no_other(house: House, usage: str) -> None:
    calls = [house.call(timezone.now()) for _ in range(2)]
    number = calls[0].id if house.kind == "postgres" else calls[0].id.hex
    with connection.cursor() as cursor:
        cursor.execute("UPDATE relay_calllog SET usage = %s WHERE id = %s", [usage, number])
    rollups.roll_up()
    assert rolled()[0] == 2
    (row,) = Rollup.objects.filter(team_id=EVERYBODY, grain=HOUR)
    assert row.used_input == 1000


# ---- the audit ------------------------------------------------------------------------------------------------------


def drift(house: House, sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE relay_rollup SET cost = cost + 1 WHERE grain = 3600 AND team_id > 0",
        "UPDATE relay_rollup SET cost = cost + 1 WHERE grain = 900 AND team_id > 0",
        "UPDATE relay_rollup SET cost = cost + 1 WHERE grain = 86400 AND team_id = 0",
        "UPDATE relay_rollup SET calls = calls + 1 WHERE grain = 86400",
        "UPDATE relay_rollup SET used_output = used_output + 1 WHERE team_id = 0 AND grain = 3600",
        "UPDATE relay_rollup SET provider_cost = provider_cost - 1 WHERE grain = 900",
        "UPDATE relay_rollup SET model = 'another' WHERE grain = 3600",
        "DELETE FROM relay_rollup WHERE grain = 3600 AND team_id > 0",
        "DELETE FROM relay_rollup WHERE team_id > 0",
        f"INSERT INTO relay_rollup ({', '.join(COLUMNS)}) "
        f"SELECT {', '.join(COLUMNS).replace('key_id', 'key_id + 100')} FROM relay_rollup WHERE grain = 3600",
    ],
)
def test_a_difference_is_a_finding_and_is_repaired_from_the_log(house: House, sql: str) -> None:
    at = timezone.now() - LONG_AGO
    for who in range(3):
        house.call(at, who=who)
    rollups.roll_up()
    hour = int(at.timestamp()) // HOUR * HOUR
    assert rollup_audit.look([hour]) == []
    before = list(Rollup.objects.order_by("pk").values_list())
    drift(house, sql)
    assert [finding.subject for finding in rollup_audit.look([hour])] == [f"hour {at:%Y-%m-%d %H}"]
    assert rollup_audit.step() == []
    row = AuditFinding.objects.get()
    assert (row.invariant, row.froze) == (rollup_audit.CHECK, False)
    assert row.subject == f"hour {at:%Y-%m-%d %H}" or "grain = 86400" in sql
    assert row.gone_at is not None
    assert list(Rollup.objects.order_by("pk").values_list()) == before
    assert audit.run() == []


def test_what_plans_pay_and_what_nobody_can_pay_is_charged_too(house: House) -> None:
    at, who = timezone.now() - LONG_AGO, house.principals[0]
    offer = PlanOffer.objects.create(name="small", kind=PlanKind.CREDIT, price=5, value=400_000, days=30)
    plan = plans.buy(team=who.team, offer=offer, at_most=offer.price, order=uuid.uuid4(), actor="tests")
    house.call(at, plans=(plan.account_id,))  # costs more than the plan has
    house.call(at, tokens=(10**12, 0))  # costs more than the wallet has
    kinds = Transfer.objects.filter(kind__in=CALLS).values_list("kind", flat=True)
    assert set(kinds) == {"draw", "charge", "shortfall"}
    rollups.roll_up()
    assert rollup_audit.look([int(at.timestamp()) // HOUR * HOUR]) == []
    assert rolled() == reported(house)
    assert rollup_audit.CHECK not in {finding.check for finding in audit.run()}


def test_what_the_log_cannot_explain_stays_a_finding(house: House) -> None:
    at = timezone.now() - LONG_AGO
    lost = house.call(at)
    rollups.roll_up()
    CallLog.objects.filter(pk=lost.id).update(cost=1)
    assert len(rollup_audit.step()) == 1
    assert AuditFinding.objects.get().gone_at is None
    assert rollup_audit.CHECK in {finding.check for finding in audit.run()}


def test_in_time_every_hour_is_audited_again(house: House) -> None:
    now = timezone.now()
    for number in range(6):
        house.call(now - dt.timedelta(hours=2 + 9 * number))
    tasks.roll_up_usage()
    drift(house, "UPDATE relay_rollup SET cost = cost + 1 WHERE grain = 3600 AND team_id > 0")
    for _ in range(8):
        tasks.roll_up_usage()
    assert rolled() == reported(house)
    assert AuditFinding.objects.count() == AuditFinding.objects.exclude(gone_at=None).count() == 6


def test_a_database_that_was_restored_elsewhere_begins_anew() -> None:
    """Its transactions have smaller numbers than those that were rolled up before."""
    url = databases.new("postgres")
    try:
        with databases.inside(url):
            house = House("postgres")
            now = timezone.now()
            for number in range(5):
                house.call(now - dt.timedelta(hours=number))
            rollups.roll_up()
            CallLog.objects.update(arrival=2**40)
            RollupCursor.objects.update(horizon=2**40 + 1)
            house.call(now)  # its number is below what counts as rolled up
            assert reported(house)[0] == 5
            tasks.roll_up_usage()
            tasks.roll_up_usage()
            assert rolled() == reported(house)
            assert rolled()[0] == 6
            assert audit.run() == []
    finally:
        databases.drop(url)


def test_a_vacuum_of_sqlite_loses_no_call() -> None:
    """It numbers the rows anew where some are missing."""
    url = databases.new("sqlite")
    try:
        with databases.inside(url):
            house = House("sqlite")
            now = timezone.now()
            for number in range(6):
                house.call(now - dt.timedelta(days=100 if number < 4 else 0, hours=number))
            rollups.roll_up()
            with override_settings(CALL_LOG_MONTHS=1):
                assert partitions.prune() > 0
            with connection.cursor() as cursor:
                cursor.execute("VACUUM")
            house.call(now)
            for _ in range(2):
                tasks.roll_up_usage()
            assert rolled() == reported(house)
            assert rolled()[0] == 7
            assert audit.run() == []
    finally:
        databases.drop(url)


def test_a_call_that_arrives_before_new_numbers_are_noticed_is_found_by_the_audit(house: House) -> None:
    at = timezone.now() - LONG_AGO
    house.call(at)
    rollups.roll_up()
    RollupCursor.objects.update(horizon=rollups.cursor().horizon + 1_000)
    house.call(at)  # its number is below what counts as rolled up
    assert rolled()[0] == reported(house)[0] == 1
    RollupCursor.objects.update(horizon=rollups._decided(rollups.BEGINNING))
    tasks.roll_up_usage()
    assert rolled() == reported(house)
    assert rolled()[0] == 2
    assert AuditFinding.objects.get().gone_at is not None
