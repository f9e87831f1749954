"""The roll-ups of calls (`relay.models.Rollup`): how they are kept, exactly once for each call.

A call's record appears when the call has ended, which may be hours after it began; and of several transactions the one
that began first may commit last. So neither times nor ids say up to where everything has been seen. `arrival` does: on
PostgreSQL it is the number of the transaction that wrote the record, and once no transaction below some number is
running any more (`pg_snapshot_xmin`), all records below it are visible and no other will ever be. SQLite has one
writer, and its `rowid` counts up. A run adds the records between the last such number and the next to the roll-ups and
moves the cursor, in one transaction under the cursor's lock. So a record is in the roll-ups if and only if its arrival
is below `RollupCursor.horizon`, in every snapshot, and whoever reads adds what has arrived since (`relay.reports`).

Both numbers may begin anew: a restored database has another server's transactions, VACUUM numbers SQLite's rows again.
A run that finds the cursor above them begins the roll-ups anew too (`restart`); the audit finds the few calls that may
have arrived in between, and makes their hours anew.

Buckets are in UTC, of a quarter of an hour, an hour and a day. All offsets of time zones are multiples of a quarter of
an hour, so days of every zone are sums of buckets, of hours but for the edges. A call counts in the bucket in which it
began.
"""

import datetime as dt
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import structlog
from django.db import connection, transaction

from billing import ids
from billing.usage import BUCKETS
from relay.models import RollupCursor

log = structlog.get_logger(__name__)

QUARTER, HOUR, DAY = 900, 3600, 86400
GRAINS = (QUARTER, HOUR, DAY)
EVERYBODY = 0  # the team under which all calls are rolled up together
NAME = "calls"
BEGINNING = -(2**62)  # below every arrival
BATCH = 50_000  # calls that one transaction adds
AROUND = dt.timedelta(hours=1)  # by which a call's time and that in its id differ at most
FIRST, LAST = dt.datetime(1971, 1, 1, tzinfo=dt.UTC), dt.datetime(9999, 1, 1, tzinfo=dt.UTC)  # that an id can say
LARGEST = 2**52  # units of a bucket that are believed of one call

DIMENSIONS = ("key_id", "model", "channel", "state")
USED = tuple(f"used_{bucket}" for bucket in BUCKETS)
MEASURES = (
    "calls", "cost", "attempts", "provider_cost", "uncosted", "duration_ms", "first_bytes", "first_byte_ms", *USED,
)  # fmt: skip
_KEYS = ("team_id", "grain", "bucket", *DIMENSIONS)


# ---- statements -----------------------------------------------------------------------------------------------------


def is_postgres() -> bool:
    return connection.vendor == "postgresql"


def arrival() -> str:
    """The number by which records of `relay_calllog c` have arrived."""
    return "c.arrival" if is_postgres() else "c.rowid"


def seconds_of(column: str) -> str:
    """A time's Unix seconds, whole and rounded down."""
    if is_postgres():
        return f"floor(date_part('epoch', {column}))::bigint"  # exact: microseconds fit a double until 2255
    # Without the fraction, which SQLite would round to milliseconds: up to the next second.
    return f"CAST(strftime('%%s', substr({column}, 1, 19)) AS integer)"


def quarter_of(column: str) -> str:
    """The beginning of the quarter of an hour that a time is in, in Unix seconds."""
    seconds = seconds_of(column)
    return f"({seconds}) - ({seconds}) %% {QUARTER}"


def _used(bucket: str) -> str:
    """Units of a bucket. What is no number counts nothing: one odd record must not stop the others."""
    if is_postgres():
        return (
            f"CASE WHEN jsonb_typeof(c.usage->'{bucket}') = 'number' "
            f"THEN least(greatest((c.usage->>'{bucket}')::numeric, 0), {LARGEST})::bigint ELSE 0 END"
        )
    return (
        f"CASE WHEN NOT json_valid(c.usage) THEN 0 WHEN json_type(c.usage, '$.{bucket}') = 'integer' "
        f"THEN min(max(json_extract(c.usage, '$.{bucket}'), 0), {LARGEST}) ELSE 0 END"
    )


def _whole(column: str) -> str:
    return f"CAST(round(coalesce({column}, 0)) AS bigint)"


def facts_of_calls(what: str) -> str:
    """A row with all dimensions and measures for each call of `relay_calllog c`; what is to be selected first."""
    used = ", ".join(f"{_used(bucket)} AS {name}" for bucket, name in zip(BUCKETS, USED, strict=True))
    return (
        f"SELECT {what}, coalesce(c.key_id, 0) AS key_id, c.model AS model, c.channel AS channel, c.state AS state, "
        "1 AS calls, c.cost AS cost, 0 AS attempts, 0 AS provider_cost, 0 AS uncosted, "
        f"{_whole('c.duration_ms')} AS duration_ms, "
        "CASE WHEN c.first_byte_ms IS NULL THEN 0 ELSE 1 END AS first_bytes, "
        f"{_whole('c.first_byte_ms')} AS first_byte_ms, {used} FROM relay_calllog c"
    )


def facts_of_attempts(what: str) -> str:
    """The same for each attempt of these calls: what it cost us, under its own channel."""
    nothing = ", ".join(f"0 AS {name}" for name in ("duration_ms", "first_bytes", "first_byte_ms", *USED))
    return (
        f"SELECT {what}, coalesce(c.key_id, 0) AS key_id, c.model AS model, p.channel AS channel, c.state AS state, "
        "0 AS calls, 0 AS cost, 1 AS attempts, coalesce(p.cost, 0) AS provider_cost, "
        "CASE WHEN p.cost IS NULL AND p.usage IS NOT NULL THEN 1 ELSE 0 END AS uncosted, "
        f"{nothing} FROM relay_calllog c JOIN relay_attempt p ON p.call_id = c.id"
    )


def sums(of: Sequence[str] = MEASURES) -> str:
    return ", ".join(f"CAST(sum({name}) AS bigint) AS {name}" for name in of)


def selected(condition: str, grains: Sequence[int]) -> str:
    """The roll-ups of the calls that the condition names, which stands in it twice. Columns as in `COLUMNS`."""
    what = f"c.team_id AS team_id, {quarter_of('c.created_at')} AS bucket"
    own = ", ".join(DIMENSIONS[1:])
    return f"""
        WITH facts AS ({facts_of_calls(what)} WHERE {condition}
                       UNION ALL {facts_of_attempts(what)} WHERE {condition}),
             quarters AS (SELECT team_id, bucket, key_id, {own}, {sums()} FROM facts
                          GROUP BY team_id, bucket, key_id, {own}),
             grains (grain) AS (VALUES {", ".join(f"({grain})" for grain in grains)}),
             whose (own) AS (VALUES (1), (0))
        SELECT q.team_id * w.own AS team_id, g.grain AS grain, q.bucket - q.bucket %% g.grain AS bucket,
               q.key_id * w.own AS key_id, {own}, {sums()}
        FROM quarters q CROSS JOIN grains g CROSS JOIN whose w GROUP BY 1, 2, 3, 4, 5, 6, 7"""


COLUMNS = (*_KEYS, *MEASURES)


def id_range(start: dt.datetime, end: dt.datetime) -> tuple[uuid.UUID, uuid.UUID]:
    """Between which ids those of all calls are that begin then: PostgreSQL looks into the months of these only."""
    return ids.first(max(start, FIRST) - AROUND), ids.first(min(end, LAST) + AROUND)


def _add(condition: str, parameters: Sequence[Any], grains: Sequence[int]) -> int:
    """Adds the calls that the condition names. How many rows that touched."""
    added = ", ".join(f"{name} = relay_rollup.{name} + excluded.{name}" for name in MEASURES)
    source = selected(condition, grains)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO relay_rollup ({', '.join(COLUMNS)}) SELECT {', '.join(COLUMNS)} FROM ({source}) AS found "
            f"WHERE 1 = 1 ORDER BY {', '.join(_KEYS)} ON CONFLICT ({', '.join(_KEYS)}) DO UPDATE SET {added}",
            [*parameters, *parameters],
        )
        return int(cursor.rowcount)


def _one(sql: str, parameters: Sequence[Any] = ()) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql, list(parameters))
        row = cursor.fetchone()
    return row[0] if row else None


# ---- how far they are -----------------------------------------------------------------------------------------------


def cursor() -> RollupCursor:
    """The cursor as it is now."""
    return RollupCursor.objects.get_or_create(name=NAME, defaults={"horizon": BEGINNING})[0]


@contextmanager
def _locked() -> Iterator[RollupCursor | None]:
    """A transaction that nobody else changes roll-ups in; None where somebody is at it."""
    with transaction.atomic():
        cursor()
        if is_postgres():  # calls and their attempts have the same months
            with connection.cursor() as statements:
                statements.execute("SET LOCAL enable_partitionwise_join = on")
        yield RollupCursor.objects.select_for_update(skip_locked=True).filter(name=NAME).first()


def roll_up(*, within: float = 60.0) -> int:
    """Adds what has arrived, batch by batch, for about so many seconds. How many rows of roll-ups that touched.

    Several workers may run it at once: one of them does the work, the others return.
    """
    ends, touched = time.monotonic() + within, 0
    while time.monotonic() < ends:
        with _locked() as row:
            if row is None or (upper := _upper(row.horizon)) is None:
                return touched
            touched += _add(f"{arrival()} >= %s AND {arrival()} < %s", [row.horizon, upper], GRAINS)
            RollupCursor.objects.filter(pk=row.pk).update(horizon=upper)
    return touched


def _upper(horizon: int) -> int | None:
    """The arrival up to which the next batch goes; None where nothing has arrived."""
    end = _decided(horizon)
    number = arrival()
    arrived = f"SELECT {number} FROM relay_calllog c WHERE {number} >= %s AND {number} < %s ORDER BY {number} LIMIT 1"
    if _one(arrived, [horizon, end]) is None:
        return None
    last = _one(f"{arrived} OFFSET {BATCH}", [horizon, end])
    if last is None:
        return end
    return int(last) if last > horizon else horizon + 1  # one transaction is never taken apart


def _decided(horizon: int) -> int:
    """The arrival below which every record is visible that will ever be. Raises Restarted where numbers began anew."""
    if not is_postgres():
        end = int(_one("SELECT coalesce(max(rowid), 0) FROM relay_calllog")) + 1
        if horizon > end:
            raise Restarted
        return end
    snapshot = "SELECT pg_snapshot_{}(pg_current_snapshot())::text::bigint"
    if horizon > _one(snapshot.format("xmax")):
        raise Restarted
    return int(_one(snapshot.format("xmin")))


class Restarted(Exception):
    """Records are numbered anew, with smaller numbers than the cursor has."""


def restart() -> None:
    """Forgets the roll-ups of all calls that are still there: the next runs add them. Those of pruned hours stay."""
    with _locked() as row:
        if row is None:
            return
        kept = -(-row.pruned // DAY) * DAY
        with connection.cursor() as statements:
            statements.execute("DELETE FROM relay_rollup WHERE bucket >= %s", [kept])
            if is_postgres():  # below those of transactions to come
                statements.execute(
                    "UPDATE relay_calllog SET arrival = n.number - n.count FROM (SELECT id, count(*) OVER () AS count, "
                    "row_number() OVER (ORDER BY id) AS number FROM relay_calllog) AS n WHERE relay_calllog.id = n.id"
                )
        RollupCursor.objects.filter(pk=row.pk).update(horizon=BEGINNING)
    log.warning("rollups.restarted")


# ---- repaired and pruned --------------------------------------------------------------------------------------------


def of_hour(hour: int, horizon: int) -> tuple[str, list[Any]]:
    """The condition, with its parameters, of the rolled-up calls that began in this hour (Unix seconds)."""
    start = dt.datetime.fromtimestamp(hour, dt.UTC)
    end = start + dt.timedelta(seconds=HOUR)
    low, high = id_range(start, end)
    keys: list[Any] = [low, high] if is_postgres() else [low.hex, high.hex]
    adapt = connection.ops.adapt_datetimefield_value
    return (
        f"c.id >= %s AND c.id < %s AND c.created_at >= %s AND c.created_at < %s AND {arrival()} < %s",
        [*keys, adapt(start), adapt(end), horizon],
    )


def recompute(hour: int) -> bool:
    """Makes the roll-ups of an hour and of its day from the call log.

    False where that was pruned, or somebody else changes roll-ups now.
    """
    day = hour - hour % DAY
    with _locked() as row:
        if row is None or hour < row.pruned:
            return False
        with connection.cursor() as statements:
            for grain in (QUARTER, HOUR):
                statements.execute(
                    "DELETE FROM relay_rollup WHERE grain = %s AND bucket >= %s AND bucket < %s",
                    [grain, hour, hour + HOUR],
                )
            condition, parameters = of_hour(hour, row.horizon)
            _add(condition, parameters, (QUARTER, HOUR))
            statements.execute("DELETE FROM relay_rollup WHERE grain = %s AND bucket = %s", [DAY, day])
            dimensions = ", ".join(DIMENSIONS)
            statements.execute(
                f"INSERT INTO relay_rollup ({', '.join(COLUMNS)}) "
                f"SELECT team_id, {DAY}, %s, {dimensions}, {sums()} FROM relay_rollup "
                f"WHERE grain = {HOUR} AND bucket >= %s AND bucket < %s GROUP BY team_id, {dimensions}",
                [day, day, day + DAY],
            )
    return True


def oldest_not_in(before: dt.datetime) -> bool:
    """Whether a call that began before then is not in the roll-ups yet."""
    limit = ids.first(before)
    return bool(
        _one(
            f"SELECT 1 FROM relay_calllog c WHERE {arrival()} >= %s AND c.id < %s LIMIT 1",
            [cursor().horizon, limit if is_postgres() else limit.hex],
        )
    )


def step_back() -> None:
    """For SQLite, which gives the numbers of its last rows again when these are deleted: in the same transaction."""
    if not is_postgres():
        last = int(_one("SELECT coalesce(max(rowid), 0) FROM relay_calllog"))
        RollupCursor.objects.filter(name=NAME, horizon__gt=last + 1).update(horizon=last + 1)


def note_pruned(before: dt.datetime) -> None:
    """From now on nobody counts on finding calls that began before then."""
    RollupCursor.objects.filter(name=NAME, pruned__lt=int(before.timestamp())).update(pruned=int(before.timestamp()))
