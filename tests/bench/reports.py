"""Reports over millions of calls on PostgreSQL: what every page's queries take, and what memory an export needs.

Each page is asked for through the project's own views, as its busiest team sees it, beside calls that have not been
rolled up yet; what is timed is each statement that it sends, and of all of them the slowest counts. `make bench` runs
it; alone: `python -m tests.bench reports --calls 10000000`, with `--explain` for the plans of the slow ones.
"""

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from django.db import connection
from django.test import Client

from relay import rollup_audit, rollups
from relay.models import CallLog
from tests.bench import filled
from tests.bench.filled import Filled
from tests.bench.measure import percentile
from tests.kit import databases
from tests.kit.services import Postgres

BAR, ROUNDS = 100.0, 5  # milliseconds that a query may take; how often each page is asked for
SLOW = 20.0  # milliseconds from which a plan is shown


class Query(NamedTuple):
    """A statement as it was sent, and its milliseconds."""

    sql: str
    parameters: Any
    ms: float


def run(count: int, *, explain: bool = False, say: Callable[[str], None] = print) -> None:
    """Fills a database of its own, and prints two tables."""
    say(f"\nReports over {count:,} calls on PostgreSQL\n")
    postgres = Postgres()
    try:
        url = databases.new("postgres", postgres)
        with databases.inside(url):
            made = _prepared(count, say)
            _pages(made, explain, say)
            _exports(url, made, say)
    finally:
        postgres.stop()


def _prepared(count: int, say: Callable[[str], None]) -> Filled:
    made = filled.fill(count, say)
    began = time.monotonic()
    rollups.roll_up(within=1e6)
    seconds = time.monotonic() - began
    rows = _one("SELECT count(*) FROM relay_rollup")
    say(f"rolled up in {seconds:.0f} s, {count / seconds:,.0f} calls/s, {rows:,} rows of roll-ups")
    filled.tail(made, count)
    filled.tidy()
    hour = int(made.end.timestamp()) // rollups.HOUR * rollups.HOUR - 10 * rollups.HOUR
    began = time.monotonic()
    wrong = rollup_audit.look([hour, hour - 40 * rollups.DAY])
    assert not wrong, wrong
    say(f"two hours audited in {time.monotonic() - began:.2f} s")
    sizes = (
        "SELECT pg_size_pretty(sum(pg_total_relation_size(oid))) FROM pg_class WHERE relkind = 'r' AND relname LIKE "
    )
    names = ("relay_calllog", "relay_attempt", "relay_rollup")
    found = ", ".join(f"{name} {_one(sizes + chr(39) + name + '%' + chr(39))}" for name in names)
    calls = CallLog.objects.filter(team=made.busiest).count()
    say(f"{found}; the busiest team has {calls:,} calls; {filled.TAIL:,} are not rolled up\n")
    return made


def _one(sql: str) -> Any:
    with connection.cursor() as cursor:
        cursor.execute(sql.replace("%", "%%") if "LIKE" in sql else sql, [])
        return cursor.fetchone()[0]


# ---- pages ----------------------------------------------------------------------------------------------------------


def _addresses(made: Filled) -> dict[str, str]:
    """Every page that shows what calls came to, in the forms that ask for the most."""
    team = made.busiest.pk
    calls = CallLog.objects.filter(team=team).order_by("created_at")
    old, key = calls[1000], calls.values_list("key_id", flat=True)[0]
    deep = f"older~{old.created_at.isoformat()}~{old.pk}"
    pages = {f"overview {name}": f"/?period={name}&by={by}" for name, by in
             (("24h", "model"), ("7d", "key"), ("30d", "model"), ("90d", "key"))}  # fmt: skip
    pages |= {f"usage 90 d by {by}": f"/usage/?period=90d&by={by}" for by in ("day", "model", "key", "channel")}
    pages |= {
        "usage 24 h by hour": "/usage/?period=24h&by=day",
        "usage, the oldest page": f"/usage/?period=90d&cursor={deep}",
        "usage of a key": f"/usage/?period=90d&key={key}",
        "usage, a rare state": "/usage/?period=90d&state=lost",
        "usage, a rare channel": "/usage/?period=90d&channel=spare",
        "usage, a rare model and state": "/usage/?period=90d&model=embed&state=lost",
        "usage of nothing": "/usage/?period=90d&model=embed&state=refused",
        "usage by request id": f"/usage/?period=90d&q={old.request_id}",
        "usage by a beginning of one": f"/usage/?period=90d&q={old.request_id[:9]}",
        "usage by the call's id": f"/usage/?period=24h&q={old.pk}",
        "a call": f"/usage/{old.pk}/",
        "keys": "/keys/",
        "keys never used": "/keys/?view=unused",
        "revoking a key": f"/keys/{key}/revoke/",
        "limits": "/limits/",
        "admin: calls": "/admin/relay/calllog/",
        "admin: calls of a state": "/admin/relay/calllog/?state__exact=lost",
        "admin: by request id": f"/admin/relay/calllog/?q={old.request_id}",
        "admin: by an unknown id": f"/admin/relay/calllog/?q={uuid.uuid4()}",
        "admin: a call": f"/admin/relay/calllog/{old.pk}/change/",
    }
    return pages


def _pages(made: Filled, explain: bool, say: Callable[[str], None]) -> None:
    made.user.is_staff = made.user.is_superuser = True
    made.user.save()
    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(made.user)
    say(f"Load average {os.getloadavg()[0]:.1f}\n")
    say("| Page                          | Queries | Slowest p50 ms | Slowest max ms | All max ms | Bar |")
    say("| ----------------------------- | ------- | -------------- | -------------- | ---------- | --- |")
    for name, address in _addresses(made).items():
        _asked(client, address)  # warm
        rounds = [_asked(client, address) for _ in range(ROUNDS)]
        slowest = [max(query.ms for query in queries) for queries in rounds]
        every = max(sum(query.ms for query in queries) for queries in rounds)
        verdict = "pass" if max(slowest) < BAR else "over"
        say(
            f"| {name:<29} | {len(rounds[0]):>7} | {percentile(slowest, 0.5):>14.1f} | {max(slowest):>14.1f} "
            f"| {every:>10.1f} | {verdict} |"
        )
        if explain and max(slowest) > SLOW:
            _explain(max(rounds[-1], key=lambda query: query.ms), say)
    say(f"\nBar: no query of a page takes {BAR:.0f} ms")


def _asked(client: Client, address: str) -> list[Query]:
    with _watched() as queries:
        answer = client.get(address)
    assert answer.status_code in (200, 302, 405), (address, answer.status_code)
    return queries or [Query("", (), 0.0)]


@contextmanager
def _watched() -> Iterator[list[Query]]:
    found: list[Query] = []

    def timed(execute: Any, sql: str, parameters: Any, many: bool, context: Any) -> Any:
        began = time.perf_counter()
        try:
            return execute(sql, parameters, many, context)
        finally:
            found.append(Query(sql, parameters, (time.perf_counter() - began) * 1000))

    with connection.execute_wrapper(timed):
        yield found


def _explain(query: Query, say: Callable[[str], None]) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (ANALYZE, BUFFERS, SETTINGS) {query.sql}", query.parameters)
        say(f"\n{query.ms:.1f} ms: {query.sql[:600]}")
        for (line,) in cursor.fetchall():
            say(f"    {line}")


# ---- exports --------------------------------------------------------------------------------------------------------


def _exports(url: str, made: Filled, say: Callable[[str], None]) -> None:
    say("\n| Export of the busiest team     | Rows       | MB       | Rows/s  | Peak MiB | by the export |")
    say("| ------------------------------ | ---------- | -------- | ------- | -------- | ------------- |")
    for what, days in (("calls of a day", 1), ("calls of 90 days", 90), ("sums by hour and all", 90)):
        variables = databases.environment(DATABASE_URL=url, VAR_DIR=os.environ["VAR_DIR"])
        command = [sys.executable, "-m", "tests.bench.export", what, str(made.busiest.pk), str(days)]
        done = subprocess.run(command, cwd=databases.ROOT, env=variables, capture_output=True, text=True, check=True)
        rows, size, seconds, peak, grown = map(float, done.stdout.split())
        say(
            f"| {what:<30} | {rows:>10,.0f} | {size / 1e6:>8.1f} | {rows / seconds:>7,.0f} | {peak / 1024:>8.0f} "
            f"| {grown / 1024:>13.1f} |"
        )
