"""The call log by months: made ahead, looked up in one, pruned by policy; the books and the sums stay."""

import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings
from django.utils import timezone

from billing import audit, ids
from billing.models import Hold, Transfer
from relay import partitions, reports, rollup_audit, rollups, tasks
from relay.models import Attempt, CallLog
from relay.rollups import EVERYBODY, HOUR
from tests.kit import databases
from tests.rollups.conftest import House

OLD = dt.timedelta(days=100)


@pytest.fixture
def postgres() -> Iterator[House]:
    url = databases.new("postgres")
    with databases.inside(url):
        yield House("postgres")
    databases.drop(url)


def total() -> tuple[int, int]:
    now = timezone.now()
    start = (now - dt.timedelta(days=400)).replace(hour=0, minute=0, second=0, microsecond=0)
    found = reports.total(reports.Wanted(team=EVERYBODY, start=start, end=now + dt.timedelta(days=1)))
    return found.calls, found.cost


def rows(table: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {table}")
        return int(cursor.fetchone()[0])


@pytest.mark.parametrize("moment", ["2026-01-31T23:59:59.999", "2026-12-31T00:00:00", "2024-02-29T12:00:00"])
def test_months_follow_one_another(moment: str) -> None:
    month = partitions.month_of(dt.datetime.fromisoformat(moment).replace(tzinfo=dt.UTC))
    assert (month.day, month.hour) == (1, 0)
    following = partitions.months_later(month, 1)
    assert partitions.months_later(following, -1) == month
    assert partitions.month_of(following - dt.timedelta(microseconds=1)) == month
    assert partitions.months_later(month, 24).year == month.year + 2


def test_this_month_and_the_next_ones_are_made_ahead(postgres: House) -> None:
    this = partitions.month_of(timezone.now())
    ahead = {partitions.months_later(this, number) for number in range(partitions.AHEAD + 1)}
    for table in partitions.KEYS:
        assert partitions.existing(table).keys() == ahead
    assert partitions.missing_ahead() == []
    assert partitions.make_ahead() == 0
    with connection.cursor() as cursor:
        cursor.execute(f"DROP TABLE {partitions.name_of('relay_calllog', partitions.months_later(this, 1))}")
    assert partitions.missing_ahead() == [partitions.name_of("relay_calllog", partitions.months_later(this, 1))]
    assert partitions.make_ahead() == 1


def test_a_call_without_a_partition_is_kept_with_the_rest_and_moved_when_there_is_one(postgres: House) -> None:
    now = timezone.now()
    old, new = postgres.call(now - OLD), postgres.call(now)
    assert (rows("relay_calllog_rest"), rows("relay_attempt_rest")) == (1, 1)
    before = list(CallLog.objects.order_by("pk").values())
    assert tasks.tend_call_log() == 2
    assert (rows("relay_calllog_rest"), rows("relay_attempt_rest")) == (0, 0)
    assert rows(partitions.name_of("relay_calllog", partitions.month_of(now - OLD))) == 1
    assert list(CallLog.objects.order_by("pk").values()) == before
    assert {attempt.call_id for attempt in Attempt.objects.all()} == {old.id, new.id}
    rollups.roll_up()
    assert total()[0] == 2
    assert audit.run() == []


def test_ids_that_are_no_times_stay_with_the_rest(postgres: House) -> None:
    call = postgres.call(timezone.now())
    row = CallLog.objects.get(pk=call.id)
    for number in (uuid.UUID(int=5), uuid.UUID(int=2**128 - 1)):
        row.pk = number
        row.save(force_insert=True)
    assert tasks.tend_call_log() == 0
    assert rows("relay_calllog_rest") == 2


def test_a_call_and_its_attempts_are_looked_up_in_one_partition(postgres: House) -> None:
    call = postgres.call(timezone.now())
    for table, key in (("relay_calllog", "id"), ("relay_attempt", "call_id")):
        with connection.cursor() as cursor:
            cursor.execute(f"EXPLAIN SELECT * FROM {table} WHERE {key} = %s", [call.id])
            plan = "\n".join(line for (line,) in cursor.fetchall())
        assert plan.count(f" on {table}_y") == 1
        assert "_rest" not in plan


def test_the_same_call_cannot_be_written_twice(postgres: House) -> None:
    from django.db import IntegrityError, transaction

    row = CallLog.objects.get(pk=postgres.call(timezone.now()).id)
    with pytest.raises(IntegrityError, match="pkey"), transaction.atomic():
        row.save(force_insert=True)
    row.cost = -1
    with pytest.raises(IntegrityError, match="call_cost_not_negative"), transaction.atomic():
        row.save(update_fields=["cost"])


def test_a_partition_that_is_in_use_is_left_for_the_next_run(postgres: House, monkeypatch: pytest.MonkeyPatch) -> None:
    postgres.call(timezone.now() - OLD)
    monkeypatch.setattr(partitions, "TRIES", 1)
    with services_connection() as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM relay_calllog")
        assert tasks.tend_call_log() == 1  # the attempts'
        other.execute("ROLLBACK")
    assert tasks.tend_call_log() == 1


def services_connection() -> Any:
    from tests.kit.services import services

    return services.postgres.connect(connection.settings_dict["NAME"])


# ---- pruned ---------------------------------------------------------------------------------------------------------


def test_old_calls_are_pruned_and_neither_books_nor_sums_change(house: House) -> None:
    now = timezone.now()
    kept = [house.call(now - dt.timedelta(days=number)) for number in range(3)]
    for number in range(4):
        house.call(now - OLD - dt.timedelta(days=31 * number), who=number % 3)
    partitions.make_ahead()
    rollups.roll_up()
    before, holds, transfers = total(), Hold.objects.count(), Transfer.objects.count()
    assert before[0] == 7
    with override_settings(CALL_LOG_MONTHS=2):
        assert tasks.tend_call_log() > 0
        assert tasks.tend_call_log() == 0
    assert set(CallLog.objects.values_list("pk", flat=True)) == {call.id for call in kept}
    assert Attempt.objects.count() == 3
    assert (total(), Hold.objects.count(), Transfer.objects.count()) == (before, holds, transfers)
    assert audit.run() == []
    old = int((now - OLD).timestamp()) // HOUR * HOUR
    assert rollup_audit.look([old]) == []
    assert not rollups.recompute(old)


def test_nothing_is_pruned_by_default_nor_before_it_is_rolled_up(house: House) -> None:
    house.call(timezone.now() - OLD)
    rollups.roll_up()
    house.call(timezone.now() - OLD)
    partitions.prune()
    assert CallLog.objects.count() == 2
    with override_settings(CALL_LOG_MONTHS=1):
        assert partitions.prune() == 0
        assert CallLog.objects.count() == 2
        rollups.roll_up()
        assert partitions.prune() > 0
    assert CallLog.objects.count() == 0
    assert total()[0] == 2


def test_a_call_that_ends_after_its_month_was_pruned_is_recorded_all_the_same(house: House) -> None:
    late = house.begin(timezone.now() - OLD)
    house.call(timezone.now() - OLD)
    partitions.make_ahead()
    rollups.roll_up()
    with override_settings(CALL_LOG_MONTHS=1):
        partitions.prune()
        house.settle(late)
        assert total()[0] == 2
        rollups.roll_up()
        assert total()[0] == 2
        assert audit.run() == []
        partitions.prune()
    assert CallLog.objects.count() == 0
    assert total()[0] == 2


def test_pruning_goes_slice_by_slice(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partitions, "SLICE", 2)
    for _ in range(5):
        house.call(timezone.now() - OLD)
    rollups.roll_up()
    with override_settings(CALL_LOG_MONTHS=1):
        assert partitions.prune() == 10  # calls and attempts
    assert (CallLog.objects.count(), Attempt.objects.count()) == (0, 0)


# ---- the migration --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", databases.KINDS)
def test_a_filled_database_is_migrated_there_and_back(kind: str) -> None:
    url = databases.new(kind)
    try:
        with databases.inside(url):
            house = House(kind)
            for number in range(8):
                house.call(timezone.now() - dt.timedelta(days=20 * number), channels=("spare", "main"))
            calls, attempts = _content()
        databases.migrate(url, "relay", "0009")
        with databases.inside(url):
            assert rows("relay_calllog") == 8
            assert rows("relay_attempt") == 16
        databases.migrate(url, "relay")
        with databases.inside(url):
            assert _content() == (calls, attempts)
            if kind == "postgres":
                assert rows("relay_calllog_rest") == rows("relay_attempt_rest") == 0
            house.revenue = house.revenue or 0
            house.call(timezone.now())  # ids of attempts go on where they were
            assert rows("relay_attempt") == 17
            rollups.roll_up()
            assert total()[0] == 9
            assert audit.run() == []
    finally:
        databases.drop(url)


def _content() -> tuple[list[Any], list[Any]]:
    names = [field.attname for field in CallLog._meta.concrete_fields if field.name != "arrival"]
    calls = list(CallLog.objects.order_by("pk").values(*names))
    return calls, list(Attempt.objects.order_by("pk").values())


def test_ids_tell_when_they_were_made() -> None:
    now = dt.datetime.now(dt.UTC)
    made = ids.uuid7()
    assert (
        ids.first(now - dt.timedelta(seconds=1)) < made < ids.first(dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1))
    )
    moment = ids.time_of(made)
    assert moment is not None
    assert abs(moment - now) < dt.timedelta(seconds=5)
    assert ids.time_of(uuid.UUID(int=2**128 - 1)) is None
