"""The roll-ups against the ledger and the call log: a difference is a finding, and is repaired from the log.

What is compared is true in every snapshot, while calls are settled and rolled up: of every hour and team, the roll-ups
and what has not been rolled up yet equal what the books charged for the calls that began then. As long as the calls are
there, every row is compared with what they come to; an hour's rows with its day's always.
"""

import datetime as dt
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import structlog
from django.db import connection
from django.utils import timezone
from django.utils.translation import gettext_noop as _

from billing import audit, ids
from billing.audit import Finding, Rows, Subject, checks, reports, snapshot
from billing.audit.checks import Found
from billing.audit.recent import CALLS
from relay import rollups
from relay.models import RollupCursor
from relay.rollups import AROUND, COLUMNS, DAY, EVERYBODY, HOUR, QUARTER

log = structlog.get_logger(__name__)

CHECK = _("the roll-ups of an hour are what was charged for its calls")
SETTLED = 2 * QUARTER  # seconds after its end in which an hour gets its first audit
AT_ONCE = 6  # hours that one run audits after they have ended; the rest come in the round


def step() -> list[Finding]:
    """The hours that have ended since the last run, and the next one of the round of all. What could not be repaired.

    Two workers do not audit the same: the cursor is moved by a compare-and-set before the work.
    """
    row, now = rollups.cursor(), int(timezone.now().timestamp())
    last = now - SETTLED - (now - SETTLED) % HOUR  # the end of the last hour that counts as ended
    fresh = range(max(row.closed, last - AT_ONCE * HOUR), last, HOUR)
    after = _next(row.checked, last)
    moved = RollupCursor.objects.filter(pk=row.pk, closed=row.closed, checked=row.checked).update(
        closed=last, checked=after if after is not None else 0
    )
    if not moved:
        return []
    return _audited(sorted({*fresh, *([after] if after is not None else [])}))


def _next(checked: int, last: int) -> int | None:
    """The hour that comes after in the round, of those that there is anything of."""
    hours = "SELECT bucket FROM relay_rollup WHERE grain = %s AND bucket > %s AND bucket < %s ORDER BY bucket LIMIT 1"
    with connection.cursor() as cursor:
        cursor.execute(hours, [HOUR, checked, last])
        found = cursor.fetchone()
    return int(found[0]) if found else None


def _audited(hours: Sequence[int]) -> list[Finding]:
    """Looks, tells, repairs, and looks again; findings that are gone then are closed."""
    found = look(hours)
    if not found:
        return []
    reports.tell(found, looked=_subjects(hours))
    wrong = [hour for hour in hours if any(finding.subject == _subject(hour) for finding in found)]
    repaired = [hour for hour in wrong if rollups.recompute(hour)]
    log.error("rollups.repaired", hours=len(repaired), of=len(wrong))
    left = look(wrong)
    reports.tell(left, looked=_subjects(wrong))
    return left


def _subject(hour: int) -> str:
    return f"hour {dt.datetime.fromtimestamp(hour, dt.UTC):%Y-%m-%d %H}"


def _subjects(hours: Sequence[int]) -> frozenset[str]:
    return frozenset(_subject(hour) for hour in hours)


def look(hours: Sequence[int]) -> list[Finding]:
    """What is wrong with these hours, in one snapshot; and with their days, where that is not what their hours say."""
    with snapshot.taken():
        row = rollups.cursor()
        found = {hour: _unlike_the_ledger(hour) or _unlike_the_log(hour, row) for hour in hours}
        for _day, several in itertools.groupby(sorted(hours), lambda hour: hour - hour % DAY):
            own = list(several)
            if not any(found[hour] for hour in own):
                found[own[0]] = _unlike_its_day(own[0])
        return [Finding(CHECK, _subject(hour), detail) for hour, detail in sorted(found.items()) if detail]


# ---- what is compared -----------------------------------------------------------------------------------------------

Sums = Counter[tuple[int, int]]  # nano-units by hour and team


def _summed(rows: Iterator[Any]) -> Sums:
    found: Sums = Counter()
    for hour, team, amount in rows:
        found[int(hour), int(team)] += int(amount)
    return found


def _range(start: int, end: int) -> tuple[Any, Any]:
    adapt = connection.ops.adapt_datetimefield_value
    return adapt(dt.datetime.fromtimestamp(start, dt.UTC)), adapt(dt.datetime.fromtimestamp(end, dt.UTC))


def _rolled(start: int, end: int) -> Sums:
    sql = (
        "SELECT bucket, team_id, sum(cost) FROM relay_rollup WHERE grain = %s AND bucket >= %s AND bucket < %s "
        "AND team_id <> %s GROUP BY bucket, team_id"
    )
    return _summed(snapshot.rows(sql, [HOUR, start, end, EVERYBODY]))


def _arrived(start: int, end: int) -> Sums:
    """What has not been rolled up yet."""
    seconds = rollups.seconds_of("c.created_at")
    sql = (
        f"SELECT ({seconds}) - ({seconds}) %% {HOUR}, c.team_id, sum(c.cost) FROM relay_calllog c "
        f"WHERE {rollups.arrival()} >= %s AND c.created_at >= %s AND c.created_at < %s GROUP BY 1, 2"
    )
    return _summed(snapshot.rows(sql, [rollups.cursor().horizon, *_range(start, end)]))


def _charged(start: int, end: int) -> Sums:
    """What the books charged for the calls: wallets, debts and plans. References begin with the call's id."""
    low, high = (dt.datetime.fromtimestamp(moment, dt.UTC) for moment in (start, end))
    names = [str(ids.first(low - AROUND)), str(ids.first(high + AROUND))]
    seconds = rollups.seconds_of("h.created_at")
    sql = f"""
        SELECT ({seconds}) - ({seconds}) %% {HOUR}, a.team_id, sum(t.amount) FROM billing_transfer t
        JOIN billing_hold h ON h.id = {checks.dialect()["hold that t draws for"]}
        JOIN billing_account a ON a.id = h.account_id
        WHERE t.kind IN ({", ".join(f"'{kind}'" for kind in CALLS)}) AND t.reference >= %s AND t.reference < %s
          AND h.created_at >= %s AND h.created_at < %s AND a.team_id IS NOT NULL GROUP BY 1, 2"""
    return _summed(snapshot.rows(sql, [*names, *_range(start, end)]))


def _differences(start: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Hour, team, what the roll-ups and the tail say, what the books say; where these differ."""
    known = _rolled(start, end)
    known.update(_arrived(start, end))
    charged = _charged(start, end)
    for hour, team in sorted(known.keys() | charged.keys()):
        if known[hour, team] != charged[hour, team]:
            yield hour, team, known[hour, team], charged[hour, team]


def _unlike_the_ledger(hour: int) -> str:
    found = list(_differences(hour, hour + HOUR))
    if not found:
        return ""
    _hour, team, known, charged = found[0]
    more = f", and {len(found) - 1} teams more" if len(found) > 1 else ""
    return f"team {team}: rolled up {known}, charged {charged}{more}"


def _unlike_its_day(hour: int) -> str:
    day = hour - hour % DAY
    sql = (
        "SELECT team_id, sum(CASE WHEN grain = %s THEN cost ELSE -cost END), "
        "sum(CASE WHEN grain = %s THEN calls ELSE -calls END) FROM relay_rollup "
        "WHERE grain IN (%s, %s) AND bucket >= %s AND bucket < %s GROUP BY team_id"
    )
    for team, cost, calls in snapshot.rows(sql, [DAY, DAY, HOUR, DAY, day, day + DAY]):
        if cost or calls:
            return f"team {team}: the day has {cost} and {calls} calls more than its hours"
    return ""


def _unlike_the_log(hour: int, row: RollupCursor) -> str:
    """Every row of the hour and its quarters, all figures, as long as the calls are there."""
    if hour < row.pruned:
        return ""
    condition, parameters = rollups.of_hour(hour, row.horizon)
    columns = ", ".join(COLUMNS)
    stored = (
        f"SELECT {columns} FROM relay_rollup WHERE grain IN ({QUARTER}, {HOUR}) AND bucket >= {hour} "
        f"AND bucket < {hour + HOUR}"
    )
    made = f"SELECT {columns} FROM ({rollups.selected(condition, (QUARTER, HOUR))}) AS made"
    twice = [*parameters, *parameters]
    missing = next(snapshot.rows(f"SELECT count(*) FROM ({made} EXCEPT {stored}) AS rows", twice))[0]
    extra = next(snapshot.rows(f"SELECT count(*) FROM ({stored} EXCEPT {made}) AS rows", twice))[0]
    return f"{missing} rows are not what the calls come to, {extra} that are there" if missing or extra else ""


@audit.register(CHECK, Subject.BOOKS, freezes=False, app="relay")
def _everything(rows: Rows) -> Iterator[Found]:
    """The full audit compares all hours at once; it repairs nothing, the next round does."""
    found = list(_differences(0, int(timezone.now().timestamp()) + DAY))
    if found:
        hour, team, known, charged = found[0]
        more = f"; {len(found)} such hours" if len(found) > 1 else ""
        yield None, f"{_subject(hour)}, team {team}: rolled up {known}, charged {charged}{more}", None
