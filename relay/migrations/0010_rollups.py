"""Roll-ups; the order in which calls arrive; calls and attempts in partitions by month on PostgreSQL.

On PostgreSQL the existing rows are copied into the partitions in one transaction, which nobody may read or write
meanwhile; the disk needs room for them twice. They get arrival numbers up to 0, so that the first runs of
`roll_up_usage` come to them, in slices. Going back copies them into plain tables.
"""

import datetime as dt
import uuid
from typing import Any

from django.db import migrations, models
from django.utils import timezone

import relay.models

ARRIVAL = "(pg_current_xact_id()::text::bigint)"
KEYS = {"relay_calllog": "id", "relay_attempt": "call_id"}
EARLIEST = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
AHEAD = 3
INDEXES = (
    "CREATE INDEX call_team_time ON relay_calllog (team_id, created_at DESC)",
    "CREATE INDEX call_key_time ON relay_calllog (key_id, created_at DESC)",
)
NEW_INDEXES = (
    "CREATE INDEX call_request ON relay_calllog (request_id{pattern})",
    "CREATE INDEX call_arrival ON relay_calllog (arrival)",
    "CREATE INDEX call_not_settled ON relay_calllog (state, id) WHERE NOT (state = 'settled')",
    "CREATE INDEX call_not_reported ON relay_calllog (usage_source, id) WHERE NOT (usage_source = 'reported')",
)
TRIGGER = """
CREATE TRIGGER relay_calllog_arrival AFTER INSERT ON relay_calllog WHEN NEW.arrival IS NULL
BEGIN
    UPDATE relay_calllog SET arrival = 1 + max(
        (SELECT coalesce(max(arrival), 0) FROM relay_calllog),
        (SELECT coalesce(max(horizon), 0) FROM relay_rollupcursor)) WHERE rowid = NEW.rowid;
END
"""


def forward(apps: Any, schema_editor: Any) -> None:
    apps.get_model("relay", "RollupCursor").objects.create(name="calls", horizon=-(2**62))
    run = _runner(schema_editor)
    if schema_editor.connection.vendor != "postgresql":
        run("ALTER TABLE relay_calllog ADD COLUMN arrival bigint NULL")
        run("UPDATE relay_calllog SET arrival = rowid - (SELECT max(rowid) FROM relay_calllog)")
        for sql in NEW_INDEXES:
            run(sql.format(pattern=""))
        run(TRIGGER)
        return
    by_call = _index_of_calls(schema_editor)
    for table, key in KEYS.items():
        months = _months(schema_editor, table, key)
        run(f"ALTER TABLE {table} RENAME TO {table}_before")
        arrival = f", arrival bigint DEFAULT {ARRIVAL}" if table == "relay_calllog" else ""
        run(
            f"CREATE TABLE {table} (LIKE {table}_before INCLUDING DEFAULTS INCLUDING CONSTRAINTS{arrival}) "
            f"PARTITION BY RANGE ({key})"
        )
        for month in months:
            name = f"{table}_y{month.year}m{month.month:02d}"
            low, high = _first_id(month), _first_id(_next(month))
            run(f"CREATE TABLE {name} PARTITION OF {table} FOR VALUES FROM ('{low}') TO ('{high}')")
        run(f"CREATE TABLE {table}_rest PARTITION OF {table} DEFAULT")
    # Numbered as they were written, which is the order of their ids but for a few.
    run(
        "INSERT INTO relay_calllog SELECT c.*, row_number() OVER (ORDER BY id) - count(*) OVER () "
        "FROM relay_calllog_before c"
    )
    run("INSERT INTO relay_attempt SELECT * FROM relay_attempt_before")
    for table in KEYS:
        run(f"DROP TABLE {table}_before")  # and with it the sequence of the attempts, and the names of the indexes
    run("ALTER TABLE relay_calllog ADD CONSTRAINT relay_calllog_pkey PRIMARY KEY (id)")
    run("ALTER TABLE relay_attempt ADD CONSTRAINT relay_attempt_pkey PRIMARY KEY (id, call_id)")
    _number_attempts(run)
    run(f"CREATE INDEX {by_call} ON relay_attempt (call_id)")
    for sql in (*INDEXES, *NEW_INDEXES):
        run(sql.format(pattern=" varchar_pattern_ops"))


def _number_attempts(run: Any) -> None:
    """Partitioned tables have no identity columns before PostgreSQL 17; a sequence does the same."""
    run("CREATE SEQUENCE relay_attempt_id_seq AS bigint OWNED BY relay_attempt.id")
    run("SELECT setval('relay_attempt_id_seq', (SELECT coalesce(max(id), 0) + 1 FROM relay_attempt), false)")
    run("ALTER TABLE relay_attempt ALTER COLUMN id SET DEFAULT nextval('relay_attempt_id_seq')")


def backward(apps: Any, schema_editor: Any) -> None:
    run = _runner(schema_editor)
    if schema_editor.connection.vendor != "postgresql":
        run("DROP TRIGGER relay_calllog_arrival")
        for name in ("call_arrival", "call_not_settled", "call_not_reported"):
            run(f"DROP INDEX {name}")
        run("DROP INDEX call_request")
        run("ALTER TABLE relay_calllog DROP COLUMN arrival")
        return
    by_call = _index_of_calls(schema_editor)
    for table in KEYS:
        run(f"ALTER TABLE {table} RENAME TO {table}_before")
        run(f"CREATE TABLE {table} (LIKE {table}_before INCLUDING CONSTRAINTS)")
    run("ALTER TABLE relay_calllog DROP COLUMN arrival")
    columns = ", ".join(f'"{name}"' for name in _columns(schema_editor, "relay_calllog"))
    run(f"INSERT INTO relay_calllog ({columns}) SELECT {columns} FROM relay_calllog_before")
    run("INSERT INTO relay_attempt SELECT * FROM relay_attempt_before")
    for table in KEYS:
        run(f"DROP TABLE {table}_before CASCADE")
    run("ALTER TABLE relay_calllog ADD CONSTRAINT relay_calllog_pkey PRIMARY KEY (id)")
    run("ALTER TABLE relay_attempt ADD CONSTRAINT relay_attempt_pkey PRIMARY KEY (id)")
    run("ALTER TABLE relay_attempt ALTER COLUMN id ADD GENERATED BY DEFAULT AS IDENTITY")
    run(
        "SELECT setval(pg_get_serial_sequence('relay_attempt', 'id'), coalesce(max(id), 0) + 1, false) "
        "FROM relay_attempt"
    )
    run(f"CREATE INDEX {by_call} ON relay_attempt (call_id)")
    for sql in INDEXES:
        run(sql)


def _runner(schema_editor: Any) -> Any:
    return lambda sql: schema_editor.execute(sql, params=None)


def _index_of_calls(schema_editor: Any) -> str:
    """The name that Django gave to the index of the attempts' calls."""
    model = schema_editor.connection.introspection
    with schema_editor.connection.cursor() as cursor:
        found = model.get_constraints(cursor, "relay_attempt")
    return next(name for name, what in found.items() if what["index"] and what["columns"] == ["call_id"])


def _columns(schema_editor: Any, table: str) -> list[str]:
    with schema_editor.connection.cursor() as cursor:
        return [column.name for column in schema_editor.connection.introspection.get_table_description(cursor, table)]


def _months(schema_editor: Any, table: str, key: str) -> list[dt.datetime]:
    """Those that there are calls of, this one and the next."""
    this = timezone.now().astimezone(dt.UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    found = set()
    with schema_editor.connection.cursor() as cursor:
        month = EARLIEST
        while month < this:
            cursor.execute(
                f"SELECT {key} FROM {table} WHERE {key} >= %s AND {key} < %s ORDER BY {key} LIMIT 1",
                [_first_id(month), _first_id(this)],
            )
            row = cursor.fetchone()
            if row is None:
                break
            moment = dt.datetime.fromtimestamp((row[0].int >> 80) / 1000, dt.UTC)
            month = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            found.add(month)
            month = _next(month)
    month = this
    for _ in range(AHEAD + 1):
        found.add(month)
        month = _next(month)
    return sorted(found)


def _next(month: dt.datetime) -> dt.datetime:
    return month.replace(year=month.year + month.month // 12, month=month.month % 12 + 1)


def _first_id(moment: dt.datetime) -> uuid.UUID:
    return uuid.UUID(int=int(moment.timestamp() * 1000) << 80)


class Migration(migrations.Migration):
    dependencies = [
        ("relay", "0009_rates"),
    ]

    operations = [
        migrations.CreateModel(
            name="RollupCursor",
            fields=[
                ("name", models.CharField(max_length=16, primary_key=True, serialize=False)),
                ("horizon", models.BigIntegerField(default=1)),
                ("pruned", models.BigIntegerField(default=0)),
                ("closed", models.BigIntegerField(default=0)),
                ("checked", models.BigIntegerField(default=0)),
            ],
        ),
        migrations.CreateModel(
            name="Rollup",
            fields=[
                (
                    "pk",
                    models.CompositePrimaryKey(
                        "team_id",
                        "grain",
                        "bucket",
                        "key_id",
                        "model",
                        "channel",
                        "state",
                        blank=True,
                        editable=False,
                        primary_key=True,
                        serialize=False,
                    ),
                ),
                ("team_id", models.BigIntegerField()),
                ("grain", models.IntegerField()),
                ("bucket", models.BigIntegerField()),
                ("key_id", models.BigIntegerField()),
                ("model", models.CharField(max_length=200)),
                ("channel", models.CharField(max_length=100)),
                ("state", models.CharField(max_length=8)),
                ("calls", models.BigIntegerField()),
                ("cost", models.BigIntegerField()),
                ("attempts", models.BigIntegerField()),
                ("provider_cost", models.BigIntegerField()),
                ("uncosted", models.BigIntegerField()),
                ("duration_ms", models.BigIntegerField()),
                ("first_bytes", models.BigIntegerField()),
                ("first_byte_ms", models.BigIntegerField()),
                ("used_input", models.BigIntegerField()),
                ("used_cache_read", models.BigIntegerField()),
                ("used_cache_write", models.BigIntegerField()),
                ("used_output", models.BigIntegerField()),
                ("used_reasoning", models.BigIntegerField()),
                ("used_audio_in", models.BigIntegerField()),
                ("used_audio_out", models.BigIntegerField()),
                ("used_characters", models.BigIntegerField()),
                ("used_images", models.BigIntegerField()),
                ("used_seconds", models.BigIntegerField()),
                ("used_calls", models.BigIntegerField()),
            ],
            options={
                "indexes": [models.Index(fields=["grain", "bucket"], name="rollup_grain_bucket")],
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(("grain__in", (900, 3600, 86400))), name="rollup_grain_known"
                    ),
                    models.CheckConstraint(
                        condition=models.Q(("attempts__gte", 0), ("calls__gte", 0), ("cost__gte", 0)),
                        name="rollup_counts_not_negative",
                    ),
                ],
            },
        ),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.AddField(
                    model_name="calllog",
                    name="arrival",
                    field=models.BigIntegerField(db_default=relay.models.Arrival(), editable=False, null=True),
                ),
                migrations.AddIndex(
                    model_name="calllog",
                    index=models.Index(fields=["request_id"], name="call_request", opclasses=["varchar_pattern_ops"]),
                ),
                migrations.AddIndex(
                    model_name="calllog",
                    index=models.Index(fields=["arrival"], name="call_arrival"),
                ),
                migrations.AddIndex(
                    model_name="calllog",
                    index=models.Index(
                        condition=models.Q(("state", "settled"), _negated=True),
                        fields=["state", "id"],
                        name="call_not_settled",
                    ),
                ),
                migrations.AddIndex(
                    model_name="calllog",
                    index=models.Index(
                        condition=models.Q(("usage_source", "reported"), _negated=True),
                        fields=["usage_source", "id"],
                        name="call_not_reported",
                    ),
                ),
            ],
            database_operations=[migrations.RunPython(forward, backward)],
        ),
    ]
