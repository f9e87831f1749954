"""Where in a period the calls are that a filter wants: quarters of an hour, found in the roll-ups.

No index knows a team's calls by model, channel and state; the roll-ups do, by buckets. They are asked for days, then
for hours of these, then for quarters, until enough calls are certain to be in them. What has not been rolled up yet is
asked of the call log itself.
"""

import datetime as dt
from collections.abc import Sequence
from typing import Any

from django.db import connection

from relay import rollups
from relay.reports import Wanted
from relay.rollups import DAY, HOUR, QUARTER

_FINER = {DAY: HOUR, HOUR: QUARTER}


def find(
    wanted: Wanted, start: dt.datetime, end: dt.datetime, *, forward: bool, enough: int
) -> list[tuple[dt.datetime, dt.datetime]]:
    """Ranges that have the first `enough` calls from `start` up to and with `end`, or the last ones, and maybe more."""
    low, high = int(start.timestamp()), int(end.timestamp())
    found = set(_arrived(wanted, start, end))
    found |= set(_descend(wanted, [(low - low % DAY, high + 1)], DAY, (low, high), forward, enough))
    return [(_moment(a), _moment(b)) for a, b in _joined(sorted(found))]


def _descend(
    wanted: Wanted,
    ranges: Sequence[tuple[int, int]],
    grain: int,
    period: tuple[int, int],
    forward: bool,
    enough: int,
) -> list[int]:
    """The buckets of the finest grain, nearest first, until they have enough. The first and last may reach out."""
    chosen, count = [], 0
    for bucket, calls in _buckets(wanted, ranges, grain, period, forward):
        chosen.append(bucket)
        # A bucket that reaches out of the period may have its calls outside. The call at which a page ended can be
        # the very last of its bucket, or the first: only what lies between both edges' own buckets is certain.
        if period[0] < bucket and bucket + grain <= period[1]:
            count += calls
        if count >= enough:
            break
    if grain == QUARTER or not chosen:
        return chosen
    finer = [(bucket, bucket + grain) for bucket in chosen]
    return _descend(wanted, finer, _FINER[grain], period, forward, enough)


def _buckets(
    wanted: Wanted, ranges: Sequence[tuple[int, int]], grain: int, period: tuple[int, int], forward: bool
) -> list[tuple[int, int]]:
    conditions: list[tuple[str, Any]] = [("team_id = %s", wanted.team), ("grain = %s", grain)]
    conditions += [("bucket > %s", period[0] - grain), ("bucket <= %s", period[1])]
    for column, value in (("model", wanted.model), ("channel", wanted.channel), ("state", wanted.state)):
        if value:
            conditions.append((f"{column} = %s", value))
    if wanted.key is not None:
        conditions.append(("key_id = %s", wanted.key))
    within = " OR ".join("(bucket >= %s AND bucket < %s)" for _ in ranges)
    sql = (
        f"SELECT bucket, CAST(sum(calls) AS bigint) FROM relay_rollup WHERE {' AND '.join(c for c, _ in conditions)} "
        f"AND ({within}) GROUP BY bucket HAVING sum(calls) > 0 ORDER BY bucket {'ASC' if forward else 'DESC'}"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [*(value for _, value in conditions), *(edge for pair in ranges for edge in pair)])
        return [(int(bucket), int(calls)) for bucket, calls in cursor.fetchall()]


def _arrived(wanted: Wanted, start: dt.datetime, end: dt.datetime) -> list[int]:
    """The quarters of matching calls that are not in the roll-ups yet. Read before these: else a call that is rolled up
    in between would be in neither."""
    adapt = connection.ops.adapt_datetimefield_value
    conditions: list[tuple[str, Any]] = [(f"{rollups.arrival()} >= %s", rollups.cursor().horizon)]
    conditions += [("c.team_id = %s", wanted.team)]
    conditions += [("c.created_at >= %s", adapt(start)), ("c.created_at <= %s", adapt(end))]
    for column, value in (("model", wanted.model), ("channel", wanted.channel), ("state", wanted.state)):
        if value:
            conditions.append((f"c.{column} = %s", value))
    sql = (
        f"SELECT DISTINCT {rollups.quarter_of('c.created_at')} FROM relay_calllog c "
        f"WHERE {' AND '.join(condition for condition, _ in conditions)}"
    )
    with connection.cursor() as cursor:
        cursor.execute(sql, [value for _, value in conditions])
        return [int(quarter) for (quarter,) in cursor.fetchall()]


def _joined(quarters: Sequence[int]) -> list[tuple[int, int]]:
    """Neighbours as one range."""
    found: list[tuple[int, int]] = []
    for quarter in quarters:
        if found and found[-1][1] == quarter:
            found[-1] = (found[-1][0], quarter + QUARTER)
        else:
            found.append((quarter, quarter + QUARTER))
    return found


def _moment(seconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(seconds, dt.UTC)
