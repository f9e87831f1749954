"""The call log by months: on PostgreSQL a partition each, made ahead and dropped when it is too old; the books stay.

The key is the call's id, which bears the time of its beginning (`billing.ids`): so the primary key stays the id alone,
and whoever looks a call or its attempts up by it reads one partition. What fits no month, because its partition was not
made in time or is gone already, goes to the rest (`…_rest`) and never fails a settlement.

Writers do not wait for this module: every lock on what they use is asked for with a short timeout, and given up for
the next run where it cannot be had. SQLite keeps one table; there pruning deletes in slices.
"""

import datetime as dt
import time
from collections.abc import Callable, Iterator, Sequence

import structlog
from django.conf import settings
from django.db import OperationalError, connection, transaction
from django.utils import timezone

from billing import ids
from relay import rollups

log = structlog.get_logger(__name__)

# The tables and the columns that bear the time; attempts go before the calls that they belong to.
KEYS = {"relay_attempt": "call_id", "relay_calllog": "id"}
AHEAD = 3  # months that are made before they begin
EARLIEST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)  # an id of before is no time
SLICE = 5_000  # rows that one statement deletes
LOCK_WITHIN = "200ms"  # as long as writers may have to wait behind us
TRIES = 10


def month_of(moment: dt.datetime) -> dt.datetime:
    """The first moment of the month, in UTC."""
    return moment.astimezone(dt.UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def months_later(month: dt.datetime, count: int) -> dt.datetime:
    """The first moment of the month so many later, or earlier where that is negative."""
    number = month.year * 12 + month.month - 1 + count
    return month.replace(year=number // 12, month=number % 12 + 1)


def name_of(table: str, month: dt.datetime) -> str:
    return f"{table}_y{month.year}m{month.month:02d}"


def bounds_of(month: dt.datetime) -> str:
    """The partition's range, as PostgreSQL writes it."""
    return f"FROM ('{ids.first(month)}') TO ('{ids.first(months_later(month, 1))}')"


def existing(table: str) -> dict[dt.datetime, str]:
    """The months that have a partition, by their beginning."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_inherits JOIN pg_class ON oid = inhrelid WHERE inhparent = %s::regclass",
            [table],
        )
        names = [name for (name,) in cursor.fetchall()]
    found = {}
    for name in names:
        year, _, month = name.removeprefix(f"{table}_y").partition("m")
        if year.isdecimal() and month.isdecimal():
            found[dt.datetime(int(year), int(month), 1, tzinfo=dt.UTC)] = name
    return found


# ---- made ahead -----------------------------------------------------------------------------------------------------


def make_ahead() -> int:
    """Makes the partitions of this month and the next ones, and of months that the rest holds calls of. How many."""
    if connection.vendor != "postgresql":
        return 0
    return make(sorted({month for table in KEYS for month in _wanted(table)}))


def make(months: Sequence[dt.datetime]) -> int:
    """Makes the partitions of these months that are not there. How many."""
    return sum(_made(table, month) for table in KEYS for month in months if month not in existing(table))


def _wanted(table: str) -> set[dt.datetime]:
    this = month_of(timezone.now())
    ahead = {months_later(this, count) for count in range(AHEAD + 1)}
    return ahead | {month for month in _months_in_rest(table) if EARLIEST <= month < this}


def _months_in_rest(table: str) -> Iterator[dt.datetime]:
    """Walks from month to month by the index: the rest may hold ids that are no times."""
    key, after = KEYS[table], ids.first(max(EARLIEST, _pruned_before()))
    while True:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {key} FROM {table}_rest WHERE {key} >= %s ORDER BY {key} LIMIT 1", [after])
            row = cursor.fetchone()
        moment = ids.time_of(row[0]) if row else None
        if moment is None or moment > timezone.now():
            return
        month = month_of(moment)
        yield month
        after = ids.first(months_later(month, 1))


def _pruned_before() -> dt.datetime:
    return dt.datetime.fromtimestamp(rollups.cursor().pruned, dt.UTC)


def _made(table: str, month: dt.datetime) -> bool:
    """One partition, with what the rest has of its month. False where a lock could not be had.

    It is attached, not created in its place: that would lock out every reader and writer of the whole table.
    """
    key, name = KEYS[table], name_of(table, month)
    low, high = ids.first(month), ids.first(months_later(month, 1))

    def make() -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE {name} (LIKE {table} INCLUDING DEFAULTS INCLUDING CONSTRAINTS)")
            cursor.execute(
                f"WITH moved AS (DELETE FROM {table}_rest WHERE {key} >= %s AND {key} < %s RETURNING *) "
                f"INSERT INTO {name} SELECT * FROM moved",
                [low, high],
            )
            cursor.execute(f"ALTER TABLE {table} ATTACH PARTITION {name} FOR VALUES {bounds_of(month)}")

    return _locked(make, table=name, what="made")


def _locked(change: Callable[[], None], *, table: str, what: str) -> bool:
    """Carries out a change of the schema in a transaction that gives up before it keeps writers waiting."""
    for _ in range(TRIES):
        try:
            with transaction.atomic():
                with connection.cursor() as cursor:
                    cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_WITHIN}'")
                change()
        except OperationalError as error:
            log.info("partition.busy", table=table, error=str(error).splitlines()[0])
            time.sleep(0.2)
        else:
            log.info(f"partition.{what}", table=table)
            return True
    return False


# ---- pruned ---------------------------------------------------------------------------------------------------------


def prune() -> int:
    """Drops calls and attempts that began more than CALL_LOG_MONTHS whole months ago. How many partitions, or rows.

    Nothing where that is 0, and nothing that is not in the roll-ups. The ledger's tables are never pruned.
    """
    months = settings.CALL_LOG_MONTHS
    if months <= 0:
        return 0
    before = months_later(month_of(timezone.now()), -months)
    if rollups.oldest_not_in(before):
        log.warning("calls.not_pruned", why="some of them are not in the roll-ups yet")
        return 0
    # First: from here on nobody counts on finding them, whatever happens in between.
    rollups.note_pruned(before)
    dropped = _drop_partitions(before) if connection.vendor == "postgresql" else 0
    return dropped + sum(_delete(table, before) for table in KEYS)


def _drop_partitions(before: dt.datetime) -> int:
    count = 0
    for table in KEYS:
        for month, name in sorted(existing(table).items()):
            if months_later(month, 1) <= before:
                count += _dropped(table, name)
    return count


def _dropped(table: str, name: str) -> bool:
    def detach() -> None:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table} DETACH PARTITION {name}")
            cursor.execute(f"DROP TABLE {name}")

    return _locked(detach, table=name, what="dropped")


def _delete(table: str, before: dt.datetime) -> int:
    """Slice by slice, each a short transaction: what has no partition of its own."""
    key, source = KEYS[table], f"{table}_rest" if connection.vendor == "postgresql" else table
    limit = ids.first(before)
    value = limit if connection.vendor == "postgresql" else limit.hex
    sql = f"DELETE FROM {source} WHERE {key} IN (SELECT {key} FROM {source} WHERE {key} < %s ORDER BY {key} LIMIT %s)"
    count = 0
    while True:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(sql, [value, SLICE])
            deleted = cursor.rowcount
            rollups.step_back()
        if not deleted:
            return count
        count += deleted


def missing_ahead() -> list[str]:
    """The partitions of this month and the next that are not there: `manage.py doctor` asks."""
    if connection.vendor != "postgresql":
        return []
    this = month_of(timezone.now())
    return [
        name_of(table, month)
        for table in KEYS
        for month in (this, months_later(this, 1))
        if month not in existing(table)
    ]
