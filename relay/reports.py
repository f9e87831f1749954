"""What calls came to: sums by bucket of time, key, model, channel and state, to the nano-unit and never stale.

A report is the sum of three things, read by one statement and so in one snapshot: the roll-ups within its period, from
the longest buckets that fit; the calls that have arrived since the roll-ups were last brought forward; and, where the
period does not begin or end with a quarter of an hour, the calls of the quarters at its edges. It equals the sum over
the call log as long as that is there, and says the same when the calls have been pruned, but for such edges.

Periods are half-open. A call belongs to the bucket in which it began.
"""

import datetime as dt
import itertools
import json
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from django.db import connection

from relay import rollups
from relay.models import CallState
from relay.rollups import DAY, DIMENSIONS, EVERYBODY, HOUR, MEASURES, NAME, QUARTER

Dimension = Literal["key_id", "model", "channel", "state"]
ERRORS = (CallState.FAILED, CallState.REFUSED, CallState.LOST)

# What can be asked for, `calls` always: the fewer, the quicker. What attempts cost us is no business of customers.
_OF_ATTEMPTS = ("attempts", "provider_cost", "uncosted")
CUSTOMERS = tuple(name for name in MEASURES if name not in _OF_ATTEMPTS)
SPEND = ("calls", "cost")
TOKENS = (
    *SPEND, "used_input", "used_cache_read", "used_cache_write", "used_cache_write_1h", "used_audio_in", "used_output",
    "used_reasoning", "used_audio_out",
)  # fmt: skip


class Wanted(msgspec.Struct, frozen=True, kw_only=True):
    """Which calls: of a team (EVERYBODY for all), from `start` up to and without `end`, and what they must have.

    None and "" ask for nothing; `key` 0 for calls without a key.
    """

    team: int
    start: dt.datetime
    end: dt.datetime
    key: int | None = None
    model: str = ""
    channel: str = ""
    state: str = ""


class Line(msgspec.Struct, frozen=True):
    """The sums of one bucket; dimensions and sums that were not asked for are 0 and empty.

    `bucket` is the number of the bucket in the period. `errors` counts the calls that ended as one. `cost` and
    `provider_cost` are nano-units.
    """

    bucket: int
    key_id: int
    model: str
    channel: str
    state: str
    calls: int
    cost: int
    attempts: int
    provider_cost: int
    uncosted: int
    duration_ms: int
    first_bytes: int
    first_byte_ms: int
    used_input: int
    used_cache_read: int
    used_cache_write: int
    used_cache_write_1h: int
    used_output: int
    used_reasoning: int
    used_audio_in: int
    used_audio_out: int
    used_characters: int
    used_images: int
    used_seconds: int
    used_searches: int
    used_calls: int
    errors: int


class Segment(msgspec.Struct, frozen=True):
    """Roll-ups of one grain from `low` up to `high` (Unix seconds), which count for the bucket with this number."""

    number: int
    grain: int
    low: int
    high: int


# ---- which roll-ups cover a period -----------------------------------------------------------------------------------


def segments(edges: Sequence[int]) -> list[Segment]:
    """The longest buckets that lie between each edge and the next, in order. Edges are Unix seconds, in quarters."""
    found: list[Segment] = []
    for number, (low, high) in enumerate(itertools.pairwise(edges)):
        _cover(found, number, low, high)
    return found


def _cover(found: list[Segment], number: int, low: int, high: int) -> None:
    """Quarters to the next hour, hours to the next day, days, hours, quarters."""
    for grain, coarser in ((QUARTER, HOUR), (HOUR, DAY), (DAY, 0), (HOUR, 0), (QUARTER, 0)):
        limit = min(high, -(-low // coarser) * coarser) if coarser else high
        end = low + (limit - low) // grain * grain
        if end > low and not low % grain:
            found.append(Segment(number, grain, low, end))
            low = end


def _up(seconds: float) -> int:
    return -int(-seconds // QUARTER) * QUARTER


def _down(seconds: float) -> int:
    return int(seconds // QUARTER) * QUARTER


# ---- the statement --------------------------------------------------------------------------------------------------


class _Statement:
    """SQL that is put together, with its parameters in the order in which they stand."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.parameters: list[Any] = []

    def add(self, sql: str, *parameters: Any) -> None:
        self.parts.append(sql)
        self.parameters += parameters


def lines(
    wanted: Wanted,
    *,
    by: Sequence[Dimension] = (),
    edges: Sequence[dt.datetime] | None = None,
    of: Sequence[str] = CUSTOMERS,
) -> list[Line]:
    """The sums, by bucket in order; groups without a call are left out.

    `edges` are where the period is divided into buckets, its start and end among them; those in between begin quarters
    of an hour. `of` names the sums; those of attempts are under the attempts' own channels.
    """
    if wanted.team == EVERYBODY and (wanted.key is not None or "key_id" in by):
        raise ValueError("everybody's calls are rolled up without their keys")
    if not wanted.start < wanted.end:
        return []
    statement = _composed(wanted, by, edges or (wanted.start, wanted.end), of)
    with connection.cursor() as cursor:
        cursor.execute("".join(statement.parts), statement.parameters)
        return [Line(*row) for row in cursor.fetchall()]


def total(wanted: Wanted) -> Line:
    """How many calls there are, how many of them ended as errors, and what they cost."""
    found = lines(wanted, of=SPEND)
    return found[0] if found else Line(0, 0, "", "", "", *([0] * (len(MEASURES) + 1)))


def _composed(wanted: Wanted, by: Sequence[Dimension], edges: Sequence[dt.datetime], of: Sequence[str]) -> _Statement:
    """Roll-ups of the whole quarters, then what has arrived since, then the quarters at the edges."""
    statement = _Statement()
    start, end = wanted.start.timestamp(), wanted.end.timestamp()
    inner = [int(edge.timestamp()) for edge in edges[1:-1]]
    first, last = _up(start), max(_up(start), _down(end))
    statement.add("WITH ")
    _values(statement, "seg", segments([first, *inner, last]) if first < last else [])
    cuts = [_down(start), *inner, _up(end)]
    if not rollups.is_postgres():
        _values(statement, "cut", [Segment(n, 0, *pair) for n, pair in enumerate(itertools.pairwise(cuts))])
    _from_rollups(statement, wanted, of)
    horizon = f"(SELECT horizon FROM relay_rollupcursor WHERE name = '{NAME}')"
    # The first condition says nothing that the second does not, but the planner knows its value.
    number = rollups.arrival()
    arrived = f"{number} >= {rollups.cursor().horizon:d} AND {number} >= {horizon}"
    _from_log(statement, wanted, (wanted.start, wanted.end), arrived, cuts, of)
    for low, high in _ends(wanted, first, last):
        _from_log(statement, wanted, (low, high), f"{number} < {horizon}", cuts, of)
    own = [name if name in by else ("0" if name == "key_id" else "''") for name in DIMENSIONS]
    groups = ", ".join(("n", *by))
    failed = ", ".join(f"'{state}'" for state in ERRORS)
    summed = [f"CAST(sum({name}) AS bigint)" if name in of else "0" for name in MEASURES]
    statement.add(
        f") SELECT n, {', '.join(own)}, {', '.join(summed)}, "
        f"CAST(sum(CASE WHEN state IN ({failed}) THEN calls ELSE 0 END) AS bigint) FROM found GROUP BY {groups} "
        f"HAVING sum(calls) > 0{' OR sum(attempts) > 0' if _of_attempts(of) else ''} ORDER BY {groups}"
    )
    return statement


def _of_attempts(of: Sequence[str]) -> bool:
    return any(name in of for name in _OF_ATTEMPTS)


def _ends(wanted: Wanted, first: int, last: int) -> list[tuple[dt.datetime, dt.datetime]]:
    """The parts of the period that no whole quarter covers."""
    low, high = dt.datetime.fromtimestamp(first, dt.UTC), dt.datetime.fromtimestamp(last, dt.UTC)
    if first >= last:
        return [(wanted.start, wanted.end)]
    return [(a, b) for a, b in ((wanted.start, low), (high, wanted.end)) if a < b]


def _values(statement: _Statement, name: str, found: Sequence[Segment]) -> None:
    rows = [list(msgspec.structs.astuple(segment)) for segment in found]
    if rollups.is_postgres():
        columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
        statement.add(
            f"{name} AS (SELECT * FROM unnest(%s::int[], %s::int[], %s::bigint[], %s::bigint[]) "
            "AS s (n, grain, low, high)), ",
            *(list(column) for column in columns),
        )
    else:
        parts = ", ".join(
            f"json_extract(value, '$[{place}]') AS {column}"
            for place, column in enumerate(("n", "grain", "low", "high"))
        )
        statement.add(f"{name} AS (SELECT {parts} FROM json_each(%s)), ", json.dumps(rows))


def _from_rollups(statement: _Statement, wanted: Wanted, of: Sequence[str]) -> None:
    """Segment by segment, each a range of the primary key. PostgreSQL would rather read all of the team's and compare
    each row with each segment; OFFSET 0 keeps it from that."""
    postgres = rollups.is_postgres()
    columns = ", ".join((*DIMENSIONS, *of))
    statement.add(f"found AS (SELECT seg.n AS n, {columns} FROM seg ")
    statement.add("CROSS JOIN LATERAL (SELECT * FROM relay_rollup r WHERE " if postgres else "JOIN relay_rollup r ON ")
    statement.add("r.team_id = %s AND r.grain = seg.grain AND r.bucket >= seg.low AND r.bucket < seg.high", wanted.team)
    _narrow(statement, wanted, "r.channel", "r.key_id")
    statement.add(" OFFSET 0) AS r" if postgres else "")


def _from_log(
    statement: _Statement,
    wanted: Wanted,
    period: tuple[dt.datetime, dt.datetime],
    arrived: str,
    cuts: Sequence[int],
    of: Sequence[str],
) -> None:
    """Calls one by one: summed by quarters, and these put into the buckets that begin with `cuts`."""
    quarter = rollups.quarter_of("c.created_at")
    dimensions = ", ".join(DIMENSIONS)
    for facts, channel in ((rollups.facts_of_calls, "c.channel"), (rollups.facts_of_attempts, "p.channel")):
        if facts is rollups.facts_of_attempts and not _of_attempts(of):
            continue
        if rollups.is_postgres():
            statement.add(" UNION ALL SELECT width_bucket(quarter, %s::bigint[]) - 1 AS n, ", list(cuts[:-1]))
        else:
            statement.add(" UNION ALL SELECT cut.n AS n, ")
        statement.add(
            f"{dimensions}, {', '.join(of)} FROM (SELECT quarter, {dimensions}, {rollups.sums(of)} "
            f"FROM ({facts(f'{quarter} AS quarter')} "
            f"WHERE {arrived} AND c.created_at >= %s AND c.created_at < %s AND c.id >= %s AND c.id < %s",
            *_bounds(*period),
        )
        if wanted.team != EVERYBODY:
            statement.add(" AND c.team_id = %s", wanted.team)
        _narrow(statement, wanted, channel, "coalesce(c.key_id, 0)")
        statement.add(f") AS f GROUP BY quarter, {dimensions}) AS q")
        if not rollups.is_postgres():
            statement.add(" JOIN cut ON q.quarter >= cut.low AND q.quarter < cut.high")


def _bounds(start: dt.datetime, end: dt.datetime) -> list[Any]:
    """The period by the calls' times, and by their ids: so that PostgreSQL looks into the months of the period only."""
    adapt = connection.ops.adapt_datetimefield_value
    low, high = rollups.id_range(start, end)
    return [adapt(start), adapt(end), *((low, high) if rollups.is_postgres() else (low.hex, high.hex))]


def _narrow(statement: _Statement, wanted: Wanted, channel: str, key: str) -> None:
    source = channel.partition(".")[0]
    model, state = ("r.model", "r.state") if source == "r" else ("c.model", "c.state")
    for column, value in ((model, wanted.model), (channel, wanted.channel), (state, wanted.state)):
        if value:
            statement.add(f" AND {column} = %s", value)
    if wanted.key is not None:
        # Without the function where an index can be used.
        statement.add(f" AND {'c.key_id' if wanted.key and source != 'r' else key} = %s", wanted.key)
