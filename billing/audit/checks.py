"""What a check is, and which rows of the books it looks at.

A check walks the rows of one table, its subject, and finds those that break its promise. It can be asked about all of
them or about some (`Rows`), so the full audit, the incremental one and the rotation share one set of checks. A check
that is `deep` reads the whole history of each row that it is asked about. Reads only.
"""

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Any

import msgspec
from django.db import connection

from billing.audit import snapshot
from billing.models import OPEN_STATES

OPEN = ", ".join(f"'{state.value}'" for state in OPEN_STATES)
Key = int | uuid.UUID
# The row's key, what is wrong with it, the account that it concerns or None; and, if not as the check says, whether
# that account is to be frozen for it.
Found = tuple[Any, Any, Any] | tuple[Any, Any, Any, bool]


class Subject(StrEnum):
    """What a check is about. One of the whole books has no rows to be asked about: it is made in full audits only."""

    BOOKS = "books"
    ACCOUNT = "account"
    TRANSFER = "transfer"
    HOLD = "hold"
    BUDGET = "budget"
    CALL = "call"
    ATTEMPT = "attempt"
    PRICE = "price"
    CHANGE = "change"

    @property
    def by_uuid(self) -> bool:
        return self in (Subject.HOLD, Subject.CALL)


TABLES = {
    Subject.ACCOUNT: "billing_account",
    Subject.TRANSFER: "billing_transfer",
    Subject.HOLD: "billing_hold",
    Subject.BUDGET: "billing_budget",
    Subject.CALL: "relay_calllog",
    Subject.ATTEMPT: "relay_attempt",
    Subject.PRICE: "billing_priceversion",
    Subject.CHANGE: "billing_budgetchange",
}


class Rows(msgspec.Struct, frozen=True):
    """Rows of one table: those after `after` up to and with `to`, or exactly `keys`; `everything` in a full audit."""

    after: Key | None = None
    to: Key | None = None
    keys: tuple[Key, ...] | None = None
    everything: bool = False

    def condition(self, column: str) -> tuple[str, list[Any]]:
        """SQL that is true for these rows, and its parameters."""
        if self.keys is not None:
            return among(column, self.keys)
        parts, parameters = ["1 = 1"], []
        for sign, key in ((">", self.after), ("<=", self.to)):
            if key is not None:
                parts.append(f"{column} {sign} %s")
                parameters.append(adapt(key))
        return " AND ".join(parts), parameters


ALL = Rows(everything=True)
# The accounts that a transfer `t` takes from and gives to, as `d` and `c`.
SIDES = "LEFT JOIN billing_account d ON d.id = t.debit_id LEFT JOIN billing_account c ON c.id = t.credit_id"


class Finding(msgspec.Struct, frozen=True):
    """A broken promise: the check, the row, both figures, and the account concerned. `freezes` where it is to stop."""

    check: str
    subject: str
    detail: str
    account: int | None = None
    freezes: bool = False

    def __str__(self) -> str:
        return f"{self.check}: {self.subject}: {self.detail}"


class Check(msgspec.Struct, frozen=True):
    """`name` is the promise as a sentence; `find` yields the rows, among those asked about, that break it."""

    name: str
    subject: Subject
    find: Callable[[Rows], Iterable[Found]]
    deep: bool = False
    freezes: bool = True
    app: str = "billing"

    @property
    def of_ledger(self) -> bool:
        """Whether it is one of billing's own."""
        return self.app == "billing"

    def findings(self, rows: Rows) -> Iterator[Finding]:
        if self.subject is Subject.BOOKS and not rows.everything:
            return
        for key, detail, account, *grave in self.find(rows):
            subject = self.subject.value if self.subject is Subject.BOOKS else f"{self.subject} {_written(key)}"
            freezes = account is not None and (bool(grave[0]) if grave else self.freezes)
            yield Finding(self.name, subject, str(detail), account, freezes)


registered: list[Check] = []


def register(
    name: str, subject: Subject, *, deep: bool = False, freezes: bool = True, app: str = "billing"
) -> Callable[[Callable[[Rows], Iterable[Found]]], Callable[[Rows], Iterable[Found]]]:
    """Adds a check; an app above billing gives its name with its own, such as usage records against charges."""

    def add(find: Callable[[Rows], Iterable[Found]]) -> Callable[[Rows], Iterable[Found]]:
        registered.append(Check(name, subject, find, deep, freezes, app))
        return find

    return add


def register_sql(
    name: str,
    subject: Subject,
    sql: str,
    *parameters: Callable[[], Any],
    deep: bool = False,
    freezes: bool = True,
    app: str = "billing",
) -> None:
    """Adds a check that is a statement. It selects what `Found` says of the rows that break the promise.

    `{rows:COLUMN}`, once, becomes the condition for the rows asked about; the names of `dialect` are filled in.
    `parameters` are asked for at each run, and stand after the rows' own.
    """

    def find(rows: Rows) -> Iterator[Found]:
        values = [parameter() for parameter in parameters]
        return query(sql, rows, values)

    register(name, subject, deep=deep, freezes=freezes, app=app)(find)


def query(sql: str, rows: Rows, parameters: Sequence[Any] = ()) -> Iterator[Any]:
    """The statement's rows, few at a time."""
    before, _, rest = sql.partition("{rows:")
    column, _, after = rest.partition("}")
    condition, keys = rows.condition(column)
    text = f"{before}({condition}){after}"
    for name, words in dialect().items():
        text = text.replace(f"{{{name}}}", words)
    return snapshot.rows(text, [*keys, *parameters])


def dialect() -> dict[str, str]:
    """What the two databases say differently: ids in references, times in seconds, what is inside of JSON."""
    if connection.vendor == "postgresql":
        canonical = "'^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'"
        return {
            "reference of h": "h.id::text",
            "parts of h": "jsonb_array_elements(h.parts) AS part",
            "plan of part": "(part.value->>0)::bigint",
            "amount of part": "(part.value->>1)::bigint",
            "hold that t draws for": (
                f"CASE WHEN left(t.reference, 36) ~ {canonical} THEN left(t.reference, 36)::uuid END"
            ),
            "hold of t": f"CASE WHEN t.reference ~ {canonical} THEN t.reference::uuid END",
            "reversal of t": f"CASE WHEN substr(t.reference, 1, 36) ~ {canonical} "
            "THEN substr(t.reference, 1, 36)::uuid END",
            "seconds between charge and end": "extract(epoch FROM t.created_at - h.resolved_at)",
            "end of h's lease": "extract(epoch FROM h.lease_until)",
            "beginning of h": "extract(epoch FROM h.created_at)",
            "channel of p": "(h.facts->'channels'->>(p.number - 1))",
            "model of h": "(h.facts->>'model')",
            **{f"{name} of h": _number_in_facts(name) for name in ("team", "key")},
        }
    parts = ((1, 8), (9, 4), (13, 4), (17, 4), (21, 12))
    return {
        # SQLite stores a UUID as 32 hexadecimal digits; transfers name holds in the canonical form.
        "parts of h": "json_each(h.parts) AS part",
        "plan of part": "json_extract(part.value, '$[0]')",
        "amount of part": "json_extract(part.value, '$[1]')",
        "hold that t draws for": "replace(substr(t.reference, 1, 36), '-', '')",
        "reference of h": " || '-' || ".join(f"substr(h.id, {start}, {size})" for start, size in parts),
        "hold of t": "CASE WHEN length(t.reference) = 36 THEN replace(t.reference, '-', '') END",
        "reversal of t": "replace(substr(t.reference, 1, 36), '-', '')",
        "seconds between charge and end": "(julianday(t.created_at) - julianday(h.resolved_at)) * 86400",
        "end of h's lease": "(julianday(h.lease_until) - 2440587.5) * 86400",
        "beginning of h": "(julianday(h.created_at) - 2440587.5) * 86400",
        "channel of p": "CASE WHEN json_valid(h.facts) AND p.number > 0 THEN "
        "json_extract(h.facts, '$.channels[' || (p.number - 1) || ']') END",
        **{
            f"{name} of h": f"CASE WHEN json_valid(h.facts) THEN json_extract(h.facts, '$.{name}') END"
            for name in ("model", "team", "key")
        },
    }


def _number_in_facts(name: str) -> str:
    return f"CASE WHEN h.facts->>'{name}' ~ '^[0-9]{{1,18}}$' THEN (h.facts->>'{name}')::bigint END"


def adapt(key: Key) -> Any:
    """A key as the database holds it."""
    return key.hex if isinstance(key, uuid.UUID) and connection.vendor == "sqlite" else key


def among(column: str, keys: Iterable[Key]) -> tuple[str, list[Any]]:
    """SQL for `column` being one of many keys."""
    adapted = [adapt(key) for key in keys]
    if not adapted:
        return "1 = 0", []
    if connection.vendor == "sqlite":
        return f"{column} IN (SELECT value FROM json_each(%s))", [msgspec.json.encode(adapted).decode()]
    kind = "uuid" if isinstance(adapted[0], uuid.UUID) else "bigint"
    return f"{column} = ANY(%s::{kind}[])", [adapted]


def _written(key: Any) -> str:
    if isinstance(key, str) and len(key) == 32:
        return str(uuid.UUID(key))
    return str(key)


def count(subject: Subject, rows: Rows) -> int:
    """How many rows of a table these are."""
    if rows.keys is not None:
        return len(rows.keys)
    condition, parameters = rows.condition("id")
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM {TABLES[subject]} WHERE {condition}", parameters)
        return int(cursor.fetchone()[0])
