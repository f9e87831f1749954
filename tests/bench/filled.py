"""Books with millions of calls, made by PostgreSQL itself: holds, transfers, usage records and attempts in proportion.

Calls of 90 days, in the order of their beginning; a few teams make most of them. What every row says is what the relay
would have written, so the audit finds nothing wrong with its hours.
"""

import datetime as dt
import time
from collections.abc import Callable
from typing import NamedTuple

from django.db import connection, transaction
from django.utils import timezone

from billing import catalog, ledger, money, prices
from keys import services as keys
from portal import services
from portal.models import Team, User
from relay import partitions

DAYS, TEAMS, KEYS_EACH, SLICE = 90, 200, 5, 200_000
TAIL = 5_000  # calls that have not been rolled up yet: those of 20 s at 250 a second
MODELS = (
    "gpt-4o-mini",
    "gpt-4o",
    "claude-sonnet-4",
    "gemini-2.5-flash",
    "deepseek-chat",
    "qwen-max",
    "o4-mini",
    "embed",
)
CHANNELS = ("main", "azure", "bedrock", "spare")
LATER_INDEXES = {
    "call_team_time": "(team_id, created_at DESC)",
    "call_key_time": "(key_id, created_at DESC)",
    "call_request": "(request_id varchar_pattern_ops)",
}


class Filled(NamedTuple):
    """`busiest` is the team with the most calls, `user` one of its members; `start` is where the calls begin."""

    busiest: Team
    user: User
    start: dt.datetime
    end: dt.datetime


def fill(count: int, say: Callable[[str], None]) -> Filled:
    """In the database that this process works in, which is empty. All but TAIL are there before they are rolled up."""
    began = time.monotonic()
    user, team = _house()
    end = timezone.now().replace(microsecond=0) - dt.timedelta(minutes=1)
    start = end - dt.timedelta(days=DAYS)
    months = [partitions.months_later(partitions.month_of(start), number) for number in range(4)]
    partitions.make(months)
    for name in LATER_INDEXES:
        _run(f"DROP INDEX {name}")
    first = count - min(TAIL, count // 10)
    for low in range(0, first, SLICE):
        _slice(low, min(low + SLICE, first), count, start, end)
    for name, columns in LATER_INDEXES.items():
        _run("SET maintenance_work_mem = '512MB'")
        _run(f"CREATE INDEX {name} ON relay_calllog {columns}")
    say(f"{first:,} calls made in {time.monotonic() - began:.0f} s")
    return Filled(team, user, start, end)


def tail(filled: Filled, count: int) -> None:
    """The calls that are not rolled up yet."""
    _slice(count - min(TAIL, count // 10), count, count, filled.start, filled.end)


def tidy() -> None:
    """What PostgreSQL does by itself in time."""
    for table in ("relay_calllog", "relay_attempt", "relay_rollup", "billing_hold", "billing_transfer"):
        _run(f"VACUUM ANALYZE {table}")


def _house() -> tuple[User, Team]:
    ledger.forget_revenue_account()
    revenue = ledger.revenue_account()
    card = prices.parse_card({"input": "0.15", "output": "0.60"})
    versions = []
    for name in MODELS:
        version = catalog.set_price(catalog.save_model(name=name, provider="bench"), card, actor="bench")
        assert version is not None
        versions.append(version.pk)
    rows = []
    with transaction.atomic():
        for number in range(TEAMS):
            user, team = services.user_with_team(f"team{number}@example.com")
            wallet = ledger.wallet_of(team.pk)
            if not number:
                busiest = user, team
                ledger.credit(wallet=wallet, amount=money.parse("1000"), actor="bench", reason="bench")
            issued = [keys.issue(team_id=team.pk, spec=keys.Spec(name=f"key {n}"))[0].pk for n in range(KEYS_EACH)]
            rows.append((number, team.pk, wallet.pk, issued))
    _run("CREATE UNLOGGED TABLE bench_team (n int PRIMARY KEY, team bigint, wallet bigint, keys bigint[])")
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO bench_team VALUES (%s, %s, %s, %s)", rows)
    _run(f"CREATE UNLOGGED TABLE bench_price AS SELECT n, id FROM unnest(ARRAY{versions}) WITH ORDINALITY AS p (id, n)")
    _run(f"CREATE UNLOGGED TABLE bench_revenue AS SELECT {revenue}::bigint AS id")
    return busiest


def _run(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


# Uneven shares by powers: the first team of 200 makes a sixth of all calls. A key has its model, and calls others less
# and less often; a model has its channel and a second one; one call in a thousand goes to the spare one.
_CALLS = f"""
CREATE UNLOGGED TABLE bench_call AS
SELECT (lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || substr(md5(r.n::text), 1, 3) || '8'
        || substr(md5(r.n::text), 4, 15))::uuid AS id,
       at, t.team, t.wallet, t.keys[1 + r.key] AS key, (ARRAY{list(MODELS)})[p.n] AS model, p.id AS price,
       (ARRAY{list(CHANNELS)})[1 + CASE WHEN r.channel < 0.001 THEN 3 ELSE (p.n + (r.channel > 0.9)::int) %% 3 END]
           AS channel,
       CASE WHEN r.state < 0.97 THEN 'settled' WHEN r.state < 0.99 THEN 'failed' WHEN r.state < 0.9995 THEN 'left'
            ELSE 'lost' END AS state, r.tokens_in, r.tokens_out, r.ms
FROM (SELECT n, %s::timestamptz + n / %s::float8 * %s * interval '1 second' AS at, random() AS team,
             floor({KEYS_EACH} * power(random(), 2))::int AS key,
             random() AS model, random() AS channel, random() AS state, (20 + 4000 * random())::int AS tokens_in,
             (5 + 800 * random())::int AS tokens_out, 200 + 4000 * random() AS ms
      FROM generate_series(%s, %s) AS s (n)) AS r
JOIN bench_team t ON t.n = floor({TEAMS} * power(r.team, 3))::int
JOIN bench_price p ON p.n = 1 + (r.key + t.n + floor({len(MODELS)} * power(r.model, 6))::int) %% {len(MODELS)}
ORDER BY r.n"""
_COST = "CASE WHEN state = 'failed' THEN 0 ELSE tokens_in * 150 + tokens_out * 600 END"
_INSERTS = (
    f"""
INSERT INTO billing_hold (id, account_id, amount, charged, state, generation, price_id, budgets, facts, lease_owner,
                          lease_until, created_at, resolved_at)
SELECT id, wallet, 2000000, {_COST}, CASE WHEN state = 'failed' THEN 'voided' ELSE 'settled' END, 1, price, '[]',
       json_build_object('team', team, 'key', key, 'billing', 'metered', 'multiplier', 1000000, 'request_id', id,
                         'endpoint', 'chat.completions', 'protocol', 'openai', 'model', model, 'streamed', false,
                         'ip', '10.0.0.1', 'channels', json_build_array(channel), 'models', json_build_array(model)),
       'bench', at + interval '45 seconds', at, at + ms * interval '1 millisecond' FROM bench_call""",
    f"""
INSERT INTO billing_transfer (kind, debit_id, credit_id, amount, reference, actor, reason, created_at)
SELECT 'charge', wallet, (SELECT id FROM bench_revenue), {_COST}, id::text, '', '', at + ms * interval '1 millisecond'
FROM bench_call WHERE state <> 'failed'""",
    f"""
INSERT INTO relay_calllog (id, team_id, key_id, request_id, endpoint, protocol, model, upstream_model, channel,
                           streamed, state, status, error, usage, usage_source, lines, cost, held, price_id,
                           upstream_id, finish, client_ip, hold_ms, first_byte_ms, duration_ms, created_at)
SELECT id, team, key, CASE WHEN team % 3 = 0 THEN 'order-' || substr(md5(id::text), 1, 10) ELSE id::text END,
       'chat.completions', 'openai', model, model, channel, false, state,
       CASE state WHEN 'settled' THEN 200 WHEN 'left' THEN 499 WHEN 'lost' THEN 503 ELSE 502 END,
       CASE state WHEN 'settled' THEN '' WHEN 'left' THEN 'client_left' ELSE 'upstream_error' END,
       CASE WHEN state = 'failed' THEN '{{}}' ELSE json_build_object('input', tokens_in, 'output', tokens_out) END,
       CASE WHEN state = 'failed' THEN 'none' ELSE 'reported' END,
       CASE WHEN state = 'failed' THEN '[]' ELSE json_build_array(
           json_build_object('bucket', 'input', 'quantity', tokens_in, 'rate', 150000000, 'multiplier', 1000000,
                             'amount', tokens_in * 150, 'above', 0),
           json_build_object('bucket', 'output', 'quantity', tokens_out, 'rate', 600000000, 'multiplier', 1000000,
                             'amount', tokens_out * 600, 'above', 0)) END,
       {_COST}, 2000000, price, 'chatcmpl-' || substr(md5(id::text), 1, 24), 'stop', '10.0.0.1', 1.5, ms / 3, ms, at
FROM bench_call""",
    """
INSERT INTO relay_attempt (call_id, number, channel, credential, protocol, outcome, status, detail, usage, usage_source,
                           cost, began_ms, first_byte_ms, ended_ms)
SELECT id, 1, channel, 'k81Q', 'openai', CASE WHEN state = 'settled' THEN 'complete' ELSE state END, 200, '',
       CASE WHEN state = 'failed' THEN NULL ELSE json_build_object('input', tokens_in, 'output', tokens_out) END,
       CASE WHEN state = 'failed' THEN 'none' ELSE 'reported' END,
       CASE WHEN state = 'failed' THEN NULL ELSE tokens_in * 100 + tokens_out * 400 END, 1.6, ms / 3, ms
FROM bench_call""",
)


@transaction.atomic
def _slice(low: int, high: int, count: int, start: dt.datetime, end: dt.datetime) -> None:
    with connection.cursor() as cursor:
        cursor.execute(_CALLS, [start, count, (end - start).total_seconds(), low, high - 1])
        for sql in _INSERTS:
            cursor.execute(sql)
        cursor.execute("DROP TABLE bench_call")
