"""Corruptions of every column of every table that money is in, and of every row of note, one at a time.

They are generated from the tables' own columns: a number one more and one less, another of the kinds or states that
there are, a text with a letter more, a time an hour later, a reference to another row, a list one shorter. Besides,
rows are deleted and written twice. What `UNKNOWABLE` names nobody can find, for the reason that it gives.
"""

import copy
import datetime as dt
import uuid
from collections.abc import Iterator
from typing import Any

import msgspec
from django.db import connection, models

from billing.models import Account, Budget, BudgetChange, Hold, PriceVersion, Transfer
from relay.models import Attempt, CallLog

HOUR = dt.timedelta(hours=1)


class Corruption(msgspec.Struct, frozen=True):
    """One statement, and what it does in words: table, row and column with its new value."""

    table: type[models.Model]
    row: str
    column: str
    change: str
    sql: str
    parameters: tuple[Any, ...]

    def __str__(self) -> str:
        return f"{self.table._meta.db_table}, {self.row}: {self.column} {self.change}"

    def plant(self) -> None:
        with connection.cursor() as cursor:
            cursor.execute(self.sql, self.parameters)
            assert cursor.rowcount == 1, self


# What nobody can find, because the books say it only once, and why no money moves by it unseen. By table and column,
# and by the row where it is so for some rows only.
UNKNOWABLE = {
    "billing_account frozen": "a decision of whoever froze it; nothing else depends on it",
    "billing_account credit_limit": "a decision of an administrator; less than is used, or below zero, is found",
    "billing_account created_at": "a label",
    "billing_account group_id": "a decision of an administrator; what a call was charged by is in its facts",
    "billing_account id, a receivable": "a number; where transfers refer to it, it is found",
    "billing_transfer id": "a number; where another row refers to it, it is found",
    "billing_transfer actor": "a label",
    "billing_transfer reason": "a label",
    "billing_transfer created_at": "a label; that of a charge or a shortfall is its hold's and is found",
    "billing_transfer reference": "a payment's or a request's id, told nowhere else; that of any other kind is found",
    "billing_hold id, an open hold": "the call's process knows it, and no table before the call has ended",
    "billing_hold id, a hold in review": "as of an open hold",
    "billing_hold state, an open hold": "open in one way or another: the lease decides what becomes of it",
    "billing_hold state, a hold in review": "as of an open hold",
    "billing_hold price_id": "another version of the same model's price before there is a charge by it",
    "billing_hold generation": "a number that only has to be greater than before; none below 1 passes",
    "billing_hold progress": "what a process that died knew; nothing else knows it",
    "billing_hold facts, an open hold": "what the record will say, before there is one; team and model are found",
    "billing_hold facts, a hold in review": "as of an open hold",
    "billing_hold facts, the hold of a call that failed": "by which factor nothing was charged",
    "billing_hold facts, the hold of a call that was tried twice": "its first try; the last is found",
    "billing_hold budgets, the hold of a call that failed": "nothing was spent, so it counts in no budget",
    "billing_hold lease_owner": "a label",
    "billing_hold suspected_at": "when the sweep first missed a renewal; it looks again",
    "billing_hold note": "a label",
    "billing_hold lease_until": "of a resolved hold a label; of an open one, what is far off is found",
    "billing_hold resolved_at": "of a hold without a charge a label; else it is the charge's time",
    "billing_budgetchange the row": "what was decided is in force in the budget; who and why, only this row says",
    "billing_priceversion group_id": "it decides about calls to come; those made name their version",
    "billing_priceversion valid_from": "it decides about calls to come; those made name their version",
    "billing_priceversion created_at": "a label",
    "billing_priceversion actor": "a label",
    "billing_priceversion rates": "the rate of a bucket that no call has used yet",
    "relay_calllog state": "whether a client waited for an answer that was complete: no cost depends on it unseen",
    "relay_calllog arrival": "whether it is in the roll-ups yet; their audit compares these with the log",
}
LABELS = {  # of a call and of an attempt: what was tried and how it went, told once
    "billing_budgetchange": "id action actor reason created_at",
    "relay_calllog": "status error upstream_id finish hold_ms first_byte_ms duration_ms",
    "relay_attempt": "id credential protocol outcome status detail cost began_ms first_byte_ms ended_ms",
}
REASONS = UNKNOWABLE | {
    f"{table} {column}": "a label" for table, columns in LABELS.items() for column in columns.split()
}


def reason(planted: Corruption) -> str | None:
    """The entry that says why this one cannot be found, if there is one."""
    column = f"{planted.table._meta.db_table} {planted.column}"
    return next((name for name in (column, f"{column}, {planted.row}") if name in REASONS), None)


def every(rich: int, poor: int) -> Iterator[Corruption]:
    """All of them, for the wallets of a book as `tests.audit.filled` makes it."""
    for table, name, row in _rows(rich, poor):
        for field in table._meta.concrete_fields:
            yield from _of_field(table, name, row, field)
        yield from _of_row(table, name, row)


def _rows(rich: int, poor: int) -> Iterator[tuple[type[models.Model], str, models.Model]]:
    """One row of every sort."""
    wallet, owing = Account.objects.get(pk=rich), Account.objects.get(pk=poor)
    yield Account, "a wallet", wallet
    yield Account, "a wallet that owes", owing
    yield Account, "a receivable", Account.objects.get(kind="receivable", team=wallet.team)
    yield Account, "a receivable with a debt", Account.objects.get(kind="receivable", team=owing.team)
    for kind in ("revenue", "payments", "promo"):
        yield Account, f"the account for {kind}", Account.objects.get(kind=kind)
    for kind in ("charge", "shortfall", "credit", "reversal"):
        yield Transfer, f"a {kind}", Transfer.objects.filter(kind=kind)[0]
    yield Transfer, "a redemption", Transfer.objects.get(kind="redemption")
    yield Transfer, "an adjustment", Transfer.objects.get(kind="adjustment", credit=rich)
    yield Transfer, "an adjustment that was reversed", Transfer.objects.get(kind="adjustment", debit=rich)
    calls = CallLog.objects.order_by("id")
    sorts = {
        "a settled call": calls.filter(state="settled", model="chat", usage_source="reported", streamed=False)[0],
        "a streamed call": calls.get(state="settled", streamed=True),
        "a call at the price of a call": calls.get(model="both"),
        "a call that was counted and capped": calls.get(usage_source="counted", state="settled"),
        "a call that was tried twice": calls.get(model="two-channels"),
        "a call that failed": calls.get(state="failed"),
        "a call whose client left": calls.get(state="left"),
        "a call that its wallet could not pay": calls.get(team=owing.team_id),
    }
    for name, call in sorts.items():
        yield CallLog, name, call
        yield Hold, f"the hold of {name}", Hold.objects.get(pk=call.pk)
    yield Hold, "an open hold", Hold.objects.get(state="dispatched")
    yield Hold, "a hold in review", Hold.objects.get(state="review")
    for budget in Budget.objects.all():
        yield Budget, f"a {budget.owner_kind}'s budget", budget
    yield BudgetChange, "what was decided of a cap", BudgetChange.objects.latest("pk")
    for attempt in Attempt.objects.filter(call_id__in=[sorts["a call that was tried twice"].pk]):
        yield Attempt, f"attempt {attempt.number} of 2", attempt
    yield Attempt, "the only attempt", Attempt.objects.get(call_id=sorts["a settled call"].pk)
    yield (
        PriceVersion,
        "a price that was charged by",
        PriceVersion.objects.get(pk=sorts["a settled call"].price_id or 0),
    )


def _of_field(table: type[models.Model], name: str, row: models.Model, field: Any) -> Iterator[Corruption]:
    value = getattr(row, field.attname)
    for change, other in _others(field, value):
        if other is None and not field.null:
            continue
        stored = field.get_db_prep_save(other, connection)
        sql = f'UPDATE {table._meta.db_table} SET "{field.column}" = %s WHERE {_key_of(table)} = %s'
        yield Corruption(table, name, field.column, change, sql, (stored, _key(row)))


def _others(field: Any, value: Any) -> Iterator[tuple[str, Any]]:
    """Other values that a column could have, with words for them."""
    if isinstance(field, models.BigAutoField):
        yield "is of no row", 987_654
    elif isinstance(field, models.ForeignKey) and not isinstance(value, uuid.UUID):
        yield "is of another row", _neighbour(field, value)
        yield "is of no row", 987_654
    elif isinstance(value, uuid.UUID):
        yield "is of no row", uuid.UUID(int=value.int ^ 1)
    elif field.choices:
        yield from ((f"is {other}", other) for other, _ in field.flatchoices if other != value)
    elif isinstance(field, models.JSONField):
        yield from _other_json(value)
    elif isinstance(value, bool):
        yield "is the opposite", not value
    elif isinstance(value, int | float):
        yield from (("is one more", value + 1), ("is one less", value - 1))
    elif isinstance(value, dt.datetime):
        yield from (("is an hour later", value + HOUR), ("is empty", None))
    elif isinstance(value, str):
        yield "is another", value[:-1] + "x" if value else "x"
    else:
        assert value is None
        yield "is not empty", {"DateTimeField": dt.datetime.now(dt.UTC)}.get(field.get_internal_type(), 1)


def _neighbour(field: Any, value: Any) -> Any:
    return field.related_model.objects.exclude(pk=value).order_by("pk").values_list("pk", flat=True).last()


def _other_json(value: Any) -> Iterator[tuple[str, Any]]:
    """Every number in it one more, every list and object one shorter."""
    if value is None:
        yield "is not empty", {"usage": {"output": 1}}
        return
    for path in _paths(value):
        changed = copy.deepcopy(value)
        inner = changed
        for step in path[:-1]:
            inner = inner[step]
        found = inner[path[-1]]
        if isinstance(found, int) and not isinstance(found, bool):
            inner[path[-1]] += 1
            yield f"has one more at {path}", changed
        elif isinstance(found, str):
            inner[path[-1]] += "x"
            yield f"has another at {path}", changed
    if value:
        shorter = value[1:] if isinstance(value, list) else dict(list(value.items())[1:])
        yield "is one shorter", shorter


def _paths(value: Any) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        for step, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield (step,)
            yield from ((step, *rest) for rest in _paths(inner))


def _of_row(table: type[models.Model], name: str, row: models.Model) -> Iterator[Corruption]:
    named = table._meta.db_table
    delete = f"DELETE FROM {named} WHERE {_key_of(table)} = %s"
    yield Corruption(table, name, "the row", "is deleted", delete, (_key(row),))
    columns = [field.column for field in table._meta.concrete_fields if not field.primary_key]
    names = ", ".join(f'"{column}"' for column in columns)
    key = {"UUIDField": uuid.uuid4(), "BigAutoField": 987_654}[table._meta.pk.get_internal_type()]
    copied = f"INSERT INTO {named} (id, {names}) SELECT %s, {names} FROM {named} WHERE {_key_of(table)} = %s"
    stored = table._meta.pk.get_db_prep_save(key, connection)
    yield Corruption(table, name, "the row", "is there twice", copied, (stored, _key(row)))


def _key_of(table: type[models.Model]) -> str:
    return str(table._meta.pk.column)


def _key(row: models.Model) -> Any:
    return row._meta.pk.get_db_prep_save(row.pk, connection)


# ---- a book that lets itself be corrupted ---------------------------------------------------------------------------

TABLES = (Account, Transfer, Hold, Budget, BudgetChange, PriceVersion, CallLog, Attempt)


def loosen() -> None:
    """Takes away what the database would refuse by: triggers, checks, keys that are unique or refer."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "SELECT conrelid::regclass::text, conname FROM pg_constraint WHERE contype IN ('c', 'f', 'u') "
                "AND connamespace = 'public'::regnamespace AND coninhcount = 0 AND conparentid = 0 "
                "ORDER BY contype = 'u'"
            )
            for table, name in cursor.fetchall():
                cursor.execute(f'ALTER TABLE {table} DROP CONSTRAINT "{name}"')
            cursor.execute(
                "SELECT indexrelid::regclass::text FROM pg_index WHERE indisunique AND NOT indisprimary "
                "AND indrelid = ANY(%s::regclass[])",
                [[table._meta.db_table for table in TABLES]],
            )
            for (name,) in cursor.fetchall():
                cursor.execute(f"DROP INDEX {name}")
            for table in TABLES:
                cursor.execute(f"ALTER TABLE {table._meta.db_table} DISABLE TRIGGER USER")
            return
        cursor.execute("PRAGMA foreign_keys = OFF")
        for table in TABLES:
            _rebuild(cursor, table._meta.db_table)


def _rebuild(cursor: Any, table: str) -> None:
    """SQLite cannot take a constraint away from a table."""
    columns = [(row[1], row[2], row[5]) for row in cursor.execute(f"PRAGMA table_info({table})").fetchall()]
    shape = ", ".join(f'"{name}" {kind}{" PRIMARY KEY" if key else ""}' for name, kind, key in columns)
    cursor.execute(f"CREATE TABLE loose ({shape})")
    cursor.execute(f"INSERT INTO loose SELECT * FROM {table}")
    cursor.execute(f"DROP TABLE {table}")
    cursor.execute(f"ALTER TABLE loose RENAME TO {table}")
